"""Differentially private principal components, released once before training.

Abadi et al. 2016 (arXiv 1607.00133), section 4.2, by the Gaussian mechanism on the matrix of second
moments (Dwork et al. 2014, "Analyze Gauss").
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfpriv import files, noise, runs
from tfpriv.central.config import CentralConfig
from tfpriv.datasets import Dataset
from tfpriv.errors import UserError

_CHUNK = 5_000


def private_components(
    features: np.ndarray, components: int, noise_multiplier: float
) -> np.ndarray:
    """Returns the main directions of examples, from one noised release of their second moments.

    Each example is flattened and scaled to an L2 norm of 1; one of zeros stays as it is. Adding,
    removing or zeroing one moves the upper triangle of the sum of x x^T by an L2 norm of at most 1.

    Args:
        features: The examples, [n, ...].
        components: How many directions, at most the number of values of an example.
        noise_multiplier: Standard deviation of the noise on each entry of the upper triangle with
            the diagonal; 0 for none.

    Returns:
        Orthonormal columns, that of the largest eigenvalue first, float32 [values, components].
    """
    moments = second_moments(features)
    if noise_multiplier:
        moments = _with_noise(moments, noise_multiplier)
    _, vectors = np.linalg.eigh(moments)
    return np.ascontiguousarray(vectors[:, ::-1][:, :components], np.float32)


def second_moments(features: np.ndarray) -> np.ndarray:
    """Returns the sum of x x^T over the examples, each of norm 1, float64 [values, values]."""
    values = int(np.prod(features.shape[1:]))
    moments = np.zeros([values, values])
    for start in range(0, len(features), _CHUNK):
        rows = features[start : start + _CHUNK].reshape(-1, values).astype(np.float64)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.where(norms > 0, norms, 1.0)
        moments += rows.T @ rows
    return moments


def _with_noise(moments, noise_multiplier):
    """Returns a symmetric matrix with independent noise on its upper triangle, on a grid."""
    upper = np.triu_indices(len(moments))
    source = noise.IndependentNoise(len(upper[0]), noise_multiplier)
    noised = np.zeros_like(moments)
    noised[upper] = noise.release(moments[upper], source.next(), source.width)
    return noised + np.triu(noised, 1).T


class Components:
    """The principal components of a run.

    A run computes them once and keeps them in its directory, from where it reads them when it is
    resumed: to compute them again would be a second release.
    """

    def __init__(
        self, projection: np.ndarray, input_shape: tuple[int, ...], *, is_kept: bool
    ) -> None:
        """Not for callers; see `of_run`."""
        self._projection = projection
        self._input_shape = input_shape
        self._is_kept = is_kept

    @classmethod
    def of_run(cls, config: CentralConfig, dataset: Dataset) -> "Components":
        """Returns those that the run to resume has kept, or new ones of the training examples.

        Raises:
            UserError: if the examples have no such components, or the kept ones cannot be read.
        """
        assert config.pca_components is not None, "the config is complete"
        _check(dataset, config.pca_components)
        shape = dataset.element_shape
        if config.resume and config.output_dir:
            run = runs.RunDirectory.open(config.output_dir)
            kept = _read(run, math.prod(shape))
            if kept is not None:
                return cls(kept, shape, is_kept=True)
        projection = private_components(
            dataset.train_features, config.pca_components, config.pca_noise_multiplier or 0.0
        )
        return cls(projection, shape, is_kept=False)

    def keep(self, run: runs.RunDirectory) -> None:
        """Writes them into the directory of the run, whole, unless they are from there.

        Raises:
            UserError: if another process has written others meanwhile.
        """
        if self._is_kept:
            return
        path = _path(run)
        if path.exists():
            raise UserError(f"{path} was written by another process meanwhile; resume once more.")
        with files.replacing(path) as temporary:
            np.save(temporary, self._projection)
        self._is_kept = True

    def project(self, dataset: Dataset) -> Dataset:
        """Returns a data set with examples in the directions of the components, [components]."""
        train, test = (
            part.reshape(len(part), -1) @ self._projection
            for part in (dataset.train_features, dataset.test_features)
        )
        return dataclasses.replace(dataset, train_features=train, test_features=test)

    def before(self, model: tf.keras.Model) -> tf.keras.Model:
        """Returns a model of examples as they are, which projects them and then applies `model`.

        Args:
            model: A model of projected examples; its weights are shared, not copied.
        """
        project = tf.keras.layers.Dense(
            self._projection.shape[1],
            use_bias=False,
            trainable=False,
            name="principal_components",
        )
        layers = [tf.keras.layers.InputLayer(self._input_shape)]
        if len(self._input_shape) > 1:
            layers.append(tf.keras.layers.Flatten())
        is_row = isinstance(model, tf.keras.Sequential)
        layers += [project, *(model.layers if is_row else [model])]
        whole = tf.keras.Sequential(layers, name=model.name)
        project.set_weights([self._projection])
        return whole


def _check(dataset, components):
    values = math.prod(dataset.element_shape)
    if dataset.train_features.dtype != np.float32:
        raise UserError(
            "--features=dp_pca needs numbers, and these examples are tokens; use --features=none."
        )
    if components > values:
        raise UserError(
            f"--pca_components={components} is more than the {values} values of an example; give "
            "at most as many."
        )


def _path(run):
    return run.checkpoints_path / "principal_components.npy"


def _read(run, values):
    """Returns what `keep` wrote for examples of so many values; None if no step can have run."""
    path = _path(run)
    try:
        projection = np.load(path, allow_pickle=False)
        is_whole = projection.dtype == np.float32 and projection.shape[:-1] == (values,)
        if is_whole and np.isfinite(projection).all():
            return projection
    except FileNotFoundError:
        if not (run.path / "steps.json").exists():
            return None
    except (OSError, ValueError, EOFError):
        pass
    raise UserError(
        f"{path} is missing, damaged or of other data, and to compute it again would release the "
        "data again; start the run anew in another --output_dir."
    )
