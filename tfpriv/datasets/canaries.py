"""Canaries among the examples, for an audit."""

import dataclasses

import numpy as np

from tfpriv.datasets.dataset import CLASSIFICATION, Dataset
from tfpriv.errors import UserError

KINDS = ("mislabelled", "out_of_distribution")

# Streams drawn from one seed for different purposes must not collide.
_CANARY_STREAM = 0xCA4A


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
