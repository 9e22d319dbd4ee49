import numpy as np
import pytest

from tfpriv import datasets
from tfpriv.datasets import images
from tfpriv.errors import UserError


def _check_images(dataset):
    datasets.check(dataset)
    assert dataset.element_shape == (28, 28, 1)
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (60000, 10000)
    assert dataset.train_features.dtype == np.float32
    assert (dataset.train_features.min(), dataset.train_features.max()) == (0.0, 1.0)
    assert (dataset.task, dataset.num_classes) == ("classification", 10)
    assert len(dataset.provenance) == 4
    assert all(len(entry["sha256"]) == 64 for entry in dataset.provenance.values())


def test_mnist_is_mnist(mnist):
    _check_images(mnist)
    assert mnist.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(mnist.train_labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert mnist.train_features.mean() == pytest.approx(0.1307, abs=1e-4)


def test_fashion_mnist_is_fashion_mnist():
    fashion = datasets.load("fashion_mnist")
    _check_images(fashion)
    assert fashion.train_labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert np.bincount(fashion.train_labels).tolist() == [6000] * 10
    assert fashion.train_features.mean() == pytest.approx(0.2860, abs=1e-4)


def test_writers_of_other_labels_are_refused(mnist, writers_file):
    with pytest.raises(UserError, match="these labels are others"):
        images.mnist_writers(mnist.train_labels[::-1])


def test_idx_of_bytes_and_of_ints_is_read():
    content = bytes([0, 0, 8, 2]) + b"\0\0\0\2\0\0\0\3" + bytes(range(6))
    assert images.parse_idx(content).tolist() == [[0, 1, 2], [3, 4, 5]]
    content = bytes([0, 0, 12, 1]) + b"\0\0\0\1" + b"\0\0\1\2"
    assert images.parse_idx(content).tolist() == [258]
