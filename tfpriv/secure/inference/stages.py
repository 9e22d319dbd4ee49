"""The stages of a network on shares: a Keras layer, or its activation, each.

Tensors keep Keras's layout, [batch, height, width, channels]. Each stage reads and gives numbers on
grids that `tfpriv.secure.inference.grids` chooses.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.inference.grids import Grid, log2, room_for
from tfpriv.secure.inference.pooling import Windows, max_pool, sums_of_windows, window_sizes
from tfpriv.secure.keras_layers import kind_of, refuse, refuse_channels_first
from tfpriv.secure.protocols import fixed_point, smooth
from tfpriv.secure.protocols.fixed_point import FACTOR_BITS, Fixed
from tfpriv.secure.protocols.protocol import Protocol

LAYERS = (
    "Dense, Conv2D, DepthwiseConv2D, MaxPooling2D, AveragePooling2D, GlobalMaxPooling2D, "
    "GlobalAveragePooling2D, BatchNormalization, Flatten, Reshape, Dropout, ReLU, ELU, Softmax, "
    "and the activations relu, softmax, exponential, " + ", ".join(smooth.ACTIVATIONS)
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A step from one tensor to the next.

    Attributes:
        name: The Keras layer's, and the activation's if that is the stage.
    """

    name: str

    # Whether what it gives can be larger than its bound although what it reads is not.
    can_grow: ClassVar[bool] = False

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """What the owner of the model shares, float64."""
        return ()

    @property
    def kind(self) -> str:
        """A word for what it does."""
        return type(self).__name__.lower()

    def plain(self, x: np.ndarray) -> np.ndarray:
        """Returns in plaintext what the stage gives, float64 of shape [n, ...]."""
        raise NotImplementedError

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """Returns on shares what the stage gives.

        Args:
            protocol: A running protocol.
            x: Private, of shape [batch, ...].
            weights: Private, as `weights` of this stage.
            grid: What was chosen for the stage.
        """
        raise NotImplementedError

    def largest(self, bound: float) -> float:
        """Returns how large what it gives can be if what it reads is at most `bound`."""
        return bound

    def bits_to_read(self, bound: float, wanted: int) -> int:
        """Returns the finest grid, of use to it, on which it can read numbers of at most `bound`.

        Args:
            bound: What they are at most.
            wanted: The grid on which the next stage wants what this one gives.
        """
        return min(wanted, room_for(bound))

    def bits_of_weights(self, bound: float, bits: int) -> int:
        """Returns the grid of the weights, for numbers of at most `bound` on the grid `bits`."""
        return 0

    def bits_to_give(self, bound: float, bits: int, wanted: int) -> int:
        """Returns the grid of what it gives.

        Args:
            bound: What the numbers that it gives are at most.
            bits: The grid of what it reads.
            wanted: The grid that the next stage wants.
        """
        return bits

    def error(self, error: float, grid: Grid) -> float:
        """Returns how far what it gives can be off, if what it reads is off by `error` at most."""
        return error


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

# A weight or an input never gets more bits than these, of its largest value.
MOST_BITS = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Weighted(Stage):
    """Sums of products with weights, and a summand for each channel.

    A product's grid is as fine as its two factors' together, and the sums must fit the ring. The
    room is shared so that weights and inputs are rounded alike, relative to their largest.

    Attributes:
        factors: The kernel, or a factor for each channel.
        summands: One for each channel.
    """

    factors: np.ndarray
    summands: np.ndarray

    can_grow: ClassVar[bool] = True

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        return (self.factors, self.summands)

    @property
    def _columns(self):
        """The factors, a column for each sum that they go into."""
        raise NotImplementedError

    @functools.cached_property
    def _gains(self):
        """For each channel the sum of magnitudes of factors: how much an error can grow."""
        return np.abs(self._columns).sum(axis=0)

    @functools.cached_property
    def _count(self):
        """Of how many products the longest sum is made."""
        return int(np.count_nonzero(self._columns, axis=0).max())

    def largest(self, bound: float) -> float:
        return float((self._gains * bound + np.abs(self.summands)).max())

    @functools.cached_property
    def _size(self):
        return log2(float(np.abs(self.factors).max()))

    def _room(self, bound):
        """The bits of both grids together."""
        return room_for(max(self.largest(bound), bound * 2.0**self._size))

    def bits_to_read(self, bound: float, wanted: int) -> int:
        size = log2(bound)
        return min((self._room(bound) - size + self._size) // 2, MOST_BITS - size)

    def bits_of_weights(self, bound: float, bits: int) -> int:
        return min(self._room(bound) - bits, MOST_BITS - self._size)

    def bits_to_give(self, bound: float, bits: int, wanted: int) -> int:
        return wanted

    def error(self, error: float, grid: Grid) -> float:
        half = 2.0 ** -(grid.weights + 1)
        rounded = half * (self._count * (grid.reads + error) + 2.0**-grid.bits_read)
        return float(self._gains.max()) * error + rounded + 2.0**-grid.bits_given

    def _finished(self, protocol, sums, x, weights, grid):
        """Adds the summands, which are on the grid of the products, and goes to the stage's."""
        total = Fixed(sums + weights[1].shares, x.bits + weights[0].bits)
        return fixed_point.on_grid(protocol, total, grid.bits_given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(_Weighted):
    """A layer whose weights can take in a factor and a summand for each channel."""

    @property
    def _columns(self):
        return self.factors.reshape(-1, self.factors.shape[-1])

    def with_normalization(self, factor: np.ndarray, summand: np.ndarray) -> "Linear":
        """Returns the layer and a normalization after it as one layer."""
        return dataclasses.replace(
            self, factors=self.factors * factor, summands=self.summands * factor + summand
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense(Linear):
    """y = x W + b, over the last axis."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        return x @ self.factors + self.summands

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        rows = x.shape
        flat = x.shares
        if len(rows) > 2:
            flat = protocol.reshape(flat, [int(np.prod(rows[:-1])), rows[-1]])
        y = protocol.matmul(flat, weights[0].shares)
        y = self._finished(protocol, y, x, weights, grid)
        if len(rows) > 2:
            y = y.with_shares(protocol.reshape(y.shares, [*rows[:-1], self.factors.shape[1]]))
        return y


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution(Linear):
    """A convolution of images with a kernel [height, width, in, out]."""

    strides: tuple[int, int]
    padding: str

    def plain(self, x: np.ndarray) -> np.ndarray:
        return tf.nn.conv2d(x, self.factors, [1, *self.strides, 1], self.padding).numpy() + (
            self.summands
        )

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        y = protocol.conv2d_channels_last(x.shares, weights[0].shares, self.strides, self.padding)
        return self._finished(protocol, y, x, weights, grid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalization(_Weighted):
    """y = x * factor + summand, for each channel."""

    @property
    def _columns(self):
        return self.factors[np.newaxis]

    def plain(self, x: np.ndarray) -> np.ndarray:
        return x * self.factors + self.summands

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        like = x.shares - x.shares
        y = protocol.mul(x.shares, weights[0].shares + like)
        return self._finished(protocol, y, x, weights, grid)


def _dense(layer):
    kernel, bias = _weights(layer, layer.units)
    return [
        Dense(name=layer.name, factors=kernel, summands=bias),
        *_activation(layer, layer.activation),
    ]


def _conv2d(layer):
    if layer.groups != 1:
        refuse(layer, f"groups={layer.groups}", "groups=1")
    return _convolution(layer, *_weights(layer, layer.filters))


def _depthwise_conv2d(layer):
    # A kernel for all channels that is zero between different ones.
    height, width, channels, multiplier = layer.get_weights()[0].shape
    kernel, bias = _weights(layer, channels * multiplier)
    dense = np.zeros((height, width, channels, channels, multiplier))
    for channel in range(channels):
        dense[:, :, channel, channel] = kernel[:, :, channel]
    return _convolution(layer, dense.reshape(height, width, channels, -1), bias)


def _convolution(layer, kernel, bias):
    refuse_channels_first(layer)
    if tuple(layer.dilation_rate) != (1, 1):
        refuse(layer, f"dilation_rate={layer.dilation_rate}", "dilation_rate=1")
    stage = Convolution(
        name=layer.name,
        factors=kernel,
        summands=bias,
        strides=tuple(layer.strides),
        padding=layer.padding.upper(),
    )
    return [stage, *_activation(layer, layer.activation)]


def _weights(layer, units):
    """Returns a layer's kernel and bias in float64; a bias of zeros if it has none."""
    weights = [weight.astype(np.float64) for weight in layer.get_weights()]
    return weights[0], weights[1] if layer.use_bias else np.zeros(units)


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
    return [Normalization(name=layer.name, factors=factor, summands=summand)]


# --- Activations ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReLU(Stage):
    """max(x, 0)."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        return x.with_shares(protocol.relu(x.shares))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smooth(Stage):
    """One of `smooth.ACTIVATIONS`."""

    function: str

    @property
    def kind(self) -> str:
        return self.function

    def plain(self, x: np.ndarray) -> np.ndarray:
        return smooth.plain(self.function, x)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        return smooth.evaluate(protocol, self.function, x, grid.bits_given, grid.reads)

    def largest(self, bound: float) -> float:
        ends = smooth.plain(self.function, np.array([-bound, 0.0, bound]))
        return float(np.abs(ends).max()) + smooth.largest_error(self.function, bound)

    def bits_to_read(self, bound: float, wanted: int) -> int:
        room = room_for(bound) - smooth.room(self.function)
        return min(smooth.argument_bits(bound), room)

    def bits_to_give(self, bound: float, bits: int, wanted: int) -> int:
        # What it gives can be far smaller than what it reads, which is moved to the same grid.
        return min(wanted, MOST_BITS - log2(bound), room_for(bound), bits + fixed_point.RING_BITS)

    def error(self, error: float, grid: Grid) -> float:
        own = smooth.largest_error(self.function, grid.reads)
        if smooth.room(self.function):
            own += grid.reads * 2.0**-FACTOR_BITS
        return smooth.steepest(self.function) * error + own + 2.0 ** (1 - grid.bits_given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponential(Stage):
    """exp(x), as 2^k exp(x - k ln 2), where 2^k is the bound of what it gives."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        return np.exp(x)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        power = log2(grid.gives)
        x = x.with_shares(x.shares - fixed_point.constant(protocol, power * math.log(2), x))
        y = smooth.exponential(protocol, x, 1, MOST_BITS - 2)
        return fixed_point.on_grid(protocol, Fixed(y.shares, y.bits - power), grid.bits_given)

    def largest(self, bound: float) -> float:
        return math.exp(min(bound, 40.0))

    def bits_to_read(self, bound: float, wanted: int) -> int:
        return min(smooth.ARGUMENT_BITS, room_for(bound) - 1)

    def bits_to_give(self, bound: float, bits: int, wanted: int) -> int:
        return min(wanted, MOST_BITS - 2 - log2(bound))

    def error(self, error: float, grid: Grid) -> float:
        return grid.gives * (error + 2 * smooth.largest_error("exp")) + 2.0**-grid.bits_given


@dataclasses.dataclass(frozen=True, kw_only=True)
class Softmax(Stage):
    """The softmax over the last axis."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        return softmax(x)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        return smooth.softmax(protocol, x, grid.bits_given)

    def largest(self, bound: float) -> float:
        return 1.0

    def bits_to_read(self, bound: float, wanted: int) -> int:
        return min(smooth.ARGUMENT_BITS, room_for(bound) - 2)

    def bits_to_give(self, bound: float, bits: int, wanted: int) -> int:
        return min(wanted, MOST_BITS)

    def error(self, error: float, grid: Grid) -> float:
        return error + smooth.SOFTMAX_ERROR + 2.0**-grid.bits_given


def softmax(x: np.ndarray) -> np.ndarray:
    """Returns the softmax along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _activation(layer, function):
    if function is None or function is tf.keras.activations.linear:
        return []
    name = getattr(function, "__name__", str(function))
    known: dict[str, type[ReLU | Softmax | Exponential] | None] = {
        "relu": ReLU,
        "softmax": Softmax,
        "exponential": Exponential,
        **dict.fromkeys(smooth.ACTIVATIONS),
    }
    if name not in known or function is not getattr(tf.keras.activations, name, None):
        raise UserError(
            f"layer {layer.name} of the model has the activation {name}, which cannot be computed "
            f"on shares; use {', '.join(known)}, or none."
        )
    of_name = f"{layer.name}: {name}"
    made = known[name]
    if made is not None:
        return [made(name=of_name)]
    return [Smooth(name=of_name, function=name)]


def _relu(layer):
    for name, plain in (("max_value", None), ("negative_slope", 0), ("threshold", 0)):
        value = getattr(layer, name)
        if value != plain:
            refuse(layer, f"{name}={value}", "a plain ReLU")
    return _activation(layer, tf.keras.activations.relu)


def _elu(layer):
    if layer.alpha != 1:
        refuse(layer, f"alpha={layer.alpha}", "alpha=1")
    return _activation(layer, tf.keras.activations.elu)


def _softmax(layer):
    if layer.axis not in (-1, len(layer.input_shape) - 1):
        refuse(layer, f"axis={layer.axis}", "axis=-1")
    return _activation(layer, tf.keras.activations.softmax)


# --- Pooling and shapes --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pooling(Stage):
    """Something of each window of an image."""

    rows: Windows
    columns: Windows

    def _plain(self, x, function):
        return np.stack(
            [
                np.stack(
                    [function(x[:, r][:, :, c], axis=(1, 2)) for c in self.columns.slices()],
                    axis=1,
                )
                for r in self.rows.slices()
            ],
            axis=1,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaxPooling(_Pooling):
    """The largest value of each window."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        return self._plain(x, np.max)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        return x.with_shares(max_pool(protocol, x.shares, self.rows, self.columns))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AveragePooling(_Pooling):
    """The mean of each window: the sum, times a public number of 20 bits."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        return self._plain(x, np.mean)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        sums = x.with_shares(sums_of_windows(protocol, x.shares, self.rows, self.columns))
        factors = 1 / window_sizes(self.rows, self.columns)
        return fixed_point.scale(protocol, sums, factors[..., np.newaxis], grid.bits_given)

    def bits_to_read(self, bound: float, wanted: int) -> int:
        members = self.rows.size * self.columns.size
        return min(wanted, room_for(bound * members) - FACTOR_BITS - 1)

    def error(self, error: float, grid: Grid) -> float:
        return error + grid.reads * 2.0**-FACTOR_BITS + 2.0**-grid.bits_given


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reshape(Stage):
    """The same numbers in another shape."""

    shape: tuple[int, ...]

    def plain(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), *self.shape)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        return x.with_shares(protocol.reshape(x.shares, [x.shape[0], *self.shape]))


def _global_pooling(kind):
    def make(layer):
        size = tuple(layer.input_shape[1:3])
        (stage,) = _pooling(layer, size, size, "valid", kind)
        if layer.keepdims:
            return [stage]
        return [stage, Reshape(name=layer.name, shape=(layer.input_shape[3],))]

    return make


def _pooling(layer, size, strides, padding, kind):
    refuse_channels_first(layer)
    sides = layer.input_shape[1:3]
    rows, columns = (
        Windows.of(*numbers, padding) for numbers in zip(sides, size, strides, strict=True)
    )
    return [kind(name=layer.name, rows=rows, columns=columns)]


def _pooling_of(kind):
    return lambda layer: _pooling(layer, layer.pool_size, layer.strides, layer.padding, kind)


def _flatten(layer):
    if layer.data_format != "channels_last":
        refuse(layer, f"data_format={layer.data_format}", "channels_last")
    return [Reshape(name=layer.name, shape=(int(np.prod(layer.input_shape[1:])),))]


_MAKERS: dict[str, Callable[[tf.keras.layers.Layer], list[Stage]]] = {
    "Activation": lambda layer: _activation(layer, layer.activation),
    "AveragePooling2D": _pooling_of(AveragePooling),
    "BatchNormalization": _batch_normalization,
    "Conv2D": _conv2d,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise_conv2d,
    "Dropout": lambda layer: [],
    "ELU": _elu,
    "Flatten": _flatten,
    "GlobalAveragePooling2D": _global_pooling(AveragePooling),
    "GlobalMaxPooling2D": _global_pooling(MaxPooling),
    "MaxPooling2D": _pooling_of(MaxPooling),
    "ReLU": _relu,
    "Reshape": lambda layer: [Reshape(name=layer.name, shape=tuple(layer.output_shape[1:]))],
    "Softmax": _softmax,
}
