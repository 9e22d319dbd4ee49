import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models
from tfpriv.errors import UserError
from tfpriv.models import Objective, evaluate, evaluation

RNG = np.random.default_rng(1)


def images(count):
    features = RNG.random((count, 8, 8, 1)).astype(np.float32)
    return features, RNG.integers(0, 10, size=count).astype(np.int32)


@pytest.mark.parametrize("batch_size", [10, 23, 100])
def test_classification_agrees_with_numpy_with_and_without_a_remainder(batch_size):
    model = models.build("2nn", (8, 8, 1), 10)
    features, labels = images(23)
    logits = model(features).numpy().astype(np.float64)
    log_sums = np.log(np.exp(logits).sum(1))
    found = evaluate(model, features, labels, Objective(task="classification"), batch_size)
    assert found.keys() == {"loss", "accuracy"}
    assert found["loss"] == pytest.approx(np.mean(log_sums - logits[np.arange(23), labels]), 1e-5)
    assert found["accuracy"] == np.mean(logits.argmax(1) == labels)


def test_regression_error_is_in_the_data_s_own_units():
    model = models.build("mlp", (10,), 1, task="regression")
    features, labels = RNG.random((9, 10)).astype(np.float32), RNG.random(9).astype(np.float32)
    error = np.mean((model(features).numpy()[:, 0].astype(np.float64) - labels) ** 2)
    found = evaluate(model, features, labels, Objective(task="regression"), 4, label_scale=77.0)
    assert found == pytest.approx({"loss": error, "rmse": 77 * error**0.5}, 1e-5)


def test_text_is_averaged_over_positions_and_examples():
    model = tf.keras.Sequential([tf.keras.layers.Embedding(5, 5, input_length=6)])
    features, labels = RNG.integers(0, 5, size=(2, 7, 6)).astype(np.int32)
    found = evaluate(model, features, labels, Objective(task="classification"), 3)
    assert found["accuracy"] == pytest.approx(np.mean(model(features).numpy().argmax(-1) == labels))


def test_later_calls_do_not_trace_again():
    traces = []

    class Counted(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = models.build("logistic", (8, 8, 1), 10)

        def call(self, batch):
            if not tf.executing_eagerly():
                traces.append(batch.shape)
            return self.inner(batch)

    model = Counted()
    evaluate(model, *images(25), Objective(task="classification"), 10)
    evaluate(model, *images(25), Objective(task="classification"), 10)
    evaluate(model, *images(13), Objective(task="classification"), 7)
    assert [shape.as_list() for shape in traces] == [[None, 8, 8, 1]]


def test_later_calls_see_new_weights():
    model = models.build("logistic", (8, 8, 1), 10)
    features, labels = images(25)
    before = evaluate(model, features, labels, Objective(task="classification"))
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    after = evaluate(model, features, labels, Objective(task="classification"))
    assert after["loss"] == pytest.approx(np.log(10), 1e-6) != before["loss"]


def test_models_no_longer_in_use_are_let_go():
    objective = Objective(task="classification")
    model = models.build("logistic", (8, 8, 1), 10)
    evaluate(model, *images(3), objective)
    gone = weakref.ref(model)
    del model
    for _ in range(evaluation._batch_sums.cache_info().maxsize):
        evaluate(models.build("logistic", (8, 8, 1), 10), *images(3), objective)
    gc.collect()
    assert gone() is None


def test_dropout_is_off():
    model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dropout(0.9)])
    features, labels = RNG.random((50, 10)).astype(np.float32), np.zeros(50, np.int32)
    found = [evaluate(model, features, labels, Objective(task="classification")) for _ in "ab"]
    assert found[0] == found[1]
    assert found[0]["accuracy"] == np.mean(features.argmax(1) == 0)


@pytest.mark.parametrize(("examples", "labels"), [(0, 0), (3, 2)])
def test_arrays_that_do_not_fit_are_refused(examples, labels):
    model = models.build("logistic", (8, 8, 1), 10)
    with pytest.raises(UserError, match=f"{examples} examples and {labels} labels"):
        evaluate(model, images(examples)[0], images(labels)[1], Objective(task="classification"))


@pytest.mark.parametrize(
    ("test", "baseline", "says"),
    [
        ({"test_accuracy": 0.527}, {"baseline_accuracy": 0.527}, "52.7%, is not above the 52.7%"),
        ({"test_accuracy": 0.6}, {"baseline_accuracy": 0.527}, None),
        ({"test_rmse": 80.0}, {"baseline_rmse": 75.2}, "80, is not below the 75.2"),
        ({"test_rmse": 60.0}, {"baseline_rmse": 75.2}, None),
        ({}, {"baseline_accuracy": 0.5}, None),
    ],
)
def test_a_model_no_better_than_a_constant_is_noted(test, baseline, says):
    notes = models.notes_on_baseline(test, baseline)
    assert (not notes) if says is None else says in notes[0]
