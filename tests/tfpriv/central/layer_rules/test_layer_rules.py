"""Every rule, in every configuration, against gradients of one example at a time."""

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.central.layer_rules import RULES

layers = tf.keras.layers

# Layer, and the shape of one example; integers for an embedding.
CASES = {
    "dense": (lambda: layers.Dense(4, activation="tanh"), (5,)),
    "dense without bias": (lambda: layers.Dense(4, use_bias=False), (5,)),
    "dense at few positions": (lambda: layers.Dense(40, activation="relu"), (2, 30)),
    "dense at many positions": (lambda: layers.Dense(3), (30, 2)),
    "dense at positions of two axes": (lambda: layers.Dense(3), (4, 3, 2)),
    "conv2d": (lambda: layers.Conv2D(4, 3, activation="relu"), (7, 6, 2)),
    "conv2d same": (lambda: layers.Conv2D(4, (2, 3), padding="same"), (7, 6, 2)),
    "conv2d strides": (lambda: layers.Conv2D(4, 3, strides=2), (9, 8, 2)),
    "conv2d strides same": (lambda: layers.Conv2D(4, 4, strides=(2, 3), padding="same"), (9, 8, 2)),
    "conv2d dilation": (lambda: layers.Conv2D(4, 3, dilation_rate=2), (9, 8, 2)),
    "conv2d dilation same": (
        lambda: layers.Conv2D(4, 3, dilation_rate=(2, 1), padding="same"),
        (9, 8, 2),
    ),
    "conv2d groups": (lambda: layers.Conv2D(6, 3, groups=2, padding="same"), (6, 5, 4)),
    "conv2d without bias": (lambda: layers.Conv2D(4, 3, use_bias=False), (7, 6, 2)),
    "conv2d many channels": (lambda: layers.Conv2D(4, 3, padding="same"), (6, 5, 12)),
    "conv2d many channels valid": (lambda: layers.Conv2D(4, (3, 2)), (6, 5, 12)),
    "conv2d many channels dilation": (
        lambda: layers.Conv2D(4, 3, padding="same", dilation_rate=2),
        (8, 7, 12),
    ),
    "conv2d many channels strides": (lambda: layers.Conv2D(4, 3, strides=2), (8, 7, 12)),
    "conv2d one position": (lambda: layers.Conv2D(20, 3), (3, 3, 12)),
    "conv1d": (lambda: layers.Conv1D(4, 3, activation="tanh"), (9, 2)),
    "conv1d same strides": (lambda: layers.Conv1D(4, 3, strides=2, padding="same"), (9, 2)),
    "conv1d causal": (lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 2)),
    "conv1d groups": (lambda: layers.Conv1D(6, 3, groups=2), (9, 4)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, activation="relu"), (7, 6, 3)),
    "depthwise multiplier": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", use_bias=False),
        (7, 6, 3),
    ),
    "depthwise strides": (lambda: layers.DepthwiseConv2D(3, strides=2, padding="same"), (7, 6, 3)),
    "depthwise dilation": (lambda: layers.DepthwiseConv2D(2, dilation_rate=2), (7, 6, 3)),
    "layer norm": (lambda: layers.LayerNormalization(), (6,)),
    "layer norm of images": (lambda: layers.LayerNormalization(), (4, 3, 6)),
    "layer norm over two axes": (lambda: layers.LayerNormalization(axis=[1, 2]), (4, 3)),
    "layer norm over axes out of order": (lambda: layers.LayerNormalization(axis=[2, 1]), (4, 3)),
    "layer norm without shift": (lambda: layers.LayerNormalization(center=False), (4, 6)),
    "group norm": (lambda: layers.GroupNormalization(groups=2), (4, 3, 6)),
    "instance norm": (lambda: layers.GroupNormalization(groups=-1), (4, 3, 6)),
    "group norm without scale": (lambda: layers.GroupNormalization(groups=3, scale=False), (6,)),
    "embedding": (lambda: layers.Embedding(5, 3), 7),
    "lstm": (lambda: layers.LSTM(4), (6, 3)),
    "lstm sequences": (lambda: layers.LSTM(4, return_sequences=True), (6, 3)),
    "lstm without bias": (lambda: layers.LSTM(4, use_bias=False), (3, 5)),
}

NOT_KNOWN = {
    "conv2d channels first": (
        lambda: layers.Conv2D(2, 2, data_format="channels_first"),
        (2, 4, 4),
    ),
    "lstm with dropout": (lambda: layers.LSTM(4, dropout=0.5), (6, 3)),
    "lstm with another activation": (lambda: layers.LSTM(4, activation="relu"), (6, 3)),
    "lstm backwards": (lambda: layers.LSTM(4, go_backwards=True), (6, 3)),
}


def _inputs(shape):
    generator = np.random.default_rng(0)
    if isinstance(shape, int):
        return generator.integers(0, 5, (4, shape)).astype(np.int32)
    return generator.normal(size=(4, *shape)).astype(np.float32)


def _built(case):
    build, shape = case
    tf.keras.utils.set_random_seed(3)
    layer = build()
    inputs = _inputs(shape)
    layer(inputs)
    for weight in layer.trainable_weights:  # Biases and scales of one value hide mistakes.
        weight.assign(weight + 0.1 * tf.random.normal(weight.shape))
    return layer, inputs


@pytest.mark.parametrize("name", CASES)
def test_rule_gives_the_layers_output_and_each_examples_gradient(name):
    layer, inputs = _built(CASES[name])
    wanted = layer(inputs).numpy()
    generator = np.random.default_rng(1)
    factors = generator.normal(size=wanted.shape).astype(np.float32)
    weights = np.array([0.5, 2.0, 0.0, 1.0], np.float32)

    @tf.function(
        input_signature=[tf.TensorSpec([None, *inputs.shape[1:]], inputs.dtype)], autograph=False
    )
    def by_rule(inputs):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tap = RULES[type(layer)](layer, inputs, tape.watch)
            loss = tf.reduce_sum(tap.output * factors)
        rows = tap.per_example(tape.gradient(loss, tap.watched))
        return tap.output, rows.squared_norms()[0], rows.weighted_sum(tf.constant(weights))

    output, squared_norms, sums = by_rule(inputs)
    np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-5)
    totals = [np.zeros(v.shape) for v in layer.trainable_weights]
    for i, weight in enumerate(weights):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(inputs[i : i + 1]) * factors[i])
        gradients = [
            tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, layer.trainable_weights)
        ]
        squared = sum(np.sum(np.square(g, dtype=np.float64)) for g in gradients)
        assert float(squared_norms[i]) == pytest.approx(squared, rel=1e-4)
        totals = [t + weight * g for t, g in zip(totals, gradients, strict=True)]
    assert [tuple(s.shape) for s in sums] == [tuple(v.shape) for v in layer.trainable_weights]
    for ours, theirs in zip(sums, totals, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_configuration_that_a_rule_does_not_know_is_left_to_the_general_way(name):
    build, shape = NOT_KNOWN[name]
    layer = build()
    layer.build((None, *shape))
    assert RULES[type(layer)](layer, tf.constant(_inputs(shape)), lambda tensor: None) is None


def test_every_rule_has_a_case():
    assert {type(build()) for build, _ in CASES.values()} == set(RULES)


@pytest.mark.parametrize("name", ["dense at few positions", "embedding"])
def test_norm_of_gradients_that_cancel_is_never_too_low(name):
    layer, inputs = _built(CASES[name])
    inputs = np.repeat(inputs[:, :1], inputs.shape[1], axis=1)  # The same at each position.
    shape = layer(inputs).shape
    generator = np.random.default_rng(1)
    gradient = 1e3 * generator.normal(size=shape).astype(np.float32)
    gradient[:, -1] = 1e-3 - gradient[:, :-1].sum(axis=1)
    tap = RULES[type(layer)](layer, tf.constant(inputs), lambda tensor: None)
    found = tap.per_example([tf.constant(gradient)]).squared_norms()[0].numpy()
    total = gradient.astype(np.float64).sum(axis=1)
    before = np.ones(len(inputs)) if name == "embedding" else None
    if before is None:
        before = 1 + np.sum(np.square(inputs[:, 0], dtype=np.float64), axis=1)
    assert np.all(found >= before * np.sum(total**2, axis=1))
