"""Stages with weights, and how bits are shared between weights and inputs."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tfpriv.secure.layers.grid import Grid, log2, room_for
from tfpriv.secure.layers.stage import MOST_BITS, Stage
from tfpriv.secure.protocols import fixed_point
from tfpriv.secure.protocols.fixed_point import Fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weighted(Stage):
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
        """See `Stage.weights`."""
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
        """See `Stage.largest`."""
        return float((self._gains * bound + np.abs(self.summands)).max())

    @functools.cached_property
    def _size(self):
        return log2(float(np.abs(self.factors).max()))

    def _room(self, bound):
        """The bits of both grids together."""
        return room_for(max(self.largest(bound), bound * 2.0**self._size))

    def bits_to_read(self, bound: float, wanted: int) -> int:
        """See `Stage.bits_to_read`."""
        size = log2(bound)
        return min((self._room(bound) - size + self._size) // 2, MOST_BITS - size)

    def bits_of_weights(self, bound: float, bits: int) -> int:
        """See `Stage.bits_of_weights`."""
        return min(self._room(bound) - bits, MOST_BITS - self._size)

    def bits_to_give(self, bound: float, bits: int, wanted: int) -> int:
        """See `Stage.bits_to_give`."""
        return wanted

    def error(self, error: float, grid: Grid) -> float:
        """See `Stage.error`."""
        half = 2.0 ** -(grid.weights + 1)
        rounded = half * (self._count * (grid.reads + error) + 2.0**-grid.bits_read)
        return float(self._gains.max()) * error + rounded + 2.0**-grid.bits_given

    def _finished(self, protocol, sums, x, weights, grid):
        """Adds the summands, which are on the grid of the products, and goes to the stage's."""
        total = Fixed(sums + weights[1].shares, x.bits + weights[0].bits)
        return fixed_point.on_grid(protocol, total, grid.bits_given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(Weighted):
    """A layer whose weights can take in a factor and a summand for each channel."""

    @property
    def _columns(self):
        return self.factors.reshape(-1, self.factors.shape[-1])

    def with_normalization(self, factor: np.ndarray, summand: np.ndarray) -> "Linear":
        """Returns the layer and a normalization after it as one layer."""
        return dataclasses.replace(
            self, factors=self.factors * factor, summands=self.summands * factor + summand
        )


def kernel_and_bias(layer: tf.keras.layers.Layer, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a layer's kernel and bias in float64; a bias of zeros if it has none."""
    weights = [weight.astype(np.float64) for weight in layer.get_weights()]
    return weights[0], weights[1] if layer.use_bias else np.zeros(units)
