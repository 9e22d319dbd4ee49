import dataclasses

import numpy as np
import pytest

from tfpriv import datasets
from tfpriv.datasets import canaries
from tfpriv.datasets.rows import fingerprint
from tfpriv.errors import UserError


@pytest.fixture(name="text")
def _text():
    """Sixty pieces of ten ids below 50 each, of three classes."""
    generator = np.random.default_rng(0)
    features = generator.integers(50, size=(60, 10), dtype=np.int32)
    labels = (np.arange(60) % 3).astype(np.int32)
    return datasets.Dataset(
        name="text",
        task="classification",
        num_classes=3,
        train_features=features,
        train_labels=labels,
        test_features=features[:6],
        test_labels=labels[:6],
    )


@pytest.mark.parametrize("kind", canaries.KINDS)
def test_planting_changes_the_canaries_and_nothing_else(digits, kind):
    planted, rows = canaries.plant(digits, 300, kind, 6)
    assert len(rows) == 300 and np.all(np.diff(rows) > 0)
    assert np.all(planted.train_labels[rows] != digits.train_labels[rows])
    assert planted.train_labels.dtype == digits.train_labels.dtype
    assert set(planted.train_labels[rows]) == set(range(10))
    rest = np.delete(np.arange(len(digits.train_labels)), rows)
    np.testing.assert_array_equal(planted.train_labels[rest], digits.train_labels[rest])
    np.testing.assert_array_equal(planted.train_features[rest], digits.train_features[rest])
    assert planted.test_features is digits.test_features
    again, same = canaries.plant(digits, 300, kind, 6)
    np.testing.assert_array_equal(rows, same)
    assert fingerprint(again) == fingerprint(planted)
    assert fingerprint(canaries.plant(digits, 300, kind, 7)[0]) != fingerprint(planted)


def test_data_set_that_is_planted_into_stays_as_it_was(digits):
    before = fingerprint(digits)
    canaries.plant(digits, 300, "out_of_distribution", 6)
    assert fingerprint(digits) == before


def test_mislabelled_canaries_keep_their_features(digits, text):
    for dataset in (digits, text):
        planted, _ = canaries.plant(dataset, 20, "mislabelled", 1)
        np.testing.assert_array_equal(planted.train_features, dataset.train_features)


def test_canaries_out_of_distribution_are_standard_normal_noise(digits):
    planted, rows = canaries.plant(digits, 700, "out_of_distribution", 1)
    noise = planted.train_features[rows]
    assert noise.dtype == np.float32 and noise.shape == (700, 8, 8, 1)
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03
    assert abs(np.corrcoef(noise.reshape(700, -1)[::2].ravel(), noise[1::2].ravel())[0, 1]) < 0.05


def test_canaries_of_text_are_random_ids_that_the_text_has(text):
    planted, rows = canaries.plant(text, 30, "out_of_distribution", 1)
    ids = planted.train_features[rows]
    assert ids.dtype == np.int32
    assert ids.min() >= 0 and ids.max() <= text.train_features.max()
    assert np.mean(ids != text.train_features[rows]) > 0.9
    assert len(np.unique(ids)) > 40


def test_no_canaries_change_nothing(tiny):
    planted, rows = canaries.plant(tiny, 0, "mislabelled", 1)
    assert rows.shape == (0,)
    assert fingerprint(planted) == fingerprint(tiny)


def test_half_of_the_examples_may_be_canaries_and_no_more(tiny):
    assert len(canaries.plant(tiny, 5, "mislabelled", 1)[1]) == 5
    with pytest.raises(UserError, match="--audit_canaries=6 is more than half of the 10"):
        canaries.plant(tiny, 6, "mislabelled", 1)


def test_data_without_one_class_an_example_are_refused(text):
    many = dataclasses.replace(text, train_labels=text.train_features)
    for dataset in (datasets.load("diabetes"), many):
        with pytest.raises(UserError, match="needs a data set with one class an example"):
            canaries.plant(dataset, 5, "mislabelled", 1)
