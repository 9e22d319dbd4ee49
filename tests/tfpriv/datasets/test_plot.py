import sys

import matplotlib.image
import numpy as np
import pytest

from tfpriv import datasets
from tfpriv.datasets import plot


@pytest.mark.parametrize(
    ("name", "scheme", "num_clients"),
    [
        ("digits", "iid", 1),
        ("digits", "shards", 100),
        ("digits", "dirichlet:0.1", 101),
        ("digits", "iid", 100_000),
        ("diabetes", "iid", 10),
        ("diabetes", "iid", 200),
        ("shakespeare", "natural", None),
    ],
)
def test_picture_is_drawn(tmp_path, name, scheme, num_clients):
    dataset = datasets.load(name)
    partition = datasets.partition(dataset, scheme, num_clients)
    path = tmp_path / "plots" / "partition.png"
    datasets.plot_partition(dataset, partition, path)
    height, width, _ = matplotlib.image.imread(path).shape
    assert min(height, width) > 400
    assert [file.name for file in path.parent.iterdir()] == ["partition.png"]


def test_no_global_drawing_state_is_made(tmp_path, tiny, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    datasets.plot_partition(tiny, datasets.partition(tiny, "iid", 2), tmp_path / "partition.png")
    assert "matplotlib.pyplot" not in sys.modules


def test_failed_picture_leaves_nothing(tmp_path, tiny):
    with pytest.raises(ValueError, match="not supported"):
        datasets.plot_partition(tiny, datasets.partition(tiny, "iid", 2), tmp_path / "p.unknown")
    assert list(tmp_path.iterdir()) == []


def test_clients_are_ordered_by_main_label_and_then_its_share():
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 1], np.int32)
    partition = datasets.Partition(
        indices=np.arange(8), offsets=np.array([0, 2, 2, 4, 8])
    )  # client 0: [1, 1]; 1: none; 2: [0, 0]; 3: [0, 0, 0, 1]
    assert plot._by_main_label(partition, labels, 2).tolist() == [2, 3, 0]
