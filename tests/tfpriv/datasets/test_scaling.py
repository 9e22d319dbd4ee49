import numpy as np
import pytest

from tfpriv import datasets
from tfpriv.datasets import adult, bundled, scaling, tables
from tfpriv.errors import UserError

_TABLES = ("breast_cancer", "diabetes", "adult")
_STATISTICS = "which come from the training examples without noise"


@pytest.fixture
def alter(monkeypatch):
    """Returns what alters one training example of a table beyond all measure."""

    def alter_bundled(name):
        from sklearn import datasets as originals

        original = getattr(originals, f"load_{name}")
        features, labels = original(
            return_X_y=True, **({} if name == "breast_cancer" else {"scaled": False})
        )
        row = tables.split(labels, stratify=name == "breast_cancer")[0][0]
        features[row] = 1e6
        if name == "diabetes":
            labels[row] = 1e6
        monkeypatch.setattr(originals, f"load_{name}", lambda **options: (features, labels))
        monkeypatch.setattr(bundled, "_verify", lambda *arguments: {})

    def alter_adult():
        contents, provenance = adult.download.fetch(adult._COLLECTION, None)
        first, rest = contents["adult.data"].split(b"\n", 1)
        values = first.split(b", ")
        # A person of many means, from a country that nobody else is from, of no known sex.
        values[0], values[10], values[11], values[9] = b"1000", b"1000000", b"1000000", b"?"
        values[13] = b"Atlantis"
        altered = {**contents, "adult.data": b", ".join(values) + b"\n" + rest}
        monkeypatch.setattr(adult.download, "fetch", lambda *arguments: (altered, provenance))

    return lambda name: alter_adult() if name == "adult" else alter_bundled(name)


def _same_but_for_the_first(one, other):
    return (
        (one.label_scale, one.label_offset) == (other.label_scale, other.label_offset)
        and one.train_features.shape == other.train_features.shape
        and all(
            np.array_equal(getattr(one, f"train_{kind}")[1:], getattr(other, f"train_{kind}")[1:])
            and np.array_equal(getattr(one, f"test_{kind}"), getattr(other, f"test_{kind}"))
            for kind in ("features", "labels")
        )
    )


@pytest.mark.parametrize("name", _TABLES)
def test_one_training_example_moves_no_other_under_public_scaling(alter, name):
    before = datasets.load(name, scaling="public")
    alter(name)
    after = datasets.load(name, scaling="public")
    assert _same_but_for_the_first(before, after)
    assert not np.array_equal(before.train_features[0], after.train_features[0])


@pytest.mark.parametrize("name", _TABLES)
def test_one_training_example_moves_all_others_when_standardized(alter, name):
    before = datasets.load(name, scaling="standardized")
    alter(name)
    after = datasets.load(name, scaling="standardized")
    assert not _same_but_for_the_first(before, after)


@pytest.mark.parametrize(("name", "columns"), [("breast_cancer", 30), ("diabetes", 10)])
def test_public_scaling_clips_the_columns(alter, name, columns):
    alter(name)
    dataset = datasets.load(name, scaling="public")
    datasets.check(dataset)
    assert dataset.train_features[0].tolist() == [3.0] * columns
    assert abs(dataset.train_features).max() == scaling.LARGEST


def test_adult_is_clipped_and_a_value_out_of_the_code_book_is_a_row_of_zeros(alter):
    alter("adult")
    person = datasets.load("adult", scaling="public").train_features[0]
    assert person[[0, 3, 4]].tolist() == [3.0, 3.0, 3.0]
    # Eight categorical columns, of which sex and country are not known.
    assert person[6:].sum() == 6


def test_labels_of_diabetes_go_back_to_the_original_unit_under_public_scaling():
    public, standardized = (datasets.load("diabetes", scaling=name) for name in scaling.NAMES)
    original, again = (
        data.test_labels * data.label_scale + data.label_offset for data in (public, standardized)
    )
    np.testing.assert_allclose(original, again, atol=1e-3)
    assert (public.label_offset, public.label_scale) == (150.0, 75.0)


@pytest.mark.parametrize(("name", "lost"), [("breast_cancer", 0.02), ("adult", 0.005)])
def test_logistic_regression_learns_as_much_under_public_scaling(name, lost):
    from sklearn import linear_model

    public, standardized = (
        linear_model.LogisticRegression(max_iter=1000)
        .fit(data.train_features, data.train_labels)
        .score(data.test_features, data.test_labels)
        for data in (datasets.load(name, scaling=scaled) for scaled in scaling.NAMES)
    )
    assert public > standardized - lost


def test_linear_regression_learns_as_much_under_public_scaling():
    from sklearn import linear_model

    def error(data):
        model = linear_model.LinearRegression().fit(data.train_features, data.train_labels)
        errors = model.predict(data.test_features) - data.test_labels
        return np.sqrt(np.mean(errors**2)) * data.label_scale

    public, standardized = (datasets.load("diabetes", scaling=name) for name in scaling.NAMES)
    assert error(public) < error(standardized) + 0.5


@pytest.mark.parametrize("name", _TABLES)
def test_a_standardized_table_says_that_its_statistics_are_not_noised(name):
    public, standardized = (
        datasets.load(name, scaling=scaled).preparation for scaled in scaling.NAMES
    )
    assert not [sentence for sentence in public if _STATISTICS in sentence]
    assert [sentence for sentence in standardized if sentence not in public] == [
        sentence for sentence in standardized if _STATISTICS in sentence
    ]
    assert len(standardized) == len(public) + 1


def test_images_are_prepared_one_by_one_under_either_scaling(digits):
    assert digits.preparation == ()
    public = datasets.load("digits", scaling="public")
    np.testing.assert_array_equal(public.train_features, digits.train_features)


def test_mnist_is_prepared_one_by_one(mnist):
    assert mnist.preparation == ()


def test_a_private_run_takes_public_constants_by_default():
    assert scaling.default(is_private=True) == "public"
    assert scaling.default(is_private=False) == "standardized"


def test_unknown_scaling_is_refused():
    with pytest.raises(UserError, match=r"--scaling=minmax is not known.*public, standardized"):
        datasets.load("digits", scaling="minmax")


def test_standardized_columns_have_the_training_rows_mean_and_deviation():
    generator = np.random.default_rng(0)
    train, test = generator.normal(5, 3, [50, 4]), generator.normal(5, 3, [20, 4])
    scaled, scaled_test = scaling.standardize(train, test)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(
        scaled_test, (test - train.mean(axis=0)) / train.std(axis=0), rtol=1e-5
    )


def test_constant_column_is_only_shifted():
    train, test = scaling.standardize(np.array([[3.0, 1], [3, 3]]), np.array([[4.0, 2]]))
    assert train.tolist() == [[0, -1], [0, 1]]
    assert test.tolist() == [[1, 0]]
