"""Which examples a run trains on, and canaries among them for an audit."""

import dataclasses
import hashlib

import numpy as np

from tfpriv import draws
from tfpriv.datasets.dataset import CLASSIFICATION, Dataset
from tfpriv.draws import Origin
from tfpriv.errors import UserError

KINDS = ("mislabelled", "out_of_distribution")

# Streams drawn from one seed for different purposes must not collide.
_SUBSET_STREAM = 0x5B5E
_CANARY_STREAM = 0xCA4A


def fingerprint(dataset: Dataset) -> str:
    """Returns the SHA-256 of the training and test examples and their labels, in hexadecimal."""
    hasher = hashlib.sha256()
    for part in ("train_features", "train_labels", "test_features", "test_labels"):
        array = np.ascontiguousarray(getattr(dataset, part))
        hasher.update(f"{part} {array.shape} {array.dtype}".encode())
        hasher.update(array.data)
    return hasher.hexdigest()


def subset_rows(size: int, fraction: float, seed: Origin) -> np.ndarray:
    """Returns a random subset of the rows of a training set, ascending, int64.

    Args:
        size: The number of training examples n.
        fraction: The share to take, in (0, 1]; at least one row is taken.
        seed: Decides which: a secret key, or a number.
    """
    count = max(1, round(fraction * size))
    if count == size:
        return np.arange(size)
    return np.sort(draws.permutation(seed, (_SUBSET_STREAM,), size)[:count])


def take_rows(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Returns the data set with these training examples only."""
    if len(rows) == len(dataset.train_features):
        return dataset
    clients = dataset.train_clients
    return dataclasses.replace(
        dataset,
        train_features=dataset.train_features[rows],
        train_labels=dataset.train_labels[rows],
        train_clients=None if clients is None else clients[rows],
    )


def plant(dataset: Dataset, count: int, kind: str, seed: int) -> tuple[Dataset, np.ndarray]:
    """Turns some training examples into canaries: examples that only a memory of them gets right.

    Args:
        dataset: A classification data set with one label an example.
        count: The number m of canaries, at most half of the training examples.
        kind: "mislabelled" (another label, at random) or "out_of_distribution" (standard normal
            noise, or random ids, under a random label; its gradient is close to orthogonal to those
            of other examples, so that it is found more easily).
        seed: Decides which examples, and into what they turn; public.

    Returns:
        The data set with the canaries in place, and their rows, ascending, [count] int64.

    Raises:
        UserError: if the data cannot have canaries, or not so many.
    """
    if dataset.task != CLASSIFICATION or dataset.train_labels.ndim != 1:
        raise UserError(
            f"--audit_canaries={count} needs a data set with one class an example, which "
            f"{dataset.name} is not; leave it out."
        )
    size = len(dataset.train_features)
    if count > size // 2:
        raise UserError(
            f"--audit_canaries={count} is more than half of the {size} training examples; plant "
            "fewer."
        )
    generator = np.random.default_rng((seed, _CANARY_STREAM))
    rows = np.sort(generator.choice(size, count, replace=False))
    features, labels = dataset.train_features.copy(), dataset.train_labels.copy()
    moved = generator.integers(1, dataset.num_classes, count, dtype=np.int32)
    labels[rows] = (labels[rows] + moved) % dataset.num_classes
    if kind == "out_of_distribution":
        shape = (count, *dataset.element_shape)
        if features.dtype == np.int32:
            features[rows] = generator.integers(features.max() + 1, size=shape, dtype=np.int32)
        else:
            features[rows] = generator.standard_normal(shape, np.float32)
    return dataclasses.replace(dataset, train_features=features, train_labels=labels), rows
