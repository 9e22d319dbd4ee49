import collections
import math
import re

import numpy as np
import pandas
import pytest
import tensorflow as tf

from tfpriv import datasets
from tfpriv.datasets import own
from tfpriv.errors import UserError


class _Examples:
    """The part of tf.data.Dataset that is used: batch and as_numpy_iterator."""

    def __init__(self, batches):
        self._batches = batches

    def batch(self, size):
        return self

    def as_numpy_iterator(self):
        return iter(self._batches)


class _ClientData:
    """The interface of tff.simulation.datasets.ClientData over lists of batches."""

    def __init__(self, batches_of_client):
        self._batches_of_client = batches_of_client
        self.client_ids = list(batches_of_client)

    def create_tf_dataset_for_client(self, client):
        return _Examples(self._batches_of_client[client])


def _pair(x, y):
    return (np.array(x, np.float32), np.array(y, np.int64))


def _client_data(make=_pair):
    return _ClientData(
        {
            "ann": [make([[1, 2], [3, 4]], [0, 2])],
            "bob": [],
            "cy": [make([[5, 6]], [1]), make([[7, 8]], [0])],
        }
    )


@pytest.mark.parametrize(
    "make",
    [
        _pair,
        lambda x, y: dict(zip(("pixels", "label"), _pair(x, y), strict=True)),
        lambda x, y: collections.OrderedDict(zip(("labels", "x"), _pair(x, y)[::-1], strict=True)),
        lambda x, y: {"x": _pair(x, y)[0], "y": _pair(x, y)[1][:, np.newaxis]},
    ],
    ids=["pairs", "pixels and label", "labels first", "column of labels"],
)
def test_client_data_becomes_a_data_set_with_its_clients(make):
    dataset = own.from_client_data("mine", _client_data(make), _client_data(make))
    datasets.check(dataset)
    assert dataset.train_features.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert dataset.train_labels.tolist() == [0, 2, 1, 0]
    assert dataset.train_clients.tolist() == [0, 0, 2, 2]
    assert (dataset.task, dataset.num_classes) == ("classification", 3)
    assert datasets.partition(dataset, "natural").sizes.tolist() == [2, 0, 2]


def test_client_data_of_tensorflow_is_read():
    import tensorflow as tf

    class ClientData:
        client_ids = ("a", "b")

        def create_tf_dataset_for_client(self, client):
            count = {"a": 1500, "b": 3}[client]
            features = tf.zeros([count, 4, 4], tf.uint8) + 255
            labels = tf.range(count) % 2
            return tf.data.Dataset.from_tensor_slices({"pixels": features, "label": labels})

    dataset = own.from_client_data("mine", ClientData(), ClientData())
    datasets.check(dataset)
    assert np.bincount(dataset.train_clients).tolist() == [1500, 3]
    assert dataset.train_features.dtype == np.float32
    assert dataset.train_features.max() == 255


def test_real_labels_make_a_regression_and_wide_integers_stay_ids():
    def make(x, y):
        return np.array(x, np.int64), np.array(y, np.float64)

    dataset = own.from_client_data("mine", _client_data(make), _client_data(make))
    datasets.check(dataset)
    assert (dataset.task, dataset.num_classes) == ("regression", 1)
    assert dataset.train_features.dtype == np.int32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, y: {"snippets": np.array([b"text"] * len(y))}, "mapping with 'snippets'"),
        (lambda x, y: np.array(x), "examples are a ndarray; map them to pairs"),
        (lambda x, y: {"x": x, "label": y, "weight": y}, "'x', 'label', 'weight'"),
        (lambda x, y: {"y": x, "label": y}, "'y', 'label'"),
        (lambda x, y: (np.array(["text"] * len(y)), np.array(y)), "features are <U4, not numbers"),
        (lambda x, y: (np.array(x), np.array(["no"] * len(y))), "labels are <U2, not numbers"),
        (lambda x, y: (np.array(x), np.array(y) + 2**40), "labels reach .* beyond int32"),
        (lambda x, y: (np.array(x)[:, : len(y)], np.array(y)), "differ in shape"),
    ],
)
def test_examples_of_another_form_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        own.from_client_data("mine", _client_data(make), _client_data(make))


def _frame(**columns):
    columns = {"age": [1, 2, 3], "income": [0.5, 1e5, 2.0], "label": [0, 2, 1]} | columns
    return pandas.DataFrame({k: v for k, v in columns.items() if v is not None})


def test_data_frames_become_a_data_set():
    dataset = own.from_parts("mine", _frame(), _frame())
    np.testing.assert_array_equal(dataset.train_features, [[1, 0.5], [2, 1e5], [3, 2]])
    np.testing.assert_array_equal(dataset.test_labels, [0, 2, 1])
    assert dataset.train_features.dtype == np.float32
    assert (dataset.task, dataset.num_classes) == ("classification", 3)
    assert own.from_parts("mine", _frame(label=[0.5, 1, 2]), _frame()).task == "regression"


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"label": None}, ["0 columns named label or labels or y"]),
        ({"y": [1, 2, 3]}, ["2 columns named label"]),
        (
            {"city": ["a", "b", "c"], "job": ["x", "y", "z"], "income": [1.0, None, 3.0]},
            [r"encode or drop city \(object\), job \(object\)", "fill or drop them in income"],
        ),
    ],
)
def test_all_that_is_wrong_with_a_data_frame_is_said_at_once(columns, says):
    with pytest.raises(UserError) as caught:
        own.from_parts("mine", _frame(**columns), _frame())
    assert str(caught.value).startswith("--dataset=mine: its train DataFrame has ")
    for words in says:
        assert re.search(words, str(caught.value))


@pytest.mark.parametrize(
    ("form", "of_example"),
    [
        (lambda data: data, ()),
        (lambda data: data.batch(4), ()),
        (lambda data: data.batch(3, drop_remainder=True), ()),
        (lambda data: data.map(lambda x, y: {"image": x, "label": y}), ()),
        # A text with a label at each character.
        (lambda data: data, (5,)),
        (lambda data: data.batch(4), (5,)),
    ],
)
def test_tf_datasets_become_a_data_set_single_or_in_batches(form, of_example):
    x = np.random.default_rng(0).normal(size=(6, *(of_example or (4, 2)))).astype(np.float32)
    y = np.arange(6 * math.prod(of_example)).reshape(6, *of_example)
    data = form(tf.data.Dataset.from_tensor_slices((x, y)))
    dataset = own.from_parts("mine", data, (x[:2], y[:2]))
    np.testing.assert_array_equal(dataset.train_features, x)
    np.testing.assert_array_equal(dataset.train_labels, y)


def test_client_data_without_examples_is_refused():
    with pytest.raises(UserError, match="test ClientData has no examples"):
        own.from_client_data("mine", _client_data(), _ClientData({"ann": []}))


def test_client_that_cannot_be_read_is_named():
    class Broken(_ClientData):
        def create_tf_dataset_for_client(self, client):
            raise OSError("disk gone")

    with pytest.raises(UserError, match=r"client 'ann' of its train ClientData.*disk gone"):
        own.from_client_data("mine", Broken({"ann": []}), _client_data())


_SOURCE = """
import dataclasses
import numpy as np
from tfpriv.datasets import Dataset


def leaves():
    raise SystemExit(0)


def good():
    return Dataset(
        name="any", task="classification", num_classes=2,
        train_features=np.zeros((4, 3), np.float32), train_labels=np.array([0, 1, 0, 1], np.int32),
        test_features=np.zeros((2, 3), np.float32), test_labels=np.array([0, 1], np.int32))


def prepared():
    return dataclasses.replace(good(), preparation=("the mean of the ages",))


def not_finite():
    dataset = good()
    dataset.train_features[2, 1] = np.nan
    return dataset


def arrays():
    return np.zeros(3), np.zeros(3)


def nothing():
    pass


def fails():
    return 1 / 0
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "own_data.py"
    path.write_text(_SOURCE)
    return path


def test_function_that_returns_a_data_set_is_loaded_under_its_own_name(source):
    dataset = datasets.load(f"{source}:good")
    assert dataset.name == f"{source}:good"
    assert dataset.provenance == {f"{source}:good": {"source": "user"}}


def test_own_data_say_themselves_how_they_were_prepared_or_it_is_not_known(source):
    assert datasets.load(f"{source}:prepared").preparation == ("the mean of the ages",)
    assert datasets.load(f"{source}:good", scaling="public").preparation == (
        "how the data set was prepared before it was loaded",
    )


def test_classes_counted_in_client_data_are_named_as_a_statistic_of_the_examples():
    _, counted = own.from_client_data("mine", _client_data(), _client_data()).preparation
    assert counted.startswith("the number of classes")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("not_finite", "train_features of example 2 hold nan"),
        (
            "arrays",
            r"its train data are a ndarray; make both a pair \(features, labels\) of arrays",
        ),
        ("nothing", "returned a NoneType"),
        ("fails", "ZeroDivisionError: division by zero"),
        ("leaves", "failed .SystemExit: 0"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_what_cannot_be_used_is_refused(source, function, message):
    with pytest.raises(UserError, match=message):
        datasets.load(f"{source}:{function}")


def test_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        datasets.load(f"{tmp_path / 'absent.py'}:build")


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"--dataset=mnits is not known.*mnist.*shakespeare"):
        datasets.load("mnits")
