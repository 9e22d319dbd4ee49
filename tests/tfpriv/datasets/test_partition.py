import dataclasses
import time
import tracemalloc

import numpy as np
import pytest

from tfpriv import datasets
from tfpriv.errors import UserError


def _labels_of_clients(dataset, partition):
    return [
        np.bincount(dataset.train_labels[partition.client(i)], minlength=dataset.num_classes)
        for i in range(partition.num_clients)
    ]


def _skew(dataset, partition):
    """The mean share of a client's most frequent label."""
    counts = [row for row in _labels_of_clients(dataset, partition) if row.sum()]
    return np.mean([row.max() / row.sum() for row in counts])


@pytest.mark.parametrize("scheme", ["iid", "shards", "dirichlet:0.3"])
@pytest.mark.parametrize("num_clients", [1, 7, 100, 5000])
def test_every_example_belongs_to_one_client(digits, scheme, num_clients):
    partition = datasets.partition(digits, scheme, num_clients)
    assert partition.num_clients == num_clients
    assert partition.sizes.sum() == len(digits.train_labels)
    np.testing.assert_array_equal(np.sort(partition.indices), np.arange(len(digits.train_labels)))
    assert (partition.sizes >= 0).all()
    gathered = np.concatenate([partition.client(i) for i in range(num_clients)])
    np.testing.assert_array_equal(gathered, partition.indices)


@pytest.mark.parametrize("scheme", ["iid", "shards", "dirichlet:0.3"])
def test_seed_decides_the_partition(digits, scheme):
    first, same, other = (datasets.partition(digits, scheme, 10, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.indices, same.indices)
    assert not np.array_equal(first.indices, other.indices)


def test_a_client_is_a_view_of_the_index(digits):
    partition = datasets.partition(digits, "iid", 10)
    assert np.shares_memory(partition.client(3), partition.indices)


def test_iid_sizes_differ_by_at_most_one_and_labels_are_mixed(mnist):
    partition = datasets.partition(mnist, "iid", 77)
    assert partition.sizes.max() - partition.sizes.min() == 1
    assert _skew(mnist, partition) < 0.2


def test_shards_are_those_of_mcmahan(mnist):
    partition = datasets.partition(mnist, "shards", 100)
    assert partition.sizes.tolist() == [600] * 100
    rank = np.empty(60000, np.int64)
    rank[np.argsort(mnist.train_labels, kind="stable")] = np.arange(60000)
    for client in range(100):
        shards, sizes = np.unique(rank[partition.client(client)] // 300, return_counts=True)
        assert sizes.tolist() == [300, 300]
        assert len(shards) == 2
    distinct = [np.count_nonzero(row) for row in _labels_of_clients(mnist, partition)]
    # A shard may lie across a border of two labels; there are nine borders.
    assert max(distinct) <= 4
    assert np.mean(np.array(distinct) <= 2) > 0.9


def test_small_alpha_skews_labels_and_large_alpha_does_not(mnist):
    skews = [
        _skew(mnist, datasets.partition(mnist, f"dirichlet:{alpha}", 100))
        for alpha in (0.01, 0.3, 1000)
    ]
    assert skews[0] > 0.85
    assert 0.3 < skews[1] < 0.7
    assert skews[2] < 0.15


def test_dirichlet_shares_have_the_moments_of_the_distribution(mnist):
    # The share of a class that a client has is Beta(alpha, (k - 1) alpha): mean 1 / k, variance
    # (k - 1) / (k^2 (k alpha + 1)).
    k, alpha = 50, 0.5
    partitions = [datasets.partition(mnist, f"dirichlet:{alpha}", k, seed=s) for s in range(10)]
    counts = np.array([_labels_of_clients(mnist, partition) for partition in partitions])
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert shares.var() == pytest.approx((k - 1) / (k**2 * (k * alpha + 1)), rel=0.1)


def test_dirichlet_favors_no_client_when_clients_outnumber_examples(mnist):
    partition = datasets.partition(mnist, "dirichlet:100", 100_000)
    halves = partition.sizes.reshape(2, -1).sum(axis=1)
    assert abs(halves[0] - halves[1]) < 1500
    assert partition.sizes[0] < 5  # Without random starts it would get one of each class.


@pytest.mark.parametrize("alpha", ["0.001", "1000000"])
def test_extreme_alphas_still_cover_every_example(digits, alpha):
    partition = datasets.partition(digits, f"dirichlet:{alpha}", 20)
    np.testing.assert_array_equal(np.sort(partition.indices), np.arange(len(digits.train_labels)))


def test_class_without_examples_is_no_obstacle_to_dirichlet(tiny):
    sparse = dataclasses.replace(tiny, num_classes=9, train_labels=tiny.train_labels * 7)
    assert datasets.partition(sparse, "dirichlet:1", 3).sizes.sum() == 10


def test_writers_are_the_539_of_mnist(mnist, writers_file):
    partition = datasets.partition(mnist, "writers")
    assert partition.num_clients == 539
    assert (partition.sizes.min(), partition.sizes.max()) == (19, 131)
    assert np.median(partition.sizes) == 116
    np.testing.assert_array_equal(np.sort(partition.indices), np.arange(60000))
    for given in (0, 539):
        same = datasets.partition(mnist, "writers", given)
        np.testing.assert_array_equal(same.indices, partition.indices)


@pytest.mark.parametrize("scheme", ["iid", "shards", "dirichlet:0.3"])
def test_100000_clients_cost_an_index_and_no_time(mnist, scheme):
    tracemalloc.start()
    start = time.perf_counter()
    partition = datasets.partition(mnist, scheme, 100_000)
    seconds = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert partition.num_clients == 100_000
    assert seconds < 2
    assert peak < 20e6
    assert partition.indices.nbytes + partition.offsets.nbytes < 2e6


def test_natural_keeps_clients_and_their_order(tiny):
    clients = np.array([2, 0, 2, 0, 2, 0, 2, 0, 2, 0], np.int32)
    partition = datasets.partition(dataclasses.replace(tiny, train_clients=clients), "natural")
    assert [partition.client(i).tolist() for i in range(3)] == [
        [1, 3, 5, 7, 9],
        [],
        [0, 2, 4, 6, 8],
    ]


@pytest.mark.parametrize(
    ("scheme", "num_clients", "message"),
    [
        ("random", 10, r"not known; choose one of iid.*dirichlet:0\.3"),
        ("iid:2", 10, "not known"),
        ("natural:x", None, "not known"),
        ("dirichlet", 10, "alpha must be a number"),
        ("dirichlet:", 10, "alpha must be a number"),
        ("dirichlet:x", 10, "alpha must be a number"),
        ("dirichlet:0", 10, "alpha must be a number"),
        ("dirichlet:-1", 10, "alpha must be a number"),
        ("dirichlet:nan", 10, "alpha must be a number"),
        ("dirichlet:inf", 10, "alpha must be a number"),
        ("iid", None, "num_clients is None.*set it"),
        ("iid", 0, "num_clients is 0"),
        ("shards", -3, "num_clients is -3"),
        ("natural", None, "does not say whose"),
        ("writers", None, "writers of mnist only, not of tiny"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, scheme, num_clients, message):
    with pytest.raises(UserError, match=message):
        datasets.partition(tiny, scheme, num_clients)


def test_number_other_than_the_natural_one_is_refused(tiny):
    clients = dataclasses.replace(tiny, train_clients=np.arange(10, dtype=np.int32))
    with pytest.raises(UserError, match="num_clients is 3, and --partition=natural has 10"):
        datasets.partition(clients, "natural", 3)


@pytest.mark.parametrize("scheme", ["shards", "dirichlet:1"])
def test_regression_has_no_label_skew(scheme):
    diabetes = datasets.load("diabetes")
    with pytest.raises(UserError, match="diabetes is a regression; choose --partition=iid"):
        datasets.partition(diabetes, scheme, 10)
    assert datasets.partition(diabetes, "iid", 10).sizes.tolist() == [36] * 3 + [35] * 7


def test_text_has_no_label_skew(tiny):
    text = dataclasses.replace(
        tiny, train_labels=np.zeros((10, 3), np.int32), test_labels=np.zeros((4, 3), np.int32)
    )
    with pytest.raises(UserError, match="a label at every position"):
        datasets.partition(text, "shards", 2)
