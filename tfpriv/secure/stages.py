"""The stages of a network on shares: a Keras layer, or its activation, each.

Tensors keep Keras's layout, [batch, height, width, channels].
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure import piecewise
from tfpriv.secure.keras_layers import kind_of, refuse, refuse_channels_first
from tfpriv.secure.pooling import Windows, average_pool, max_pool, static

LAYERS = (
    "Dense, Conv2D, DepthwiseConv2D, MaxPooling2D, AveragePooling2D, GlobalMaxPooling2D, "
    "GlobalAveragePooling2D, BatchNormalization, Flatten, Reshape, Dropout, ReLU, Softmax, and the "
    "activations relu, tanh, sigmoid and softmax"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A step from one tensor to the next.

    Attributes:
        name: The Keras layer's, and the activation's if that is the stage.
        kind: "linear" (a factor and a summand for each channel can go into the weights),
            "normalization", "max_pool", "reshape", "average_pool", or the activation.
        compute: (protocol, input, shares of the weights) -> output.
        plain: The same in the clear: (input, weights) -> output, float64 arrays.
        weights: What the owner of the model shares, as float64 arrays.
    """

    name: str
    kind: str
    compute: Callable
    plain: Callable
    weights: tuple[np.ndarray, ...] = ()


def of_layer(layer: tf.keras.layers.Layer) -> list[Stage]:
    """Returns the stages of a layer, none if it does nothing at inference.

    Raises:
        UserError: The layer, or a setting of it, cannot be computed on shares; it is named.
    """
    kind = kind_of(layer)
    make = _MAKERS.get(kind)
    if make is None:
        raise UserError(
            f"layer {layer.name} of the model is a {kind}, which cannot be "
            f"computed on shares; those that can: {LAYERS}."
        )
    return make(layer)


# --- Layers with weights -------------------------------------------------------------------------


def _dense(layer):
    units = layer.units

    def compute(protocol, x, weights):
        rows = static(x.shape)
        flat = protocol.reshape(x, [int(np.prod(rows[:-1])), rows[-1]]) if len(rows) > 2 else x
        y = protocol.matmul(flat, weights[0]) + weights[1]
        return protocol.reshape(y, [*rows[:-1], units]) if len(rows) > 2 else y

    return _with_weights(layer, compute, lambda x, w: x @ w[0] + w[1], layer.units)


def _conv2d(layer):
    if layer.groups != 1:
        refuse(layer, f"groups={layer.groups}", "groups=1")
    return _convolution(layer, layer.get_weights()[0], layer.filters)


def _depthwise_conv2d(layer):
    # A kernel for all channels that is zero between different ones.
    kernel = layer.get_weights()[0]
    height, width, channels, multiplier = kernel.shape
    dense = np.zeros((height, width, channels, channels, multiplier))
    for channel in range(channels):
        dense[:, :, channel, channel] = kernel[:, :, channel]
    dense = dense.reshape(height, width, channels, channels * multiplier)
    return _convolution(layer, dense, channels * multiplier)


def _convolution(layer, kernel, filters):
    refuse_channels_first(layer)
    if tuple(layer.dilation_rate) != (1, 1):
        refuse(layer, f"dilation_rate={layer.dilation_rate}", "dilation_rate=1")
    strides, padding = tuple(layer.strides), layer.padding.upper()

    def compute(protocol, x, weights):
        return convolve(protocol, x, weights[0], strides, padding) + weights[1]

    def plain(x, w):
        return tf.nn.conv2d(x, w[0], [1, *strides, 1], padding).numpy() + w[1]

    return _with_weights(layer, compute, plain, filters, kernel)


def convolve(protocol, x, kernel, strides, padding):
    """Convolves shared images [batch, height, width, channels] with a shared kernel (HWIO)."""
    if hasattr(protocol, "conv2d_channels_last"):
        return protocol.conv2d_channels_last(x, kernel, strides, padding)
    x = protocol.transpose(x, perm=[0, 3, 1, 2])
    y = protocol.conv2d(x, kernel, strides, padding)
    return protocol.transpose(y, perm=[0, 2, 3, 1])


def _with_weights(layer, compute, plain, units, kernel=None):
    weights = [weight.astype(np.float64) for weight in layer.get_weights()]
    bias = weights[1] if layer.use_bias else np.zeros(units)
    stage = Stage(
        name=layer.name,
        kind="linear",
        compute=compute,
        plain=plain,
        weights=(weights[0] if kernel is None else kernel.astype(np.float64), bias),
    )
    return [stage, *_activation(layer, layer.activation)]


def _batch_normalization(layer):
    if list(layer.axis) != [len(layer.input_shape) - 1]:
        refuse(layer, f"axis={list(layer.axis)}", "the last axis")
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    factor = 1 / np.sqrt(variance.astype(np.float64) + layer.epsilon)
    if layer.scale:
        factor *= layer.gamma.numpy()
    summand = -mean * factor
    if layer.center:
        summand += layer.beta.numpy()

    def compute(protocol, x, weights):
        return protocol.mul(x, _spread(weights[0], x)) + weights[1]

    stage = Stage(
        name=layer.name,
        kind="normalization",
        compute=compute,
        plain=lambda x, w: x * w[0] + w[1],
        weights=(factor, summand),
    )
    return [stage]


def _spread(vector, like):
    """Repeats a shared vector along the axes before its own, to the shape of another tensor."""
    return vector + (like - like)


# --- Layers without ------------------------------------------------------------------------------


def _activation(layer, function):
    if function is None or function is tf.keras.activations.linear:
        return []
    name = getattr(function, "__name__", str(function))
    known = {
        "relu": (lambda protocol, x, _: protocol.relu(x), lambda x, _: np.maximum(x, 0)),
        "tanh": (_smooth("tanh"), lambda x, _: np.tanh(x)),
        "sigmoid": (_smooth("sigmoid"), lambda x, _: 1 / (1 + np.exp(-x))),
        "softmax": (
            # The maximum by a tree: tf-encrypted's default sorts in a loop.
            lambda protocol, x, _: protocol.softmax(x, max_method="tree"),
            lambda x, _: softmax(x),
        ),
    }
    if name not in known or function is not getattr(tf.keras.activations, name, None):
        raise UserError(
            f"layer {layer.name} of the model has the activation {name}, which cannot be computed "
            f"on shares; use {', '.join(known)}, or none."
        )
    compute, plain = known[name]
    return [Stage(name=f"{layer.name}: {name}", kind=name, compute=compute, plain=plain)]


def _smooth(name):
    def compute(protocol, x, _):
        if hasattr(protocol, "b2a_single"):  # ABY3
            return getattr(piecewise, name)(protocol, x)
        return getattr(protocol, name)(x)

    return compute


def softmax(x: np.ndarray) -> np.ndarray:
    """Returns the softmax along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _relu(layer):
    for name, plain in (("max_value", None), ("negative_slope", 0), ("threshold", 0)):
        value = getattr(layer, name)
        if value != plain:
            refuse(layer, f"{name}={value}", "a plain ReLU")
    return _activation(layer, tf.keras.activations.relu)


def _softmax(layer):
    if layer.axis not in (-1, len(layer.input_shape) - 1):
        refuse(layer, f"axis={layer.axis}", "axis=-1")
    return _activation(layer, tf.keras.activations.softmax)


def _max_pooling(layer):
    return _pooling(layer, layer.pool_size, layer.strides, layer.padding, "max_pool")


def _average_pooling(layer):
    return _pooling(layer, layer.pool_size, layer.strides, layer.padding, "average_pool")


def _global_pooling(kind):
    def make(layer):
        size = tuple(layer.input_shape[1:3])
        (stage,) = _pooling(layer, size, size, "valid", kind)
        if layer.keepdims:
            return [stage]
        return [stage, _reshaping(layer, (layer.input_shape[3],))]

    return make


def _pooling(layer, size, strides, padding, kind):
    function, plain = {"max_pool": (max_pool, np.max), "average_pool": (average_pool, np.mean)}[
        kind
    ]
    refuse_channels_first(layer)
    sides = layer.input_shape[1:3]
    windows = [Windows.of(*numbers, padding) for numbers in zip(sides, size, strides, strict=True)]

    def plainly(x, _):
        rows, columns = windows
        return np.stack(
            [
                np.stack([plain(x[:, r][:, :, c], axis=(1, 2)) for c in columns.slices()], axis=1)
                for r in rows.slices()
            ],
            axis=1,
        )

    return [
        Stage(
            name=layer.name,
            kind=kind,
            compute=lambda protocol, x, _: function(protocol, x, *windows),
            plain=plainly,
        )
    ]


def _flatten(layer):
    if layer.data_format != "channels_last":
        refuse(layer, f"data_format={layer.data_format}", "channels_last")
    return [_reshaping(layer, (int(np.prod(layer.input_shape[1:])),))]


def _reshape(layer):
    return [_reshaping(layer, tuple(layer.output_shape[1:]))]


def _reshaping(layer, shape):
    return Stage(
        name=layer.name,
        kind="reshape",
        compute=lambda protocol, x, _: protocol.reshape(x, [static(x.shape)[0], *shape]),
        plain=lambda x, _: x.reshape(len(x), *shape),
    )


_MAKERS = {
    "Activation": lambda layer: _activation(layer, layer.activation),
    "AveragePooling2D": _average_pooling,
    "BatchNormalization": _batch_normalization,
    "Conv2D": _conv2d,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise_conv2d,
    "Dropout": lambda layer: [],
    "Flatten": _flatten,
    "GlobalAveragePooling2D": _global_pooling("average_pool"),
    "GlobalMaxPooling2D": _global_pooling("max_pool"),
    "MaxPooling2D": _max_pooling,
    "ReLU": _relu,
    "Reshape": _reshape,
    "Softmax": _softmax,
}
