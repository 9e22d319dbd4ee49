"""Which examples a run trains on, and a hash that tells a data set from any other."""

import dataclasses
import hashlib

import numpy as np

from tfpriv import draws
from tfpriv.datasets.dataset import Dataset
from tfpriv.draws import Origin

# Streams drawn from one seed for different purposes must not collide.
_SUBSET_STREAM = 0x5B5E


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
        fraction: The fraction to take, in (0, 1]; at least one row is taken.
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
