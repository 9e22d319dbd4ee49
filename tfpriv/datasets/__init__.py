"""Real data sets, verified byte for byte, and their partitions over clients."""

import os
from collections.abc import Callable

from tfpriv import user_code
from tfpriv.datasets import (
    adult,
    bundled,
    canaries,
    images,
    location,
    own,
    rows,
    secrets,
    shakespeare,
)
from tfpriv.datasets.dataset import CLASSIFICATION, REGRESSION, Dataset, check, prepared
from tfpriv.datasets.features import with_features
from tfpriv.datasets.own import name_of
from tfpriv.datasets.partition import Partition, partition
from tfpriv.datasets.plot import plot_partition
from tfpriv.datasets.scaling import STANDARDIZED
from tfpriv.datasets.scaling import check as check_scaling
from tfpriv.errors import UserError

__all__ = [
    "CLASSIFICATION",
    "NAMES",
    "REGRESSION",
    "Dataset",
    "Partition",
    "canaries",
    "check",
    "load",
    "name_of",
    "partition",
    "plot_partition",
    "prepared",
    "rows",
    "secrets",
    "with_features",
]

_LOADERS: dict[str, Callable[..., Dataset]] = {
    "mnist": images.load_mnist,
    "fashion_mnist": images.load_fashion_mnist,
    "digits": bundled.load_digits,
    "breast_cancer": bundled.load_breast_cancer,
    "diabetes": bundled.load_diabetes,
    "adult": adult.load_adult,
    "location30": location.load_location30,
    "shakespeare": shakespeare.load_shakespeare,
}

# Those whose columns need scaling.
_TABLES = ("breast_cancer", "diabetes", "adult")

NAMES = tuple(_LOADERS)
"""The data sets that load() knows by name."""


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    scaling: str = STANDARDIZED,
) -> Dataset:
    """Loads a data set by name, or a user's own.

    Args:
        name: One of NAMES; or `module:function` or `path/to/file.py:function`, a function without
            arguments that returns a Dataset, or a pair (train, test) of objects with the
            interface of tff.simulation.datasets.ClientData.
        data_dir: The folder of the downloaded files. By default TFPRIV_DATA_DIR of the
            environment, else `tfpriv` in the user's cache.
        scaling: How the columns of a table (breast_cancer, diabetes, adult) are scaled: "public",
            by constants that stand in the code, or "standardized", by the means and standard
            deviations of the training examples, which no epsilon covers. Other data sets are the
            same under both: images are divided by their largest possible value, and a user's own
            data stay as they are.

    Raises:
        UserError: if there is no such data set or scaling, its files cannot be had, or it cannot
            be trained on.
    """
    check_scaling(scaling)
    if name in _TABLES:
        return _LOADERS[name](data_dir, scaling)
    if name in _LOADERS:
        return _LOADERS[name](data_dir)
    if not user_code.is_user_code(name):
        raise UserError(
            f"--dataset={name} is not known; choose one of {', '.join(NAMES)}, or your own as "
            "module:function or path/to/file.py:function."
        )
    dataset = prepared(own.load(name))
    check(dataset)
    return dataset
