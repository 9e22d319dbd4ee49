"""Per-example gradients of convolutions."""

import tensorflow as tf

from tfpriv.central.layer_rules.dense import sequence_gradients
from tfpriv.central.layer_rules.rule import Materialized, Tap, activate

# Patches by a convolution with an identity matrix for a kernel; beyond this it costs too much.
_LARGEST_IDENTITY = 64


def conv2d(layer, inputs, watch) -> Tap | None:
    """The rule of `tf.keras.layers.Conv2D`, on [batch, height, width, channels].

    A convolution is a dense layer at each position, whose inputs are the patches of the image: an
    example's gradient is the product of its patches and its output's gradient (Rochette et al.
    2019, arXiv 1912.06015), and the products of all examples are one batched matrix product.
    """
    if layer.data_format != "channels_last" or None in inputs.shape[1:]:
        return None
    values = layer.convolution_op(inputs, layer.kernel)
    if layer.use_bias:
        values = tf.nn.bias_add(values, layer.bias)
    watch(values)

    def per_example(gradients):
        (gradient,) = gradients
        patches = image_patches(
            inputs,
            size=layer.kernel_size,
            strides=layer.strides,
            dilation=layer.dilation_rate,
            padding=layer.padding.upper(),
        )
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


def image_patches(images: tf.Tensor, *, size, strides, dilation, padding: str) -> tf.Tensor:
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


def _grouped(layer, patches, gradient, positions):
    height, width, channels, filters = layer.kernel.shape
    groups = layer.groups
    kernel = tf.einsum(
        "bpkgc,bpgf->bkcgf",
        tf.reshape(patches, [-1, positions, height * width, groups, channels]),
        tf.reshape(gradient, [-1, positions, groups, filters // groups]),
    )
    gradients, shapes = [kernel], [layer.kernel.shape]
    if layer.use_bias:
        gradients.append(tf.reduce_sum(gradient, axis=[1, 2]))
        shapes.append(layer.bias.shape)
    return Materialized(gradients, shapes)
