"""Features that are computed from a data set's examples, each from one example alone."""

import dataclasses
import hashlib
import io
import os
import pathlib
import sys
from collections.abc import Callable, Mapping

import numpy as np

from tfpriv import files
from tfpriv.datasets import download
from tfpriv.datasets.dataset import Dataset
from tfpriv.datasets.scattering import CHANNELS, SMALLEST_SIDE, scattering
from tfpriv.errors import UserError

NAMES = ("none", "scattering")

# Raised whenever the features of the same images would come out otherwise.
_VERSION = 1
_GROUPS = 27
_EPSILON = 1e-5
_MANY = 5_000
_DIGEST_BYTES = 32


def with_features(
    dataset: Dataset, name: str, data_dir: str | os.PathLike | None = None
) -> Dataset:
    """Returns a data set with features computed from its examples.

    Each example's features come from that example alone, so they cost no privacy.

    Args:
        dataset: The data set.
        name: "none" for the data set as it is, or "scattering": the scattering transform of images,
            normalized in 27 groups of maps for each channel without parameters, float32 of shape
            [height / 4 * width / 4 * 81 * channels] (Tramer and Boneh 2021, arXiv 2011.11660,
            section 2). They are kept on disk under the hash of the images.
        data_dir: The folder of the cache, as for `load`.

    Raises:
        UserError: if there are no such features, or the examples are not images of a fit size.
    """
    if name not in NAMES:
        raise UserError(f"--features={name} is not known; choose one of {', '.join(NAMES)}.")
    if name == "none":
        return dataset
    shape = dataset.element_shape
    if (
        len(shape) != 3
        or dataset.train_features.dtype != np.float32
        or any(side % 4 or side < SMALLEST_SIDE for side in shape[:2])
    ):
        raise UserError(
            f"--features={name} needs images [height, width, channels] whose sides are multiples "
            f"of 4 and at least {SMALLEST_SIDE}, and these examples have shape {list(shape)}; use "
            "--features=none."
        )
    folder = download.cache_folder(data_dir) / "features"
    train, test = (
        _cached(part, folder) for part in (dataset.train_features, dataset.test_features)
    )
    return dataclasses.replace(dataset, train_features=train, test_features=test)


def read_by_model(flags: Mapping) -> str:
    """Returns what to compute of raw examples for the model of a run with these flags.

    A model of dp_pca projects its examples itself.
    """
    name = flags.get("features", "none")
    return "none" if name == "dp_pca" else name


def normalized_scattering(
    images: np.ndarray, progress: Callable[[int], object] | None = None
) -> np.ndarray:
    """Returns the features called scattering, float32 [n, ...] flattened; see `with_features`."""
    maps = scattering(images, progress)
    n, channels = len(maps), maps.shape[1] // CHANNELS
    groups = maps.reshape(n, channels * _GROUPS, -1)
    for start in range(0, n, 1000):  # In place, as the whole is a gigabyte.
        part = groups[start : start + 1000]
        part -= part.mean(axis=2, keepdims=True)
        part /= np.sqrt(np.mean(part * part, axis=2, keepdims=True) + _EPSILON)
    return maps.reshape(n, -1)


def _cached(images, folder):
    images = np.ascontiguousarray(images)
    described = f"scattering {_VERSION} {images.shape} {images.dtype}".encode()
    key = hashlib.sha256(described + images.data).hexdigest()
    path = folder / f"scattering-{key}.features"
    cached = _read(path)
    if cached is not None:
        return cached
    features = normalized_scattering(images, _announcing(len(images)))
    try:
        _write(path, features)
    except OSError as error:
        print(f"note: features are not kept: {path} cannot be written ({error}).", file=sys.stderr)
    return features


def _read(path: pathlib.Path) -> np.ndarray | None:
    """Returns what `_write` wrote; None if it is not there or not as it was written."""
    try:
        with open(path, "rb") as file:
            digest = file.read(_DIGEST_BYTES)
            content = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError):
        content, digest = np.zeros(0), b""
    if _digest(content) == digest:
        return content
    print(f"note: {path} is damaged; its features are computed anew.", file=sys.stderr)
    return None


def _write(path: pathlib.Path, features: np.ndarray) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(features))
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(_digest(features))
        file.write(header.getvalue())
        file.write(features.data)


def _digest(features):
    described = f"{features.shape} {features.dtype}".encode()
    hasher = hashlib.sha256(described)
    hasher.update(np.ascontiguousarray(features).data)
    return hasher.digest()


def _announcing(total):
    """Returns what says how far a long computation is."""
    if total < _MANY:
        return None
    tenth = -(-total // 10)
    said = 0

    def progress(done):
        nonlocal said
        if done // tenth > said or done == total:
            said = done // tenth
            print(f"scattering: {done} of {total} images", file=sys.stderr)

    return progress
