"""Draws a partition: which clients have how many examples of which label."""

import os

import numpy as np

from tfpriv import files
from tfpriv.datasets.dataset import CLASSIFICATION, Dataset
from tfpriv.datasets.partition import Partition

_MOST_BARS = 100
_MOST_COLORS = 20
_MOST_COLUMNS = 600


def plot_partition(dataset: Dataset, partition: Partition, path: str | os.PathLike) -> None:
    """Writes a picture of a partition, whole or not at all.

    Up to 100 clients are stacked bars, a color a label. More are a map of label fractions, clients
    ordered by their most frequent label and neighbors averaged, over a histogram of sizes. Where
    examples have no single class (regression, text), only sizes are drawn.

    Args:
        dataset: The data set that was split.
        partition: Its partition.
        path: The file; its suffix says the format, for example .png.
    """
    from matplotlib.figure import Figure

    labels = None
    if dataset.task == CLASSIFICATION and dataset.train_labels.ndim == 1:
        labels = dataset.train_labels[partition.indices]
    few = partition.num_clients <= _MOST_BARS
    figure = Figure(figsize=(9, 4 if few or labels is None else 6.5), layout="constrained", dpi=120)
    figure.suptitle(_title(dataset, partition))
    if few:
        _bars(figure.subplots(), dataset, partition, labels)
    elif labels is None:
        _histogram(figure.subplots(), partition.sizes)
    else:
        upper, lower = figure.subplots(2, 1, height_ratios=(2, 1))
        _map(upper, dataset, partition, labels)
        _histogram(lower, partition.sizes)
    with files.replacing(path) as temporary:
        figure.savefig(temporary)


def _title(dataset, partition):
    sizes = partition.sizes
    title = f"{dataset.name}: {len(partition.indices):,} examples, {len(sizes):,} clients"
    empty = int(np.count_nonzero(sizes == 0))
    return f"{title}, {empty:,} of them without examples" if empty else title


def _bars(axes, dataset, partition, labels):
    clients = np.arange(partition.num_clients)
    axes.set_xlabel("client")
    axes.set_ylabel("examples")
    axes.set_xlim(-0.6, partition.num_clients - 0.4)
    axes.locator_params(axis="x", integer=True)
    if labels is None or dataset.num_classes > _MOST_COLORS:
        axes.bar(clients, partition.sizes, width=0.9)
        return
    counts = _counts(_owners(partition), labels, partition.num_clients, dataset.num_classes)
    colors = _colors(dataset.num_classes)
    bottom = np.zeros(partition.num_clients)
    for label, color in enumerate(colors):
        axes.bar(clients, counts[:, label], 0.9, bottom, color=color, label=str(label))
        bottom += counts[:, label]
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1],
        names[::-1],
        title="label",
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize="small",
    )


def _map(axes, dataset, partition, labels):
    order = _by_main_label(partition, labels, dataset.num_classes)
    columns = min(len(order), _MOST_COLUMNS)
    column_of_client = np.empty(partition.num_clients, np.int64)
    column_of_client[order] = np.arange(len(order)) * columns // len(order)
    owners = _owners(partition)
    # A client counts once however many examples it has: this is a map of clients.
    weights = 1.0 / partition.sizes[owners]
    fractions = _counts(column_of_client[owners], labels, columns, dataset.num_classes, weights)
    fractions /= fractions.sum(axis=1, keepdims=True)
    image = axes.imshow(
        fractions.T,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        cmap="magma_r",
        vmin=0,
        vmax=fractions.max(),
        extent=(0, len(order), -0.5, dataset.num_classes - 0.5),
    )
    axes.locator_params(axis="y", integer=True, nbins=_MOST_COLORS)
    axes.set_ylabel("label")
    clients_a_column = (
        "" if columns == len(order) else f" (about {len(order) / columns:.0f} a column)"
    )
    axes.set_xlabel(f"clients with examples, by their most frequent label{clients_a_column}")
    axes.figure.colorbar(image, ax=axes, label="fraction of a client's examples", pad=0.01)


def _histogram(axes, sizes):
    largest = int(sizes.max())
    step = max(1, -(-largest // 60))
    axes.hist(sizes, bins=np.arange(0, largest + 2 * step, step) - 0.5)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("examples of a client")
    axes.set_ylabel("clients")
    axes.set_title(
        f"smallest {sizes.min():,}, median {np.median(sizes):,.0f}, largest {largest:,}",
        fontsize="medium",
    )


def _owners(partition):
    return np.repeat(np.arange(partition.num_clients), partition.sizes)


def _counts(rows, labels, num_rows, num_classes, weights=None):
    flat = np.bincount(rows * num_classes + labels, weights, minlength=num_rows * num_classes)
    return flat.reshape(num_rows, num_classes)


def _by_main_label(partition, labels, num_classes):
    """Returns the clients that have examples, by most frequent label and then its fraction.

    It looks only at the pairs (client, label) that occur: a table of all pairs would cost clients
    times classes.
    """
    pairs, counts = np.unique(_owners(partition) * num_classes + labels, return_counts=True)
    clients, pair_labels = np.divmod(pairs, num_classes)
    fractions = counts / partition.sizes[clients]
    by_fraction = np.lexsort((-fractions, clients))
    _, first = np.unique(clients[by_fraction], return_index=True)
    main = by_fraction[first]
    return clients[main][np.lexsort((-fractions[main], pair_labels[main]))]


def _colors(count):
    import matplotlib

    colors = matplotlib.colormaps["tab10" if count <= 10 else "tab20"]
    return [colors(i) for i in range(min(count, colors.N))]
