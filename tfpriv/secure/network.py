"""A trained Keras model as a row of stages that a protocol can compute on shares.

A stage is a Keras layer or its activation. Tensors keep Keras's layout, [batch, height, width,
channels]. What can be done in the clear beforehand, by the owner of the model, is done: the
normalization of a BatchNormalization that follows a Dense or convolution goes into its weights.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure import piecewise

_RISING = ("relu", "tanh", "sigmoid")
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """What a Keras model is on shares.

    Attributes:
        stages: In order.
        opened: The activation that the client applies to what is revealed; None if none is left.
        input_shape: The shape of one example.
    """

    stages: tuple[Stage, ...]
    opened: str | None
    input_shape: tuple[int, ...]


def from_keras(model: tf.keras.Model, *, protocol: str, softmax: str = "reveal") -> Network:
    """Returns the stages of a Keras model.

    Args:
        model: A built model, in which each layer feeds the next.
        protocol: The protocol's name, as some have no softmax.
        softmax: What becomes of a softmax or sigmoid at the end: "reveal" has the client apply it
            to the revealed logits; "approximate" computes it on shares.

    Raises:
        UserError: A layer, or a setting of one, cannot be computed on shares; it is named.
    """
    layers = in_order(model)
    input_shape = tuple(model.input_shape[1:])
    if None in input_shape:
        raise UserError(
            f"the model takes examples of shape {input_shape}, and shares need a known shape; give "
            "the first layer an input_shape without None."
        )
    stages = []
    for layer in layers:
        stages += _stages(layer)
    stages = _pool_before_activation(_fold_normalization(stages))
    opened = None
    if stages and stages[-1].kind in ("softmax", "sigmoid") and softmax == "reveal":
        opened = stages.pop().kind
    for stage in stages:
        if stage.kind == "softmax" and protocol != "aby3":
            raise UserError(
                f"{stage.name} would be computed on shares, which {protocol} cannot; use "
                "--protocol=aby3, or --softmax=reveal for one at the end."
            )
    if not stages:
        raise UserError("the model has no layers; there is nothing to compute on shares.")
    return Network(stages=tuple(stages), opened=opened, input_shape=input_shape)


def in_order(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
    """Returns the layers of a model in which each feeds the next, those of inner models included.

    Raises:
        UserError: The model has branches, several inputs or outputs, or cannot be read.
    """
    layers = getattr(model, "layers", [])
    if isinstance(model, tf.keras.Sequential):
        pass
    elif getattr(model, "_is_graph_network", False):
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise UserError(
                f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs; on "
                "shares it must have one of each."
            )
        for before, after in itertools.pairwise(layers):
            fed_by = [node.inbound_layers for node in after.inbound_nodes]
            if fed_by != [before]:
                raise UserError(
                    f"layer {after.name} of the model is not fed by {before.name} alone; on shares "
                    "each layer must feed the next, as in a tf.keras.Sequential model."
                )
    else:
        raise UserError(
            f"the model is a {type(model).__name__} whose layers cannot be read in order; on "
            "shares it must be a tf.keras.Sequential or a functional model."
        )
    flat = []
    for layer in layers:
        if isinstance(layer, tf.keras.Model):
            flat += in_order(layer)
        elif not isinstance(layer, tf.keras.layers.InputLayer):
            flat.append(layer)
    return flat


def _stages(layer):
    make = _MAKERS.get(type(layer).__name__)
    if make is None or type(layer).__module__.split(".")[0] != "keras":
        raise UserError(
            f"layer {layer.name} of the model is a {type(layer).__name__}, which cannot be "
            f"computed on shares; those that can: {LAYERS}."
        )
    return make(layer)


# --- Layers with weights -------------------------------------------------------------------------


def _dense(layer):
    units = layer.units

    def compute(protocol, x, weights):
        rows = _static(x.shape)
        flat = protocol.reshape(x, [int(np.prod(rows[:-1])), rows[-1]]) if len(rows) > 2 else x
        y = protocol.matmul(flat, weights[0]) + weights[1]
        return protocol.reshape(y, [*rows[:-1], units]) if len(rows) > 2 else y

    return _with_weights(layer, compute, lambda x, w: x @ w[0] + w[1], layer.units)


def _conv2d(layer):
    if layer.groups != 1:
        _refuse(layer, f"groups={layer.groups}", "groups=1")
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
    _refuse_channels_first(layer)
    if tuple(layer.dilation_rate) != (1, 1):
        _refuse(layer, f"dilation_rate={layer.dilation_rate}", "dilation_rate=1")
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
        _refuse(layer, f"axis={list(layer.axis)}", "the last axis")
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
            _refuse(layer, f"{name}={value}", "a plain ReLU")
    return _activation(layer, tf.keras.activations.relu)


def _softmax(layer):
    if layer.axis not in (-1, len(layer.input_shape) - 1):
        _refuse(layer, f"axis={layer.axis}", "axis=-1")
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
    _refuse_channels_first(layer)
    sides = layer.input_shape[1:3]
    windows = [_Windows.of(*numbers, padding) for numbers in zip(sides, size, strides, strict=True)]

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


@dataclasses.dataclass(frozen=True)
class _Windows:
    """The windows along one side: how many, how large, how far apart, and where the first is."""

    side: int
    size: int
    stride: int
    count: int
    before: int

    @classmethod
    def of(cls, side, size, stride, padding):
        if padding == "valid":
            return cls(side, size, stride, (side - size) // stride + 1, 0)
        count = -(-side // stride)
        return cls(side, size, stride, count, max((count - 1) * stride + size - side, 0) // 2)

    @property
    def after(self):
        """How far the last window reaches beyond the side."""
        return max((self.count - 1) * self.stride + self.size - self.side - self.before, 0)

    def slices(self):
        starts = [i * self.stride - self.before for i in range(self.count)]
        return [slice(max(start, 0), min(start + self.size, self.side)) for start in starts]

    def members(self):
        """For each place in a window, the slice of the padded side that it has in all windows."""
        end = (self.count - 1) * self.stride + 1
        return [slice(i, i + end, self.stride) for i in range(self.size)]


def max_pool(protocol, x, rows, columns):
    """Returns the largest value in each window, by comparing halves of the windows' members.

    What lies beyond the image's sides is a copy of the sides, which changes no maximum.
    """
    x = _extend(protocol, x, 1, rows)
    x = _extend(protocol, x, 2, columns)
    members = [x[:, r, c, :] for r in rows.members() for c in columns.members()]
    while len(members) > 1:
        half = len(members) // 2
        pairs = [_stack(protocol, part) for part in (members[:half], members[half : 2 * half])]
        larger = protocol.maximum(*pairs)
        members = _unstack(larger, half) + members[2 * half :]
    return members[0]


def average_pool(protocol, x, rows, columns):
    """Returns the mean of each window; what lies beyond the image's sides does not count."""
    x = _extend(protocol, x, 1, rows, with_zeros=True)
    x = _extend(protocol, x, 2, columns, with_zeros=True)
    members = [x[:, r, c, :] for r in rows.members() for c in columns.members()]
    total = members[0]
    for member in members[1:]:
        total = total + member
    counts = [[s.stop - s.start for s in side.slices()] for side in (rows, columns)]
    share = 1 / np.outer(*counts)[:, :, np.newaxis]
    return total * protocol.define_constant(np.broadcast_to(share, _static(total.shape)).copy())


def _extend(protocol, x, axis, windows, with_zeros=False):
    if not windows.before and not windows.after:
        return x
    lines = [slice(None)] * 4
    lines[axis] = slice(0, 1)
    first = x[tuple(lines)]
    lines[axis] = slice(windows.side - 1, windows.side)
    last = x[tuple(lines)]
    if with_zeros:
        first = last = first - first
    return protocol.concat([first] * windows.before + [x] + [last] * windows.after, axis=axis)


def _stack(protocol, parts):
    return parts[0] if len(parts) == 1 else protocol.concat(parts, axis=0)


def _unstack(x, count):
    if count == 1:
        return [x]
    size = _static(x.shape)[0] // count
    return [x[i * size : (i + 1) * size] for i in range(count)]


def _flatten(layer):
    if layer.data_format != "channels_last":
        _refuse(layer, f"data_format={layer.data_format}", "channels_last")
    return [_reshaping(layer, (int(np.prod(layer.input_shape[1:])),))]


def _reshape(layer):
    return [_reshaping(layer, tuple(layer.output_shape[1:]))]


def _reshaping(layer, shape):
    return Stage(
        name=layer.name,
        kind="reshape",
        compute=lambda protocol, x, _: protocol.reshape(x, [_static(x.shape)[0], *shape]),
        plain=lambda x, _: x.reshape(len(x), *shape),
    )


def _static(shape):
    return [int(size) for size in shape]


def _refuse(layer, what, remedy):
    raise UserError(
        f"layer {layer.name} of the model has {what}, which cannot be computed on shares; use "
        f"{remedy}."
    )


def _refuse_channels_first(layer):
    if layer.data_format != "channels_last":
        _refuse(layer, f"data_format={layer.data_format}", "data_format=channels_last")


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


# --- What is done in the clear beforehand --------------------------------------------------------


def _fold_normalization(stages: Sequence[Stage]) -> list[Stage]:
    folded = []
    for stage in stages:
        if stage.kind == "normalization" and folded and folded[-1].kind == "linear":
            kernel, bias = folded[-1].weights
            factor, summand = stage.weights
            weights = (kernel * factor, bias * factor + summand)
            folded[-1] = dataclasses.replace(folded[-1], weights=weights)
        else:
            folded.append(stage)
    return folded


def _pool_before_activation(stages: Sequence[Stage]) -> list[Stage]:
    """Takes maxima before activations that rise: they are the same, of fewer numbers."""
    stages = list(stages)
    for i in range(len(stages) - 1):
        if stages[i].kind in _RISING and stages[i + 1].kind == "max_pool":
            stages[i], stages[i + 1] = stages[i + 1], stages[i]
    return stages
