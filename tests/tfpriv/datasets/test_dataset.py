import dataclasses

import numpy as np
import pytest

from tfpriv.datasets import check, prepared
from tfpriv.errors import UserError


def _with(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def test_sound_data_passes_and_knows_its_shape(tiny):
    check(tiny)
    assert tiny.element_shape == (1,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_refused_with_its_example(tiny, value):
    features = _with(tiny.train_features, 7, value)
    with pytest.raises(UserError, match=rf"train_features of example 7 hold {value}"):
        check(dataclasses.replace(tiny, train_features=features))


def test_large_finite_values_whose_sum_overflows_pass(tiny):
    check(dataclasses.replace(tiny, train_features=np.full((10, 1), 3e38, np.float32)))


@pytest.mark.parametrize(("index", "value"), [(3, 2), (4, -1)])
def test_label_out_of_range_is_refused_with_its_example(tiny, index, value):
    labels = _with(tiny.train_labels, index, value)
    with pytest.raises(UserError, match=rf"train_labels of example {index} hold {value}.*0\.\.1"):
        check(dataclasses.replace(tiny, train_labels=labels))


def test_label_of_text_out_of_range_is_refused_with_its_example(tiny):
    labels = _with(np.zeros((10, 3), np.int32), (6, 2), 9)
    text = dataclasses.replace(tiny, train_labels=labels, test_labels=np.zeros((4, 3), np.int32))
    with pytest.raises(UserError, match="example 6 hold 9"):
        check(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "ranking"}, "task is 'ranking'"),
        ({"num_classes": 1}, "at least 2"),
        ({"num_classes": 2.5}, "whole number"),
        ({"task": "regression"}, "regression has one output"),
        ({"train_labels": np.zeros(9, np.int32)}, "10 examples but train_labels 9"),
        ({"test_labels": np.zeros(5, np.int32)}, "4 examples but test_labels 5"),
        ({"train_features": np.zeros((10, 1))}, "float64; convert them to float32"),
        ({"train_labels": np.zeros(10, np.int64)}, "int64; convert them to int32"),
        ({"train_features": [[0.0]] * 10}, "is a list; give a numpy array"),
        ({"test_features": np.zeros((4, 2), np.float32)}, r"\(1,\) but test examples \(2,\)"),
        ({"test_features": np.zeros((4, 1), np.int32)}, "float32 but test_features int32"),
        ({"test_labels": np.zeros((4, 2), np.int32)}, "give both the same shape"),
        (
            {"test_features": np.zeros((0, 1), np.float32), "test_labels": np.zeros(0, np.int32)},
            "test_features is empty",
        ),
        ({"preparation": "by hand"}, "preparation is 'by hand'; give a tuple"),
        ({"train_clients": np.zeros(9, np.int32)}, "9 entries for 10"),
        ({"train_clients": np.zeros(10, np.int64)}, "int32 array"),
        ({"train_clients": np.full(10, -1, np.int32)}, r"train_clients\[0\] is -1"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(tiny, change, message):
    with pytest.raises(UserError, match=message):
        check(dataclasses.replace(tiny, **change))


def test_regression_label_that_is_not_finite_is_refused_with_its_example(tiny):
    labels = _with(np.zeros(10, np.float32), 2, np.nan)
    regression = dataclasses.replace(
        tiny,
        task="regression",
        num_classes=1,
        train_labels=labels,
        test_labels=np.zeros(4, np.float32),
    )
    with pytest.raises(UserError, match="train_labels of example 2 hold nan"):
        check(regression)


def test_preparation_that_is_left_out_is_not_known(tiny):
    assert tiny.preparation == ("how the data set was prepared before it was loaded",)


def test_all_that_is_wrong_is_said_at_once(tiny):
    with pytest.raises(UserError) as caught:
        check(
            dataclasses.replace(
                tiny,
                num_classes=1,
                train_features=np.array(["text"] * 10),
                test_labels=np.full(4, 7, np.int32),
                train_clients=np.zeros(9, np.int32),
            )
        )
    message = str(caught.value)
    assert message.startswith("data set tiny: (1) num_classes is 1")
    for number, words in enumerate(("train_features are <U4", "hold 7", "9 entries"), 2):
        assert f"({number}) " in message and words in message
    assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"train_features": np.full((10, 1), 0.1)}, np.float32),
        ({"train_features": np.ones((10, 1), np.uint8)}, np.float32),
        ({"train_features": np.ones((10, 1), bool)}, np.float32),
        ({"train_features": np.ones((10, 1), np.float16)}, np.float32),
        ({"train_features": np.full((10, 1), 2**31 - 1)}, np.int32),
        ({"train_labels": np.arange(10) % 2}, np.int32),
        ({"train_labels": np.arange(10.0) % 2}, np.int32),
        ({"train_labels": np.arange(10) % 2 == 1}, np.int32),
        ({"train_labels": (np.arange(10) % 2)[:, np.newaxis]}, np.int32),
        ({"train_labels": np.eye(2)[np.arange(10) % 2]}, np.int32),
        ({"train_labels": np.eye(2, dtype=np.int64)[np.arange(10) % 2]}, np.int32),
    ],
)
def test_what_loses_nothing_is_converted(tiny, given, taken):
    (name,) = given
    array = getattr(prepared(dataclasses.replace(tiny, **given)), name)
    assert array.dtype == taken
    if name == "train_labels":
        np.testing.assert_array_equal(array, np.arange(10) % 2)
    else:
        np.testing.assert_array_equal(array, given[name].astype(taken))


@pytest.mark.parametrize(
    "given",
    [
        {"train_features": np.full((10, 1), 2**31)},
        {"train_features": np.array([["a"]] * 10)},
        {"train_labels": np.full(10, 0.5)},
        {"train_labels": np.full(10, np.nan)},
        {"train_labels": np.full(10, 2**40)},
    ],
)
def test_what_would_lose_something_is_left_to_be_refused(tiny, given):
    (name,) = given
    changed = prepared(dataclasses.replace(tiny, **given))
    np.testing.assert_array_equal(getattr(changed, name), given[name])
    with pytest.raises(UserError, match=f"{name} are "):
        check(changed)


def test_numbers_beyond_float32_are_refused_as_infinite(tiny):
    far = dataclasses.replace(tiny, train_features=np.full((10, 1), 1e300))
    with pytest.raises(UserError, match="train_features of example 0 hold inf"):
        check(prepared(far))


@pytest.mark.parametrize(
    "names", [["b", "a", "b"], [b"b", b"a", b"b"], np.array(["b", "a", "b"], object), [7, 3, 7]]
)
def test_clients_may_have_names(tiny, names):
    clients = np.resize(np.asarray(names), 10)
    found = prepared(dataclasses.replace(tiny, train_clients=clients))
    check(found)
    assert found.train_clients.dtype == np.int32
    if clients.dtype.kind != "i":
        np.testing.assert_array_equal(found.train_clients, np.resize([1, 0, 1], 10))


def test_labels_at_each_position_are_not_taken_for_one_hot(tiny):
    labels = np.array([[1, 0], [0, 1], [1, 1]] * 3 + [[1, 0]])
    found = prepared(dataclasses.replace(tiny, train_labels=labels))
    np.testing.assert_array_equal(found.train_labels, labels)


def test_baseline_is_the_best_constant_answer(tiny):
    assert tiny.baseline == {"baseline_accuracy": 0.5}
    labels = np.array([1, 1, 1, 0], np.int32)
    assert dataclasses.replace(tiny, test_labels=labels).baseline == {"baseline_accuracy": 0.75}
    values = np.array([1, 3, 1, 3], np.float32)
    regression = dataclasses.replace(tiny, task="regression", test_labels=values, label_scale=10.0)
    assert regression.baseline == {"baseline_rmse": pytest.approx(10.0)}
