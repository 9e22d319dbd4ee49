import pytest
import tensorflow as tf

from tfpriv.models import structure

layers = tf.keras.layers


def test_layers_inside_models_wrappers_and_layers_are_listed():
    inner = tf.keras.Sequential([layers.InputLayer((3,)), layers.Dense(2, name="deep")])
    model = tf.keras.Sequential([layers.InputLayer((4, 3)), layers.TimeDistributed(inner)])
    assert "deep" in [layer.name for layer in structure.layers_of(model)]


def test_random_generators_are_those_of_layers_that_draw():
    model = tf.keras.Sequential(
        [layers.InputLayer((3,)), layers.Dropout(0.5), layers.Dense(2), layers.GaussianNoise(1.0)]
    )
    assert len(structure.random_generators_of(model)) == 2


@pytest.mark.parametrize(
    ("layer", "has_own_code"),
    [
        (layers.Dense(2, activation="relu"), False),
        (layers.Dense(2, activation=tf.nn.relu), False),
        (layers.LSTM(2), False),
        (layers.Dense(2, activation=lambda batch: batch), True),
        (layers.Lambda(tf.nn.relu), True),
        (type("Own", (layers.Layer,), {})(), True),
    ],
)
def test_own_code_is_a_layer_or_a_function_that_is_not_keras(layer, has_own_code):
    assert structure.has_own_code(layer) is has_own_code
