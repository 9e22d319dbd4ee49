import numpy as np
import pytest

from tfpriv import datasets
from tfpriv.datasets import bundled
from tfpriv.errors import UserError


def test_digits_are_images_split_in_the_same_proportions(digits):
    datasets.check(digits)
    assert digits.train_features.shape == (1437, 8, 8, 1)
    assert digits.test_features.shape == (360, 8, 8, 1)
    assert (digits.train_features.min(), digits.train_features.max()) == (0.0, 1.0)
    train, test = np.bincount(digits.train_labels), np.bincount(digits.test_labels)
    np.testing.assert_allclose(test / (train + test), 0.2, atol=0.005)


def test_breast_cancer_is_standardized_by_its_training_patients():
    cancer = datasets.load("breast_cancer")
    datasets.check(cancer)
    assert cancer.train_features.shape == (455, 30)
    assert cancer.test_features.shape == (114, 30)
    assert np.bincount(cancer.train_labels).tolist() == [170, 285]
    np.testing.assert_allclose(cancer.train_features.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(cancer.train_features.std(axis=0), 1, atol=1e-5)
    assert abs(cancer.test_features.mean(axis=0)).max() > 0.01


def test_diabetes_labels_go_back_to_the_original_unit():
    diabetes = datasets.load("diabetes")
    datasets.check(diabetes)
    assert (diabetes.task, diabetes.num_classes) == ("regression", 1)
    assert diabetes.train_features.shape == (353, 10)
    assert diabetes.test_features.shape == (89, 10)
    labels = np.concatenate([diabetes.train_labels, diabetes.test_labels])
    original = labels * diabetes.label_scale + diabetes.label_offset
    np.testing.assert_allclose(original, np.round(original), atol=1e-3)
    assert (round(original.min()), round(original.max())) == (25, 346)
    assert diabetes.train_labels.mean() == pytest.approx(0, abs=1e-5)
    assert diabetes.train_labels.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "diabetes"])
def test_split_is_the_same_each_time(name):
    first, second = datasets.load(name), datasets.load(name)
    np.testing.assert_array_equal(first.train_features, second.train_features)
    np.testing.assert_array_equal(first.test_labels, second.test_labels)


def test_altered_numbers_are_refused(monkeypatch):
    from sklearn import datasets as originals

    features, labels = originals.load_digits(return_X_y=True)
    features[0, 0] += 1
    monkeypatch.setattr(originals, "load_digits", lambda **options: (features, labels))
    with pytest.raises(UserError, match="scikit-learn's digits data is altered"):
        bundled.load_digits()
