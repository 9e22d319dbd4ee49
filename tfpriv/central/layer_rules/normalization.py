"""Per-example gradients of normalizations that look at one example at a time."""

import tensorflow as tf

from tfpriv.central.layer_rules.rule import Materialized, Tap, Watch


def layer_normalization(
    layer: tf.keras.layers.Layer, inputs: tf.Tensor, watch: Watch
) -> Tap | None:
    """The rule of `tf.keras.layers.LayerNormalization`, over any axes but the batch's."""
    axes = [axis % inputs.shape.rank for axis in _as_list(layer.axis)]
    if 0 in axes:
        return None

    def normalized():
        mean, variance = tf.nn.moments(inputs, axes, keepdims=True)
        return (inputs - mean) * tf.math.rsqrt(variance + layer.epsilon)

    return _scaled(layer, inputs, watch, normalized, axes)


def group_normalization(
    layer: tf.keras.layers.Layer, inputs: tf.Tensor, watch: Watch
) -> Tap | None:
    """The rule of `tf.keras.layers.GroupNormalization`, over the last axis."""
    if layer.axis % inputs.shape.rank != inputs.shape.rank - 1 or None in inputs.shape[1:]:
        return None

    def normalized():
        channels = inputs.shape[-1]
        groups = channels if layer.groups == -1 else layer.groups
        grouped = tf.reshape(inputs, [-1, *inputs.shape[1:-1], groups, channels // groups])
        axes = [*range(1, grouped.shape.rank - 2), grouped.shape.rank - 1]
        mean, variance = tf.nn.moments(grouped, axes, keepdims=True)
        grouped = (grouped - mean) * tf.math.rsqrt(variance + layer.epsilon)
        return tf.reshape(grouped, [-1, *inputs.shape[1:]])

    return _scaled(layer, inputs, watch, normalized, [inputs.shape.rank - 1])


def _scaled(layer, inputs, watch, normalized, axes):
    """Taps a layer that ends by scaling and shifting what it normalized, along `axes`."""
    output = type(layer).call(layer, inputs)
    watch(output)

    def per_example(gradients):
        (gradient,) = gradients
        summed = [axis for axis in range(1, inputs.shape.rank) if axis not in axes]
        rows = []
        if layer.scale:
            rows.append(tf.reduce_sum(gradient * normalized(), axis=summed))
        if layer.center:
            rows.append(tf.reduce_sum(gradient, axis=summed))
        return Materialized(rows, [weight.shape for weight in layer.trainable_weights])

    return Tap(output=output, watched=[output], per_example=per_example)


def _as_list(axis):
    return list(axis) if isinstance(axis, list | tuple) else [axis]
