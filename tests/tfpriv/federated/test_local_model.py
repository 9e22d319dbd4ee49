"""Tests of tfpriv.federated.local_model."""

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models
from tfpriv.errors import UserError
from tfpriv.models.side_effects import side_effects

_GENERATOR = np.random.default_rng(3)


def _images(*shape):
    return _GENERATOR.random((6, *shape)).astype(np.float32)


_LABELS = np.array([0, 1, 2, 3, 4, 9], np.int32)
_TEXT = _GENERATOR.integers(0, 20, (6, 12)).astype(np.int32)
_CASES = {
    "logistic": (_images(8, 8, 1), _LABELS),
    "2nn": (_images(8, 8, 1), _LABELS),
    "mlp": (_images(5), _LABELS),
    "mlp_abadi": (_images(5), _LABELS),
    "cnn_mcmahan": (_images(8, 8, 1), _LABELS),
    "cnn_tutorial": (_images(14, 14, 1), _LABELS),
    "cnn_tanh": (_images(14, 14, 1), _LABELS),
    "char_lstm": (_TEXT, np.roll(_TEXT, -1, axis=1)),
}


def test_every_model_by_name_is_covered():
    assert set(_CASES) == set(models.NAMES)


@pytest.mark.parametrize("name", models.NAMES)
def test_outputs_gradients_and_sums_equal_keras(local_model, name):
    features, labels = _CASES[name]
    local, model = local_model(features, labels, name)
    weights = tuple(tf.constant(w) for w in model.get_weights())
    gradient, (loss, correct) = tf.function(local.gradient)(weights, (), features, labels)

    scores = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        outputs = model(features, training=True)
        expected_loss = scores(labels, outputs)
    expected = tape.gradient(expected_loss, model.trainable_weights)
    np.testing.assert_allclose(
        tf.function(local.predict)(weights, (), features), outputs, atol=1e-5
    )
    for found, wanted in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(found, tf.convert_to_tensor(wanted), atol=1e-5)
    assert float(loss) == pytest.approx(6 * float(expected_loss), rel=1e-4)
    hits = np.equal(np.argmax(outputs, -1), labels)
    assert float(correct) == pytest.approx(hits.reshape(6, -1).mean(axis=1).sum(), abs=1e-5)


def test_regression_has_squared_error_and_no_right_answers(local_model):
    features, labels = _images(3), _GENERATOR.random(6).astype(np.float32)
    local, model = local_model(features, labels, "mlp", task="regression")
    weights = tuple(tf.constant(w) for w in model.get_weights())
    _, (loss, correct) = tf.function(local.gradient)(weights, (), features, labels)
    errors = model(features).numpy()[:, 0] - labels
    assert float(loss) == pytest.approx((errors**2).sum(), rel=1e-4)
    assert float(correct) == 0


def test_other_weights_give_other_outputs(local_model):
    local, model = local_model(*_CASES["logistic"])
    zeros = tuple(tf.zeros(w.shape) for w in model.trainable_weights)
    assert (tf.function(local.predict)(zeros, (), _CASES["logistic"][0]).numpy() == 0).all()


def test_rows_of_minus_one_are_no_examples(local_model):
    features, labels = _CASES["mlp"]
    local, _ = local_model(features, labels, "mlp")
    found, found_labels = local.read(tf.constant([4, -1, 1, -1]))
    assert np.array_equal(found, features[[4, 1]])
    assert found_labels.numpy().tolist() == [4, 1]
    assert local.read(tf.constant([-1, -1]))[0].shape == (0, 5)


def test_dropout_draws_another_mask_in_each_step_client_and_round(worker, trial, local_model):
    def build():
        layers = tf.keras.layers
        return tf.keras.Sequential(
            [layers.Input([64]), layers.Dropout(0.5), layers.Dense(2, use_bias=False)]
        )

    features = np.ones((1, 64), np.float32)
    model, _ = local_model(features, np.zeros(1, np.int32), build)
    run = trial(model, client_learning_rate=1e-3)

    def masks(*cohort):
        """How often each input was kept, over the steps; weights' gradients show it."""
        start = run.state
        moved = run.round(*cohort)[0][:, 0]
        run.state = start
        return moved != 0

    first, again = masks([[0]]), masks([[0]])
    assert 10 < first.sum() < 54
    assert not np.array_equal(first, again)
    # Were one mask drawn for all steps or clients, half of the inputs would never be kept.
    assert masks([[0]] * 8).mean() > 0.9
    assert masks(*[[[0]]] * 8).mean() > 0.9


def _dense(*, scale=1.0):
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input([5]),
            tf.keras.layers.Dense(10),
            tf.keras.layers.Rescaling(scale),
        ]
    )


def test_a_function_that_builds_another_model_each_time_is_refused(local_model):
    scales = iter(range(1, 10))
    with pytest.raises(UserError, match="gives other outputs when it is built anew"):
        local_model(_images(5), _LABELS, lambda: _dense(scale=next(scales)))


def test_weights_that_are_not_trained_stay_what_they_are(local_model):
    def build():
        layers = tf.keras.layers
        return tf.keras.Sequential(
            [layers.Input([5]), layers.Dense(7, trainable=False), layers.Dense(10)]
        )

    features = _images(5)
    local, model = local_model(features, _LABELS, build)
    weights = tuple(tf.constant(w) for w in model.trainable_weights)
    frozen = tuple(tf.constant(w) for w in model.non_trainable_weights)
    assert [tuple(w.shape) for w in weights] == [(7, 10), (10,)]
    assert [tuple(w.shape) for w in frozen] == [(5, 7), (7,)]
    np.testing.assert_allclose(
        tf.function(local.predict)(weights, frozen, features), model(features), atol=1e-5
    )


def test_values_from_outside_the_weights_are_refused(local_model):
    outside = tf.Variable(tf.ones([10]))

    def build():
        inputs = tf.keras.Input([5])
        outputs = tf.keras.layers.Lambda(lambda x: x * outside)(tf.keras.layers.Dense(10)(inputs))
        return tf.keras.Model(inputs, outputs)

    with pytest.raises(UserError, match="values that are not among its weights"):
        local_model(_images(5), _LABELS, build)


def test_what_clients_run_keeps_nothing(local_model):
    """A pure function of weights and examples: no state could carry data past the noise."""
    features, labels = _images(5), _LABELS

    def build():
        layers = tf.keras.layers
        return tf.keras.Sequential(
            [layers.Input([5]), layers.Dropout(0.5), layers.Dense(7), layers.Dense(10)]
        )

    local, model = local_model(features, labels, build)
    weights = tuple(tf.constant(w) for w in model.trainable_weights)
    traced = tf.function(local.gradient).get_concrete_function(weights, (), features, labels)
    assert not list(side_effects(traced, ()))
