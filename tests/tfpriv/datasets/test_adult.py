import numpy as np
import pytest

from tfpriv import datasets


@pytest.fixture(scope="module")
def adult():
    return datasets.load("adult")


def test_adult_has_the_published_split_and_rates(adult):
    datasets.check(adult)
    assert adult.train_features.shape == (32561, 108)
    assert adult.test_features.shape == (16281, 108)
    assert np.bincount(adult.train_labels).tolist() == [24720, 7841]
    assert np.bincount(adult.test_labels).tolist() == [12435, 3846]


def test_numbers_are_standardized_by_the_training_file(adult):
    np.testing.assert_allclose(adult.train_features[:, :6].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(adult.train_features[:, :6].std(axis=0), 1, atol=1e-4)


def test_each_category_is_one_hot_and_missing_ones_are_a_category(adult):
    for features in (adult.train_features, adult.test_features):
        one_hot = features[:, 6:]
        assert set(np.unique(one_hot)) == {0.0, 1.0}
        np.testing.assert_array_equal(one_hot.sum(axis=1), 8)
    # "?" sorts first: of work class, the first categorical column, 1,836 training persons lack it.
    assert adult.train_features[:, 6].sum() == 1836


def test_first_person_is_read_as_it_stands_in_the_file(adult):
    # 39, State-gov (the eighth of nine work classes), 13 years of education, male, <=50K.
    assert adult.train_features[0, 6:15].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert adult.train_labels[0] == 0
