"""Pooling: the largest value or the mean of each window of an image."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfpriv.secure.layers import registry
from tfpriv.secure.layers.grid import Grid, room_for
from tfpriv.secure.layers.keras_layers import refuse, refuse_channels_first
from tfpriv.secure.layers.shapes import Reshape
from tfpriv.secure.layers.stage import Stage
from tfpriv.secure.layers.trained import Sides, TrainedLayer
from tfpriv.secure.layers.windows import Windows, max_pool, sums_of_windows, window_sizes
from tfpriv.secure.protocols import fixed_point
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.fixed_point import FACTOR_BITS, Fixed
from tfpriv.secure.protocols.protocol import Protocol


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
        """See `Stage.plain`."""
        return self._plain(x, np.max)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """See `Stage.compute`."""
        return x.with_shares(max_pool(protocol, x.shares, self.rows, self.columns))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AveragePooling(_Pooling):
    """The mean of each window: the sum, times a public number of 20 bits."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        """See `Stage.plain`."""
        return self._plain(x, np.mean)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """See `Stage.compute`."""
        sums = x.with_shares(sums_of_windows(protocol, x.shares, self.rows, self.columns))
        factors = 1 / window_sizes(self.rows, self.columns)
        return fixed_point.scale(protocol, sums, factors[..., np.newaxis], grid.bits_given)

    def bits_to_read(self, bound: float, wanted: int) -> int:
        """See `Stage.bits_to_read`."""
        members = self.rows.size * self.columns.size
        return min(wanted, room_for(bound * members) - FACTOR_BITS - 1)

    def error(self, error: float, grid: Grid) -> float:
        """See `Stage.error`."""
        return error + grid.reads * 2.0**-FACTOR_BITS + 2.0**-grid.bits_given


@dataclasses.dataclass(frozen=True)
class TrainedMaxPooling2D(TrainedLayer):
    """The largest value of each of the windows, which do not overlap.

    The values of a window meet in pairs; each comparison's bit later sends the gradient back.
    """

    size: tuple[int, int]

    kind: ClassVar[str] = "MaxPooling2D"
    can_clip: ClassVar[bool] = True

    def forward(
        self, prot: Protocol, weights: Sequence[Any], x: PrivateTensor
    ) -> tuple[PrivateTensor, Any]:
        """See `TrainedLayer.forward`."""
        batch, height, width, channels = (int(n) for n in x.shape)
        rows, columns = height // self.size[0], width // self.size[1]
        inside = x[:, : rows * self.size[0], : columns * self.size[1], :]
        grid = [batch, rows, self.size[0], columns, self.size[1], channels]
        windows = prot.transpose(prot.reshape(inside, grid), perm=[2, 4, 0, 1, 3, 5])
        count = self.size[0] * self.size[1]
        values = prot.reshape(windows, [count, batch, rows, columns, channels])
        bits = []
        while count > 1:
            half = count // 2
            left, right, odd = values[:half], values[half : 2 * half], values[2 * half : count]
            bit = left > right
            bits.append(bit)
            best = prot.mul_ab(left - right, bit) + right
            values = prot.concat([best, odd], axis=0) if count % 2 else best
            count -= half
        return prot.reshape(values, [batch, rows, columns, channels]), (bits, x.shape)

    def sides_after(self, sides: Sides) -> Sides:
        """See `TrainedLayer.sides_after`."""
        return tuple(side // size for side, size in zip(sides, self.size, strict=True))

    def d_input(
        self, prot: Protocol, weights: Sequence[Any], cache: Any, d_y: PrivateTensor
    ) -> PrivateTensor:
        """See `TrainedLayer.d_input`."""
        bits, x_shape = cache
        batch, rows, columns, channels = (int(n) for n in d_y.shape)
        d = prot.expand_dims(d_y, 0)
        for bit in reversed(bits):
            half = int(bit.shape[0])
            best, odd = d[:half], d[half:]
            left = prot.mul_ab(best, bit)
            parts = [left, best - left] + ([odd] if int(d.shape[0]) > half else [])
            d = prot.concat(parts, axis=0)
        windows = prot.reshape(d, [*self.size, batch, rows, columns, channels])
        grid = prot.transpose(windows, perm=[2, 3, 0, 4, 1, 5])
        height, width = rows * self.size[0], columns * self.size[1]
        d_x = prot.reshape(grid, [batch, height, width, channels])
        missing = [[0, 0], [0, int(x_shape[1]) - height], [0, int(x_shape[2]) - width], [0, 0]]
        return prot.pad(d_x, missing)


def _of_windows(kind, layer, size, strides, padding):
    refuse_channels_first(layer)
    sides = layer.input_shape[1:3]
    rows, columns = (
        Windows.of(*numbers, padding) for numbers in zip(sides, size, strides, strict=True)
    )
    return kind(name=layer.name, rows=rows, columns=columns)


def _stages(kind):
    return lambda layer: [_of_windows(kind, layer, layer.pool_size, layer.strides, layer.padding)]


def _global_stages(kind):
    def make(layer):
        size = tuple(layer.input_shape[1:3])
        stage = _of_windows(kind, layer, size, size, "valid")
        if layer.keepdims:
            return [stage]
        return [stage, Reshape(name=layer.name, shape=(layer.input_shape[3],))]

    return make


def _trained(layer):
    if layer.strides != layer.pool_size or layer.padding != "valid":
        refuse(layer, "windows that overlap or are padded", "strides=pool_size", "trained")
    if layer.data_format != "channels_last":
        refuse(layer, "channels first", "channels_last", "trained")
    return [TrainedMaxPooling2D(layer.pool_size)]


registry.register(tf.keras.layers.MaxPooling2D, stages=_stages(MaxPooling), trained=_trained)
registry.register(tf.keras.layers.AveragePooling2D, stages=_stages(AveragePooling))
registry.register(tf.keras.layers.GlobalMaxPooling2D, stages=_global_stages(MaxPooling))
registry.register(tf.keras.layers.GlobalAveragePooling2D, stages=_global_stages(AveragePooling))
