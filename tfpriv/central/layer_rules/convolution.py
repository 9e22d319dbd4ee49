"""Per-example gradients of convolutions."""

import math
from collections.abc import Sequence

import tensorflow as tf

from tfpriv.central.layer_rules.dense import sequence_gradients
from tfpriv.central.layer_rules.rule import Materialized, Tap, Watch, activate

# Patches by a convolution with an identity matrix for a kernel; beyond this it costs too much.
_LARGEST_IDENTITY = 64


def conv2d(layer: tf.keras.layers.Layer, inputs: tf.Tensor, watch: Watch) -> Tap | None:
    """The rule of `tf.keras.layers.Conv2D`, on [batch, height, width, channels].

    A convolution is a dense layer at each position, whose inputs are the patches of the image: an
    example's gradient is the product of its patches and its output's gradient (Rochette et al.
    2019, arXiv 1912.06015), and the products of all examples are one batched matrix product.
    """
    return _convolution(layer, inputs, inputs, watch)


def conv1d(layer: tf.keras.layers.Layer, inputs: tf.Tensor, watch: Watch) -> Tap | None:
    """The rule of `tf.keras.layers.Conv1D`, on [batch, length, channels]: images of one row."""
    if layer.padding == "causal":
        before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        inputs = tf.pad(inputs, [[0, 0], [before, 0], [0, 0]])
    return _convolution(layer, inputs, inputs[:, tf.newaxis], watch)


def depthwise_conv2d(layer: tf.keras.layers.Layer, inputs: tf.Tensor, watch: Watch) -> Tap | None:
    """The rule of `tf.keras.layers.DepthwiseConv2D`, on [batch, height, width, channels]."""
    if layer.data_format != "channels_last" or None in inputs.shape[1:]:
        return None
    # Without its activation, whose inputs' gradient is wanted.
    activation, layer.activation = layer.activation, None
    try:
        values = type(layer).call(layer, inputs)
    finally:
        layer.activation = activation
    watch(values)

    def per_example(gradients):
        height, width, channels, multiplier = layer.depthwise_kernel.shape
        patches = _patches(layer, inputs)
        gradient = tf.reshape(gradients[0], [-1, *patches.shape[1:3], channels, multiplier])
        patches = tf.reshape(patches, [-1, *patches.shape[1:3], height, width, channels])
        rows = [tf.einsum("bpqhwc,bpqcm->bhwcm", patches, gradient)]
        if layer.use_bias:
            rows.append(tf.reduce_sum(gradients[0], axis=[1, 2]))
        return Materialized(rows)

    return Tap(output=activate(layer, values), watched=[values], per_example=per_example)


def _convolution(layer, inputs, images, watch):
    """Computes a convolution; `images` are its inputs as [batch, height, width, channels]."""
    if layer.data_format != "channels_last" or None in images.shape[1:]:
        return None
    values = layer.convolution_op(inputs, layer.kernel)
    if layer.use_bias:
        # TensorFlow would fuse a bias_add and the activation into a grouped convolution, and has no
        # such op on a CPU.
        bias_add = tf.nn.bias_add if layer.groups == 1 else tf.add
        values = bias_add(values, layer.bias)
    watch(values)

    def per_example(gradients):
        (gradient,) = gradients
        patches = _patches(layer, images)
        positions = patches.shape[1] * patches.shape[2]
        if layer.groups == 1:
            return sequence_gradients(
                tf.reshape(patches, [-1, positions, patches.shape[3]]),
                tf.reshape(gradient, [-1, positions, layer.filters]),
                use_bias=layer.use_bias,
                shape=layer.kernel.shape,
            )
        return _grouped(layer, patches, gradient, positions)

    return Tap(output=activate(layer, values), watched=[values], per_example=per_example)


def _grouped(layer, patches, gradient, positions):
    *size, channels, filters = layer.kernel.shape
    groups = layer.groups
    kernel = tf.einsum(
        "bpkgc,bpgf->bkcgf",
        tf.reshape(patches, [-1, positions, math.prod(size), groups, channels]),
        tf.reshape(gradient, [-1, positions, groups, filters // groups]),
    )
    gradients, shapes = [kernel], [layer.kernel.shape]
    if layer.use_bias:
        gradients.append(tf.reduce_sum(gradient, axis=list(range(1, gradient.shape.rank - 1))))
        shapes.append(layer.bias.shape)
    return Materialized(gradients, shapes)


def _patches(layer, images):
    """Returns what a layer's kernel meets in images; a kernel of one axis works along the width."""
    size, strides, dilation = (
        (1,) * (2 - len(value)) + tuple(value)
        for value in (layer.kernel_size, layer.strides, layer.dilation_rate)
    )
    padding = "SAME" if layer.padding == "same" else "VALID"
    return image_patches(images, size=size, strides=strides, dilation=dilation, padding=padding)


def image_patches(
    images: tf.Tensor,
    *,
    size: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: str,
) -> tf.Tensor:
    """Returns the patches that a convolution's kernel meets, as `tf.image.extract_patches` does.

    That op takes as long as the convolution's whole gradient, so it is the last resort.

    Args:
        images: [batch, height, width, channels], all but the batch static.
        size: Height and width of the kernel.
        strides: Vertical and horizontal.
        dilation: Vertical and horizontal.
        padding: "SAME" or "VALID".

    Returns:
        [batch, rows, columns, height * width * channels], in the order of a kernel's first axes.
    """
    height, width = size
    channels = images.shape[3]
    count = height * width * channels
    if count <= _LARGEST_IDENTITY:
        identity = tf.reshape(tf.eye(count), [height, width, channels, count])
        return tf.nn.conv2d(images, identity, strides, padding, dilations=dilation)
    if tuple(strides) == (1, 1):
        rows, columns = (
            images.shape[axis] - (0 if padding == "SAME" else dilation[axis - 1] * (k - 1))
            for axis, k in ((1, height), (2, width))
        )
        if padding == "SAME":
            # What is odd goes behind, as TensorFlow pads.
            extra = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
            images = tf.pad(images, [[0, 0], *([e // 2, e - e // 2] for e in extra), [0, 0]])
        shifted = [
            images[:, i * dilation[0] :, j * dilation[1] :][:, :rows, :columns]
            for i in range(height)
            for j in range(width)
        ]
        return tf.concat(shifted, axis=-1)
    return tf.image.extract_patches(
        images, [1, height, width, 1], [1, *strides, 1], [1, *dilation, 1], padding
    )
