"""Each kind of layer on shares gives what Keras gives, and what cannot be done is named."""

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure import inference, network, ranges

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


def both(model, protocol, parties, count=5, **kwargs):
    """Predictions on shares and in the clear."""
    name = "aby3" if hasattr(protocol, "b2a") else "securenn"
    net = network.from_keras(model, protocol=name, **kwargs)
    x = np.random.default_rng(3).uniform(-1, 1, (count, *net.input_shape)).astype(np.float32)
    secure = inference.SecureModel(net, protocol, parties, batch_size=4)
    outputs = np.concatenate([secure.predict(x[i : i + 4]) for i in range(0, count, 4)])
    plain = ranges.check(net, x, protocol)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(inference.open_outputs(net, plain), expected, atol=1e-5)
    return inference.open_outputs(net, outputs), expected


@pytest.mark.parametrize("name", MODELS)
def test_layers_give_on_shares_what_keras_gives(protocol, local_parties, name):
    secure, plain = both(built(MODELS[name]()), protocol, local_parties)
    assert secure.shape == plain.shape
    np.testing.assert_allclose(
        secure, plain, atol=2e-2 if protocol.fixedpoint_config.precision_fractional < 16 else 2e-3
    )


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_smooth_activations_are_off_by_less_than_they_say(aby3, name):
    from tfpriv.secure import fixed_point, piecewise

    x = np.concatenate([np.linspace(-12, 12, 4001), [-2000.0, 2000.0, 0.0]])
    on_shares = getattr(piecewise, name)(aby3, fixed_point.share(aby3, tf.constant(x)))
    plain = getattr(tf.math, name)(x).numpy()
    error = np.abs(fixed_point.reveal(aby3, on_shares).numpy() - plain).max()
    assert error < {"tanh": 0.002, "sigmoid": 0.001}[name]


def test_a_functional_model_is_read_in_order(aby3, local_parties):
    inputs = tf.keras.Input((4,))
    x = L.Dense(6, "relu")(inputs)
    model = tf.keras.Model(inputs, L.Dense(2)(L.Dropout(0.1)(x)))
    secure, plain = both(model, aby3, local_parties)
    np.testing.assert_allclose(secure, plain, atol=1e-3)


def test_sigmoid_and_softmax_inside_are_approximated(aby3, local_parties):
    model = built([L.Dense(5, "sigmoid", input_shape=(4,)), L.Dense(3, "softmax")])
    secure, plain = both(model, aby3, local_parties, softmax="approximate")
    np.testing.assert_allclose(secure, plain, atol=0.05)
    assert np.abs(secure - plain).max() > 1e-6  # or nothing was approximated


def test_a_normalization_costs_nothing_after_a_layer_with_weights():
    kinds = [
        stage.kind
        for stage in network.from_keras(
            built(MODELS["normalization_after_a_layer"]()), protocol="aby3"
        ).stages
    ]
    assert kinds == ["linear", "relu"]


def test_maxima_are_taken_before_relu():
    net = network.from_keras(built(MODELS["relu_before_pooling"]()), protocol="aby3")
    assert [stage.kind for stage in net.stages] == ["linear", "max_pool", "relu", "relu"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (lambda: [L.Embedding(5, 3, input_length=4)], "is a Embedding"),
        (lambda: [L.LSTM(3, input_shape=(4, 2))], "those that can: Dense, Conv2D"),
        (lambda: [L.Dense(3, "gelu", input_shape=(4,))], "activation gelu"),
        (lambda: [L.Dense(3, tf.nn.swish, input_shape=(4,))], "activation"),
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
        network.from_keras(model, protocol="aby3")


def test_a_layer_of_the_users_own_is_refused_even_under_a_known_name():
    class Dense(L.Dense):
        def call(self, inputs):
            return super().call(inputs) * 2

    model = tf.keras.Sequential([Dense(3, input_shape=(4,))])
    with pytest.raises(UserError, match="cannot be computed on shares"):
        network.from_keras(model, protocol="aby3")


def test_branches_are_refused():
    inputs = tf.keras.Input((4,))
    x = L.Dense(4)(inputs)
    model = tf.keras.Model(inputs, L.Add()([x, inputs]))
    with pytest.raises(UserError, match="each layer must feed the next"):
        network.from_keras(model, protocol="aby3")


def test_a_shared_layer_is_refused():
    inputs = tf.keras.Input((4,))
    layer = L.Dense(4)
    model = tf.keras.Model(inputs, layer(layer(inputs)))
    with pytest.raises(UserError, match="each layer must feed the next"):
        network.from_keras(model, protocol="aby3")


def test_a_subclassed_model_is_refused():
    class Own(tf.keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UserError, match="cannot be read in order"):
        network.from_keras(Own(), protocol="aby3")


def test_securenn_says_that_it_has_no_softmax():
    model = tf.keras.Sequential([L.Dense(3, "softmax", input_shape=(4,)), L.Dense(2)])
    with pytest.raises(UserError, match="--protocol=aby3"):
        network.from_keras(model, protocol="securenn")


class TestRanges:
    def model(self, weight):
        model = tf.keras.Sequential([L.Dense(2, input_shape=(3,), name="first")])
        model.set_weights([np.full((3, 2), weight), np.zeros(2)])
        return model

    def check(self, protocol, weight=1.0, value=1.0):
        net = network.from_keras(self.model(weight), protocol="aby3")
        examples = np.ones((600, 3), np.float32)
        examples[555, 1] = value
        return ranges.check(net, examples, protocol)

    def test_what_fits_is_computed(self, aby3):
        assert self.check(aby3, 2047.0, 2047.0)[555, 0] == 2047.0 * 2049

    @pytest.mark.parametrize("weight", [2048.0, -1e9, np.nan, np.inf])
    def test_a_weight_beyond_the_range_is_refused_by_its_layer(self, aby3, weight):
        with pytest.raises(UserError, match=r"layer first of the model has the weight .*2048"):
            self.check(aby3, weight=weight)

    @pytest.mark.parametrize("value", [2048.0, -5000.0, np.nan, -np.inf])
    def test_an_input_beyond_the_range_is_refused_by_its_number(self, aby3, value):
        with pytest.raises(UserError, match="example 555 has the value"):
            self.check(aby3, value=value)

    def test_a_result_beyond_the_range_is_refused_by_its_layer(self, aby3):
        layers = [L.Dense(2000, input_shape=(200,), name="wide"), L.Dense(1, name="last")]
        model = tf.keras.Sequential(layers)
        model.set_weights([np.full(w.shape, 100.0) for w in model.get_weights()])
        net = network.from_keras(model, protocol="aby3")
        with pytest.raises(UserError, match="layer last of the model gives"):
            ranges.check(net, np.full((3, 200), 100.0), aby3)

    def test_the_bound_is_where_the_ring_ends(self, aby3):
        """Just below the bound a product is right, and above twice the bound it is not."""
        from tfpriv.secure import fixed_point

        limit = ranges.largest_result(aby3)
        for factor, right in ((0.99, True), (2.01, False)):
            x = fixed_point.share(
                aby3, tf.fill([100, 1], tf.constant(limit * factor / 2**15, tf.float64))
            )
            y = fixed_point.share(aby3, tf.fill([1, 1], tf.constant(2.0**15, tf.float64)))
            z = fixed_point.reveal(aby3, aby3.matmul(x, y)).numpy()
            assert np.allclose(z, limit * factor, rtol=1e-6) == right
