"""Each kind of layer on shares gives what Keras gives, and what cannot be done is named."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.inference import evaluator, grids, network, ranges

L = tf.keras.layers
IMAGE = (6, 7, 3)

MODELS = {
    "dense": lambda: [L.Dense(5, input_shape=(4,)), L.Dense(3, use_bias=False)],
    "dense_on_a_sequence": lambda: [
        L.Dense(5, "relu", input_shape=(3, 4)),
        L.Flatten(),
        L.Dense(2),
    ],
    "convolution": lambda: [L.Conv2D(4, 3, padding="same", input_shape=IMAGE)],
    "strided_convolution": lambda: [L.Conv2D(4, (3, 2), strides=2, input_shape=IMAGE)],
    "no_bias": lambda: [L.Conv2D(2, 3, use_bias=False, input_shape=IMAGE), L.ReLU()],
    "depthwise": lambda: [L.DepthwiseConv2D(3, depth_multiplier=2, input_shape=IMAGE)],
    "max_pooling": lambda: [L.MaxPooling2D(2, input_shape=IMAGE)],
    "max_pooling_padded": lambda: [L.MaxPooling2D(3, strides=2, padding="same", input_shape=IMAGE)],
    "max_pooling_overlapping": lambda: [L.MaxPooling2D((3, 2), strides=1, input_shape=IMAGE)],
    "average_pooling": lambda: [L.AveragePooling2D(2, input_shape=IMAGE)],
    "average_pooling_padded": lambda: [
        L.AveragePooling2D(3, strides=2, padding="same", input_shape=IMAGE)
    ],
    "global_pooling": lambda: [L.GlobalAveragePooling2D(input_shape=IMAGE), L.Dense(2)],
    "global_max_pooling": lambda: [L.GlobalMaxPooling2D(keepdims=True, input_shape=IMAGE)],
    "normalization_after_a_layer": lambda: [
        L.Conv2D(4, 3, input_shape=IMAGE),
        L.BatchNormalization(),
        L.ReLU(),
    ],
    "normalization_first": lambda: [L.BatchNormalization(input_shape=IMAGE), L.Flatten()],
    "normalization_without_scale": lambda: [
        L.Dense(4, "relu", input_shape=(4,)),
        L.BatchNormalization(scale=False, center=False),
    ],
    "reshape": lambda: [L.Reshape((7, 18), input_shape=IMAGE), L.Dense(2)],
    "relu_before_pooling": lambda: [
        L.Conv2D(4, 3, activation="relu", input_shape=IMAGE),
        L.MaxPooling2D(2),
        L.Dropout(0.5),
        L.Activation("relu"),
    ],
    "softmax": lambda: [L.Dense(5, "softmax", input_shape=(4,))],
    "softmax_layer": lambda: [L.Dense(5, input_shape=(4,)), L.Softmax()],
    "sigmoid_at_the_end": lambda: [L.Dense(1, "sigmoid", input_shape=(4,))],
    "a_model_in_a_model": lambda: [
        tf.keras.Sequential([L.Dense(4, "relu", input_shape=(4,))]),
        L.Dense(2),
    ],
}


def built(layers):
    """A model with weights that are not zero, moving averages included."""
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential(layers)
    generator = np.random.default_rng(2)
    model.set_weights([np.abs(generator.normal(0.3, 0.4, w.shape)) for w in model.get_weights()])
    model.set_weights(
        [
            w * generator.choice([-1, 1], w.shape) if "var" not in v.name else w
            for v, w in zip(model.weights, model.get_weights(), strict=True)
        ]
    )
    return model


def both(model, protocol, parties, count=5, spread=1.0, **kwargs):
    """Predictions on shares and in plaintext, and the bound of what lies between."""
    net = network.from_keras(model, **kwargs)
    x = np.random.default_rng(3).uniform(-spread, spread, (count, *net.input_shape))
    plain, bounds = ranges.measure(net, x)
    secure = evaluator.SecureModel(net, bounds, protocol, parties, batch_size=4)
    outputs = np.concatenate([secure.predict(x[i : i + 4]) for i in range(0, count, 4)])
    expected = model.predict(x, verbose=0)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(
        evaluator.open_outputs(net, plain) / largest, expected / largest, atol=1e-5
    )
    assert np.abs(outputs - plain).max() <= grids.errors(net.stages, secure.grids)[-1]
    return evaluator.open_outputs(net, outputs), evaluator.open_outputs(net, plain)


@pytest.mark.parametrize("name", MODELS)
def test_layers_give_on_shares_what_keras_gives(protocol, local_parties, name):
    secure, plain = both(built(MODELS[name]()), protocol, local_parties)
    assert secure.shape == plain.shape
    np.testing.assert_allclose(secure, plain, atol=1e-6 * np.abs(plain).max())


def test_a_functional_model_is_read_in_order(aby3, local_parties):
    inputs = tf.keras.Input((4,))
    x = L.Dense(6, "relu")(inputs)
    model = tf.keras.Model(inputs, L.Dense(2)(L.Dropout(0.1)(x)))
    secure, plain = both(model, aby3, local_parties)
    np.testing.assert_allclose(secure, plain, atol=1e-3)


def test_sigmoid_and_softmax_inside_are_approximated(aby3, local_parties):
    model = built([L.Dense(5, "sigmoid", input_shape=(4,)), L.Dense(3, "softmax")])
    secure, plain = both(model, aby3, local_parties, softmax="approximate")
    np.testing.assert_allclose(secure, plain, atol=2.0**-10)
    assert np.abs(secure - plain).max() > 1e-6  # or nothing was approximated


def test_a_normalization_costs_nothing_after_a_layer_with_weights():
    kinds = [
        stage.kind
        for stage in network.from_keras(built(MODELS["normalization_after_a_layer"]())).stages
    ]
    assert kinds == ["convolution", "relu"]


@pytest.mark.parametrize("function", [tf.nn.relu, tf.nn.softmax, tf.nn.swish, tf.nn.gelu])
def test_activations_may_be_functions_of_tensorflow(function):
    by_function, by_name = (
        network.from_keras(
            tf.keras.Sequential([L.Dense(3, activation=activation, input_shape=(2,))]),
            softmax="approximate",
        )
        for activation in (function, function.__name__.removesuffix("_v2"))
    )
    kinds = [[stage.kind for stage in net.stages] for net in (by_function, by_name)]
    assert kinds[0] == kinds[1] and len(kinds[0]) == 2


def test_maxima_are_taken_before_relu():
    net = network.from_keras(built(MODELS["relu_before_pooling"]()))
    assert [stage.kind for stage in net.stages] == ["convolution", "maxpooling", "relu", "relu"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (lambda: [L.Embedding(5, 3, input_length=4)], "is a Embedding"),
        (lambda: [L.LSTM(3, input_shape=(4, 2))], "those that can: Activation, AveragePooling2D"),
        (lambda: [L.Dense(3, "softsign", input_shape=(4,))], "activation softsign"),
        (lambda: [L.ELU(alpha=0.5, input_shape=(4,))], "alpha=0.5"),
        (lambda: [L.Dense(3, tf.nn.log_softmax, input_shape=(4,))], "activation log_softmax"),
        (lambda: [L.ReLU(max_value=6, input_shape=(4,))], "max_value=6"),
        (lambda: [L.Conv2D(4, 3, dilation_rate=2, input_shape=IMAGE)], "dilation_rate"),
        (lambda: [L.Conv2D(3, 3, groups=3, input_shape=IMAGE)], "groups=3"),
        (lambda: [L.Conv2D(3, 3, input_shape=(None, None, 3))], "without None"),
        (lambda: [L.Softmax(axis=1, input_shape=(4, 2))], "axis=1"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(layers, message):
    model = tf.keras.Sequential(layers())
    with pytest.raises(UserError, match=message):
        network.from_keras(model)


def test_a_layer_of_the_users_own_is_refused_even_under_a_known_name():
    class Dense(L.Dense):
        def call(self, inputs):
            return super().call(inputs) * 2

    model = tf.keras.Sequential([Dense(3, input_shape=(4,))])
    with pytest.raises(UserError, match="cannot be computed on shares"):
        network.from_keras(model)


def test_branches_are_refused():
    inputs = tf.keras.Input((4,))
    x = L.Dense(4)(inputs)
    model = tf.keras.Model(inputs, L.Add()([x, inputs]))
    with pytest.raises(UserError, match="each layer must feed the next"):
        network.from_keras(model)


def test_a_shared_layer_is_refused():
    inputs = tf.keras.Input((4,))
    layer = L.Dense(4)
    model = tf.keras.Model(inputs, layer(layer(inputs)))
    with pytest.raises(UserError, match="each layer must feed the next"):
        network.from_keras(model)


def test_a_subclassed_model_is_refused():
    class Own(tf.keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UserError, match="cannot be read in order"):
        network.from_keras(Own())


def test_a_protocols_name_does_not_matter():
    model = tf.keras.Sequential([L.Dense(3, "softmax", input_shape=(4,)), L.Dense(2)])
    assert [stage.kind for stage in network.from_keras(model).stages] == [
        "dense",
        "softmax",
        "dense",
    ]


class TestRanges:
    def net(self, *weights):
        layers = [L.Dense(2, input_shape=(3,), name="first"), L.Dense(1, name="last")]
        model = tf.keras.Sequential(layers)
        model.set_weights([np.full(w.shape, 1.0) for w in model.get_weights()])
        for layer, weight in zip(layers, weights, strict=False):
            layer.kernel.assign(np.full(layer.kernel.shape, weight))
        return network.from_keras(model)

    def examples(self, value):
        examples = np.ones((600, 3), np.float32)
        examples[555, 1] = value
        return examples

    def test_bounds_are_powers_of_two_above_what_was_seen(self):
        outputs, bounds = ranges.measure(self.net(), self.examples(-7.0))
        assert outputs[555, 0] == 2 * (1 - 7 + 1 + 1) + 1
        assert bounds == (16.0, 8.0, 16.0)

    def test_large_numbers_are_no_reason_to_refuse(self, protocol, local_parties):
        net, x = self.net(1e6, 1e-6), 1e6 * np.random.default_rng(0).normal(size=(4, 3))
        plain, bounds = ranges.measure(net, x)
        secure = evaluator.SecureModel(net, bounds, protocol, local_parties, batch_size=4)
        np.testing.assert_allclose(secure.predict(x), plain, atol=1e-6 * np.abs(plain).max())

    @pytest.mark.parametrize("value", [np.nan, -np.inf])
    def test_an_input_that_is_not_finite_is_refused_by_its_number(self, value):
        with pytest.raises(UserError, match="example 555 of them: the examples have the value"):
            ranges.measure(self.net(), self.examples(value))

    @pytest.mark.parametrize("weight", [np.nan, np.inf])
    def test_a_weight_that_is_not_finite_is_refused_by_its_layer(self, weight):
        with pytest.raises(UserError, match=f"layer first of the model has the weight {weight}"):
            ranges.measure(self.net(weight), self.examples(1.0))

    def test_what_is_beyond_its_bound_is_named(self):
        net = self.net()
        _, bounds = ranges.measure(net, self.examples(1.0))
        assert ranges.check(net, self.examples(1.5), bounds).shape == (600, 1)
        with pytest.raises(UserError, match=r"the examples have the value 7, and .* within 2"):
            ranges.check(net, self.examples(7.0), bounds)
        with pytest.raises(UserError, match="layer first of the model gives 7"):
            ranges.check(net, np.full((1, 3), 2.0), (2.0, 4.0, 16.0))

    def test_an_input_bound_bounds_everything(self):
        net = self.net(-3.0, 5.0)
        bounds = ranges.from_input_bound(net, 4.0)
        assert bounds == (4.0, 64.0, 1024.0)
        signs = np.array(list(itertools.product([-4.0, 4.0], repeat=3)))
        ranges.check(net, signs, bounds)

    def test_grids_that_would_be_too_coarse_are_refused_by_layer_and_bound(self):
        with pytest.raises(UserError, match=r"layer last of the model has inputs of up to .* bits"):
            grids.choose(self.net().stages, (2.0**60, 2.0**-20, 1.0))

    def test_overflow_is_noticed_where_it_is_asked_for(self, protocol, local_parties):
        net = self.net()
        bounds = (8.0, 4.0, 64.0)  # Too little for the first layer.
        secure = evaluator.SecureModel(
            net, bounds, protocol, local_parties, batch_size=2, check_overflow=True
        )
        secure.predict(np.full((1, 3), 0.5))
        with pytest.raises(UserError, match="layer first of the model gives numbers beyond"):
            secure.predict(np.array([[0.5, 0.5, 0.5], [1.0, 1.0, 7.5]]))
        with pytest.raises(UserError, match=r"an example has the value 9.0"):
            secure.predict(np.array([[0.5, 0.5, 9.0]]))
