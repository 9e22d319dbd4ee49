"""Convolutions of images."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfpriv.secure.layers import registry
from tfpriv.secure.layers.activation import activation_stages, trained_activation
from tfpriv.secure.layers.grid import Grid
from tfpriv.secure.layers.keras_layers import refuse, refuse_channels_first
from tfpriv.secure.layers.trained import Part, Sides, TrainedLayer, capped, grid_step, ones
from tfpriv.secure.layers.weighted import Linear, kernel_and_bias
from tfpriv.secure.protocols import fixed_point
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.fixed_point import Fixed
from tfpriv.secure.protocols.protocol import Protocol

# Behind the point of an example's gradient, whose square must fit the ring.
_GRADIENT_BITS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution(Linear):
    """A convolution of images with a kernel [height, width, in, out]."""

    strides: tuple[int, int]
    padding: str

    def plain(self, x: np.ndarray) -> np.ndarray:
        """See `Stage.plain`."""
        return tf.nn.conv2d(x, self.factors, [1, *self.strides, 1], self.padding).numpy() + (
            self.summands
        )

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """See `Stage.compute`."""
        y = protocol.conv2d_channels_last(x.shares, weights[0].shares, self.strides, self.padding)
        return self._finished(protocol, y, x, weights, grid)


@dataclasses.dataclass(frozen=True)
class TrainedConv2D(TrainedLayer):
    """A convolution as a matrix product of the input's patches with the kernel."""

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str

    kind: ClassVar[str] = "Conv2D"
    num_weights: ClassVar[int] = 2
    can_clip: ClassVar[bool] = True

    def forward(
        self, prot: Protocol, weights: Sequence[Any], x: PrivateTensor
    ) -> tuple[PrivateTensor, Any]:
        """See `TrainedLayer.forward`."""
        kernel, bias = weights
        patches = prot.im2patches(
            x, self.size, strides=self.strides, padding=self.padding, data_format="NHWC"
        )
        batch, height, width, length = (int(n) for n in patches.shape)
        patches = prot.reshape(patches, [batch * height * width, length])
        channels = int(kernel.shape[3])
        y = prot.matmul(patches, prot.reshape(kernel, [length, channels])) + bias
        return prot.reshape(y, [batch, height, width, channels]), (patches, x.shape)

    def gradients(
        self, prot: Protocol, weights: Sequence[Any], cache: Any, d_y: PrivateTensor
    ) -> list[PrivateTensor]:
        """See `TrainedLayer.gradients`."""
        patches, _ = cache
        kernel, _ = weights
        batch, height, width, channels = (int(n) for n in d_y.shape)
        rows = prot.reshape(d_y, [batch * height * width, channels])
        d_kernel = fixed_point.matmul(prot, prot.transpose(patches), rows)
        return [
            prot.reshape(d_kernel, [int(n) for n in kernel.shape]),
            fixed_point.at_twice_the_scale(prot, rows.reduce_sum(axis=0)),
        ]

    def d_input(
        self, prot: Protocol, weights: Sequence[Any], cache: Any, d_y: PrivateTensor
    ) -> PrivateTensor:
        """See `TrainedLayer.d_input`: the spread-out gradient with the kernel turned around."""
        kernel, _ = weights
        _, x_shape = cache
        d_y = prot.transpose(d_y, perm=[1, 2, 0, 3])
        if self.strides[0] > 1:
            d_y = prot.expand(d_y, self.strides[0])
        pads = []
        for size, stride, n, n_y in zip(
            self.size, self.strides, x_shape[1:3], d_y.shape[:2], strict=True
        ):
            before = 0
            if self.padding == "SAME":
                before = max((-(-int(n) // stride) - 1) * stride + size - int(n), 0) // 2
            first = size - 1 - before
            pads.append([first, int(n) + size - 1 - first - int(n_y)])
        d_y = prot.transpose(prot.pad(d_y, pads), perm=[2, 3, 0, 1])
        kernel = prot.transpose(kernel[::-1, ::-1], perm=[0, 1, 3, 2])
        d_x = prot.conv2d(d_y, kernel, [1, 1], "VALID")
        return prot.transpose(d_x, perm=[0, 2, 3, 1])

    def sides_after(self, sides: Sides) -> Sides:
        """See `TrainedLayer.sides_after`."""
        return tuple(
            -(-side // stride) if self.padding == "SAME" else (side - size) // stride + 1
            for side, size, stride in zip(sides, self.size, self.strides, strict=True)
        )

    def places(self, sides: Sides) -> int:
        """See `TrainedLayer.places`."""
        return math.prod(self.sides_after(sides))

    @property
    def overlap(self) -> int:
        """In how many windows a pixel is at most."""
        return math.prod(
            -(-size // stride) for size, stride in zip(self.size, self.strides, strict=True)
        )

    def largest_part(self, inputs: float, d_y: float, places: int) -> float:
        """See `TrainedLayer.largest_part`: the norm of the whole gradient."""
        return (inputs * math.sqrt(self.overlap) + math.sqrt(places)) * d_y

    def part(self, prot: Protocol, cache: Any, d_y: PrivateTensor) -> Part:
        """See `TrainedLayer.part`."""
        patches, _ = cache
        batch, rows, columns, channels = (int(n) for n in d_y.shape)
        length = int(patches.shape[1])
        d = prot.reshape(d_y, [batch, rows * columns, channels])
        patches = prot.reshape(patches, [batch, rows * columns, length])
        of_kernel = fixed_point.matmul(prot, prot.transpose(patches, perm=[0, 2, 1]), d)
        of_bias = fixed_point.at_twice_the_scale(prot, d.reduce_sum(axis=1))
        gradient = prot.concat(
            [prot.reshape(of_kernel, [batch, length * channels]), of_bias], axis=1
        )
        fraction = prot.fixedpoint_config.precision_fractional
        a = fixed_point.raw(prot, prot.truncate(gradient, amount=2 * fraction - _GRADIENT_BITS))
        squares = prot.mul(a, a).reduce_sum(axis=1, keepdims=True)
        a_squared = prot.truncate(squares, amount=2 * _GRADIENT_BITS - fraction)
        a_squared = fixed_point.scaled(prot, a_squared) + grid_step(prot)
        factor = a_squared - a_squared + ones(prot, batch)
        shape = (*self.size, length // math.prod(self.size), channels)
        return _ConvolutionPart(a, factor, *capped(prot, a_squared), shape)


@dataclasses.dataclass(frozen=True)
class _ConvolutionPart(Part):
    """a is the gradient of kernel and bias in a row, on a grid of its own, and d is [batch, 1].

    Attributes:
        shape: The kernel's.
    """

    shape: tuple[int, ...]

    def squared(self, prot):
        return self.a_squared

    def sums(self, prot, d):
        total = prot.matmul(prot.transpose(self.a), fixed_point.raw(prot, d))
        missing = prot.fixedpoint_config.precision_fractional - _GRADIENT_BITS
        total = fixed_point.scaled(prot, fixed_point.whole_multiple(prot, total, 2**missing))
        size = math.prod(self.shape)
        channels = self.shape[-1]
        return [
            prot.reshape(total[:size], self.shape),
            prot.reshape(total[size : size + channels], [channels]),
        ]


def _conv2d(layer):
    if layer.groups != 1:
        refuse(layer, f"groups={layer.groups}", "groups=1")
    return _convolution(layer, *kernel_and_bias(layer, layer.filters))


def _depthwise_conv2d(layer):
    # A kernel for all channels that is zero between different ones.
    height, width, channels, multiplier = layer.get_weights()[0].shape
    kernel, bias = kernel_and_bias(layer, channels * multiplier)
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
    return [stage, *activation_stages(layer, layer.activation)]


def _trained(layer):
    for is_so, what, remedy in (
        (not layer.use_bias, "no bias", "use_bias=True"),
        (layer.dilation_rate != (1, 1), "dilation", "dilation_rate=1"),
        (layer.groups != 1, "groups", "groups=1"),
        (layer.data_format != "channels_last", "channels first", "channels_last"),
        (layer.strides[0] != layer.strides[1], "two strides", "one stride"),
    ):
        if is_so:
            refuse(layer, what, remedy, "trained")
    trained = TrainedConv2D(layer.kernel_size, layer.strides, layer.padding.upper())
    return [trained, *trained_activation(layer)]


registry.register(tf.keras.layers.Conv2D, stages=_conv2d, trained=_trained)
registry.register(tf.keras.layers.DepthwiseConv2D, stages=_depthwise_conv2d)
