import dataclasses

import numpy as np
import pytest

from tfpriv.datasets.rows import fingerprint, subset_rows, take_rows


@pytest.mark.parametrize(
    ("size", "fraction", "expected"),
    [(100, 0.5, 50), (100, 1.0, 100), (3, 0.5, 2), (7, 0.01, 1), (1000, 0.3, 300), (1, 1.0, 1)],
)
def test_subset_is_so_many_different_rows_ascending(size, fraction, expected):
    rows = subset_rows(size, fraction, 4)
    assert rows.dtype == np.int64 and len(rows) == expected
    assert np.all(np.diff(rows) > 0)
    assert rows.min() >= 0 and rows.max() < size


def test_subset_is_the_seeds():
    rows = [subset_rows(1000, 0.3, seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert 0 < len(np.intersect1d(rows[0], rows[2])) < 200


def test_taken_rows_keep_features_labels_and_clients(tiny):
    rows = np.array([1, 4, 9])
    taken = take_rows(tiny, rows)
    assert taken.train_features[:, 0].tolist() == [1, 4, 9]
    assert taken.train_labels.tolist() == [1, 0, 1]
    assert taken.train_clients is None and taken.test_features is tiny.test_features
    clients = np.arange(10, dtype=np.int32) // 2
    with_clients = dataclasses.replace(tiny, train_clients=clients)
    assert take_rows(with_clients, rows).train_clients.tolist() == [0, 2, 4]
    assert take_rows(tiny, np.arange(10)) is tiny


@pytest.mark.parametrize("part", ["train_features", "train_labels", "test_features", "test_labels"])
def test_fingerprint_changes_with_a_single_value(tiny, part):
    values = getattr(tiny, part).copy()
    values.flat[-1] += 1
    altered = dataclasses.replace(tiny, **{part: values})
    assert fingerprint(altered) != fingerprint(tiny)


def test_fingerprint_changes_with_kind_and_shape_and_not_with_layout(tiny):
    features = tiny.train_features
    for other in (features.view(np.int32), features[:, :, np.newaxis]):
        altered = dataclasses.replace(tiny, train_features=other)
        assert fingerprint(altered) != fingerprint(tiny)
    columns = np.asfortranarray(np.repeat(features, 2, axis=1))
    rows = np.ascontiguousarray(columns)
    assert fingerprint(dataclasses.replace(tiny, train_features=columns)) == fingerprint(
        dataclasses.replace(tiny, train_features=rows)
    )
