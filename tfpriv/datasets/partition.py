"""Splits the training examples over clients."""

import dataclasses
import math
import os

import numpy as np

from tfpriv.datasets import images
from tfpriv.datasets.dataset import REGRESSION, Dataset
from tfpriv.errors import UserError

SCHEMES = ("iid", "shards", "dirichlet:ALPHA", "writers", "natural")
"""What partition() takes; ALPHA stands for a positive number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partition:
    """Which training examples each client has; every example belongs to one client.

    Two arrays whatever the number of clients, so a large population costs its examples and an
    index.

    Attributes:
        indices: [examples] int64, the training examples grouped by client; a client's own are in
            ascending order.
        offsets: [num_clients + 1] int64; client i has indices[offsets[i] : offsets[i + 1]]. A
            client may have no examples.
    """

    indices: np.ndarray
    offsets: np.ndarray

    @property
    def num_clients(self) -> int:
        """The number of clients, those without examples included."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """[num_clients] int64, the number of examples of each client."""
        return np.diff(self.offsets)

    def client(self, index: int) -> np.ndarray:
        """Returns client `index`'s examples as a view of `indices`."""
        return self.indices[self.offsets[index] : self.offsets[index + 1]]


def partition(
    dataset: Dataset,
    scheme: str,
    num_clients: int | None = None,
    seed: int = 0,
    data_dir: str | os.PathLike | None = None,
) -> Partition:
    """Splits a data set's training examples over clients.

    Schemes:
        iid: shuffled and dealt out; sizes differ by at most one.
        shards: sorted by label and cut into 2 * num_clients shards of equal size (to one), two
            drawn for each client (McMahan et al. 2017, section 3: 100 clients on MNIST have 600
            examples and mostly two digits each).
        dirichlet:ALPHA: of each class, client j gets a fraction p_j, p ~ Dirichlet(ALPHA, ...,
            ALPHA) over the clients (Yurochkin et al. 2019, section 4). A small ALPHA makes
            clients that differ in labels and in size, a large one is near iid.
        writers: MNIST's 539 writers (see images.mnist_writers).
        natural: the data set's own clients, such as Shakespeare's roles.

    Args:
        dataset: The data set.
        scheme: One of the above.
        num_clients: The number of clients, at least 1, for iid, shards and dirichlet. More than
            there are examples leaves some clients without any. The other schemes know their
            number: None, 0 or that number.
        seed: Seeds the random choices; writers and natural have none.
        data_dir: Where the writers' file is cached; see download.cache_folder.

    Raises:
        UserError: if there is no such scheme, it does not fit the data set, or the number of
            clients does not fit the scheme.
    """
    name, _, argument = scheme.partition(":")
    if name == "writers" and not argument:
        owners = _writers(dataset, data_dir)
        return _group(owners, _known_number(scheme, num_clients, owners))
    if name == "natural" and not argument:
        owners = _natural(dataset)
        return _group(owners, _known_number(scheme, num_clients, owners))
    if name not in ("iid", "shards", "dirichlet") or (argument and name != "dirichlet"):
        raise UserError(
            f"--partition={scheme} is not known; choose one of {', '.join(SCHEMES)}, for example "
            "dirichlet:0.3."
        )
    alpha = _alpha(scheme, argument) if name == "dirichlet" else None
    if name != "iid":
        _need_class_labels(dataset, scheme)
    if num_clients is None or num_clients < 1:
        raise UserError(
            f"--num_clients is {num_clients}, and --partition={scheme} needs at least 1; set it, "
            "for example --num_clients=100."
        )
    generator = np.random.default_rng(seed)
    if name == "iid":
        owners = generator.permutation(np.arange(len(dataset.train_labels)) % num_clients)
    elif name == "shards":
        owners = _shards(dataset.train_labels, num_clients, generator)
    else:
        owners = _dirichlet(dataset.train_labels, num_clients, alpha, generator)
    return _group(owners, num_clients)


def _group(owners, num_clients):
    sizes = np.bincount(owners, minlength=num_clients)
    return Partition(
        indices=np.argsort(owners, kind="stable"),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
    )


def _shards(labels, num_clients, generator):
    num_shards = 2 * num_clients
    shard_owners = generator.permutation(num_shards) // 2
    shard_of_rank = np.arange(len(labels)) * num_shards // len(labels)
    owners = np.empty(len(labels), np.int64)
    owners[np.argsort(labels, kind="stable")] = shard_owners[shard_of_rank]
    return owners


def _dirichlet(labels, num_clients, alpha, generator):
    shuffled = generator.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    owners = np.empty(len(labels), np.int64)
    ends = np.cumsum(np.bincount(labels))
    for members in np.split(by_class, ends[:-1]):
        bounds = np.cumsum(generator.dirichlet(np.full(num_clients, alpha)))
        # One random start for evenly spaced points gives each client its fraction, rounded up or
        # down, without favor to the first clients when fractions are smaller than one example.
        points = (np.arange(len(members)) + generator.random()) / max(len(members), 1)
        owners[members] = np.minimum(np.searchsorted(bounds, points, "right"), num_clients - 1)
    return owners


def _alpha(scheme, argument):
    try:
        alpha = float(argument)
    except ValueError:
        alpha = math.nan
    if not 0.001 <= alpha <= 1e6:
        raise UserError(
            f"--partition={scheme}: alpha must be a number from 0.001 to 1000000; write it after "
            "the colon, for example dirichlet:0.3."
        )
    return alpha


def _need_class_labels(dataset, scheme):
    if dataset.task == REGRESSION:
        raise UserError(
            f"--partition={scheme} splits by class, and {dataset.name} is a regression; choose "
            "--partition=iid."
        )
    if dataset.train_labels.ndim != 1:
        raise UserError(
            f"--partition={scheme} splits by class, and an example of {dataset.name} has a label "
            "at every position; choose --partition=natural or --partition=iid."
        )


def _writers(dataset, data_dir):
    if dataset.name != "mnist":
        raise UserError(
            f"--partition=writers knows the writers of mnist only, not of {dataset.name}; choose "
            "another --partition."
        )
    return images.mnist_writers(dataset.train_labels, data_dir)


def _natural(dataset):
    if dataset.train_clients is None:
        partition_name = "writers" if dataset.name == "mnist" else "iid"
        raise UserError(
            f"--partition=natural: {dataset.name} does not say whose its examples are; choose "
            f"another, for example --partition={partition_name}."
        )
    return dataset.train_clients


def _known_number(scheme, num_clients, owners):
    known = int(owners.max()) + 1
    if num_clients not in (None, 0, known):
        raise UserError(
            f"--num_clients is {num_clients}, and --partition={scheme} has {known} clients; leave "
            "--num_clients out."
        )
    return known
