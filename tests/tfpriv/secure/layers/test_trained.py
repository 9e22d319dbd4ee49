"""Gradients on shares against TensorFlow's in plaintext."""

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.parties import connection
from tfpriv.secure.protocols import fixed_point, running
from tfpriv.secure.training import backpropagation, networks, objectives
from tfpriv.secure.training import plain as plain_training

k = tf.keras.layers
CONV = {"activation": "relu"}
SMALL = {
    "dense of inner model": [k.Flatten(), tf.keras.Sequential([k.Dense(5, **CONV)]), k.Dense(3)],
    "convolutions, same": [k.Conv2D(3, 3, 2, "same"), k.Conv2D(2, 4, 3, "same"), k.Flatten()],
    "convolutions, valid": [
        k.Conv2D(2, 3, 2, activation=tf.nn.relu),
        k.Conv2D(3, 2),
        k.Flatten(),
        k.Dense(3),
    ],
    "pooling in halves": [k.Conv2D(2, 2), k.MaxPooling2D(2), k.ReLU(), k.Flatten(), k.Dense(3)],
    "pooling of odd windows with rest": [k.Conv2D(2, 2), k.MaxPooling2D(3), k.Flatten()],
}


def gradients_on_shares(model, objective, x, y):
    network = backpropagation.network_of(model)
    with running.protocol("aby3", connection.local()) as prot:

        def compute(x, y, weights):
            own = [fixed_point.share(prot, weight) for weight in weights]
            own = backpropagation.by_layer(network, own)
            outputs, caches = backpropagation.forward(
                prot, network, own, fixed_point.share(prot, x)
            )
            labels = fixed_point.share(prot, y)
            d_y = objectives.gradient(prot, objective, outputs, labels)
            found = backpropagation.gradients(prot, network, own, caches, d_y)
            opened = [fixed_point.reveal(prot, prot.truncate(g)) for g in found]
            return fixed_point.reveal(prot, outputs), opened

        weights = [tf.convert_to_tensor(weight) for weight in model.trainable_weights]
        outputs, opened = tf.function(compute, autograph=False)(
            tf.constant(x), tf.constant(y), weights
        )
        return outputs.numpy(), [gradient.numpy() for gradient in opened]


def check(model, objective, x, y, tolerance):
    outputs, found = gradients_on_shares(model, objective, x, y)
    with tf.GradientTape() as tape:
        plain = model(x)
        loss = tf.reduce_sum(plain_training.loss(objective, y, plain))
    expected = [g.numpy() for g in tape.gradient(loss, model.trainable_weights)]
    assert np.max(np.abs(outputs - plain.numpy())) < 2e-3
    assert len(found) == len(expected)
    for mine, right in zip(found, expected, strict=True):
        assert mine.shape == right.shape
        # Not each number: one that lies next to 0 may fall on the other side of a ReLU.
        assert np.linalg.norm(mine - right) < tolerance * max(np.linalg.norm(right), 0.1)


@pytest.mark.parametrize("name", ["A", "B", "C", "D"])
def test_gradients_of_each_network_equal_those_in_the_clear(name):
    generator = np.random.default_rng(0)
    x = generator.random((2, 28, 28, 1), np.float32)
    y = np.eye(10, dtype=np.float32)[generator.integers(0, 10, 2)]
    model = networks.build(name, (28, 28, 1), 10, seed=0)
    check(model, objectives.SOFTMAX, x, y, 0.02)


def test_gradient_of_logistic_regression_is_off_by_no_more_than_the_sigmoid():
    generator = np.random.default_rng(0)
    x = generator.random((8, 28, 28, 1), np.float32)
    y = generator.integers(0, 2, (8, 1)).astype(np.float32)
    model = networks.build("logistic", (28, 28, 1), 1, seed=0)
    _, (kernel, _) = gradients_on_shares(model, objectives.SIGMOID, x, y)
    z = model(x).numpy()
    p = 1 / (1 + np.exp(-z))
    assert np.max(np.abs(kernel - x.reshape(8, -1).T @ (p - y))) < 2e-3


@pytest.mark.parametrize("name", SMALL)
def test_gradients_of_layers_equal_those_in_the_clear(name):
    model = tf.keras.Sequential([k.InputLayer((9, 8, 2)), *SMALL[name]])
    generator = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(0, 0.3, weight.shape))
    x = generator.normal(0, 1, (3, 9, 8, 2)).astype(np.float32)
    y = generator.normal(0, 1, model(x).shape).astype(np.float32)
    check(model, objectives.SQUARED, x, y, 0.01)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (k.LayerNormalization(name="bad"), "layer bad of the model is a LayerNormalization"),
        (k.Dense(2, activation="tanh", name="bad"), "activation tanh"),
        (k.Dense(2, use_bias=False, name="bad"), "no bias"),
        (k.Dense(2, activation="softmax", name="bad"), "activation softmax"),
        (k.ReLU(max_value=6, name="bad"), "a maximum"),
    ],
)
def test_layer_that_cannot_be_trained_on_shares_is_refused_by_name(layer, message):
    model = tf.keras.Sequential([k.InputLayer((4,)), layer])
    with pytest.raises(UserError, match=message) as caught:
        backpropagation.network_of(model)
    assert "bad" in str(caught.value)


@pytest.mark.parametrize(
    "layer",
    [
        k.Conv2D(2, 3, dilation_rate=2, name="bad"),
        k.Conv2D(2, 3, strides=(1, 2), name="bad"),
        k.MaxPooling2D(3, strides=2, name="bad"),
        k.MaxPooling2D(2, padding="same", name="bad"),
        k.Dense(3, name="bad"),
    ],
)
def test_setting_of_a_layer_that_cannot_be_trained_is_refused(layer):
    model = tf.keras.Sequential([k.InputLayer((8, 8, 2)), layer])
    with pytest.raises(UserError, match="layer bad of the model has"):
        backpropagation.network_of(model)


def test_layer_of_the_users_own_is_refused_even_under_a_known_name():
    class Dense(k.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    model = tf.keras.Sequential([k.InputLayer((4,)), Dense(2)])
    with pytest.raises(UserError, match=r"test_trained\.Dense, which cannot be trained on shares"):
        backpropagation.network_of(model)
