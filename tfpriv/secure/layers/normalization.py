"""Batch normalization, whose moments are known in inference."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfpriv.secure.layers import registry
from tfpriv.secure.layers.grid import Grid
from tfpriv.secure.layers.keras_layers import refuse
from tfpriv.secure.layers.weighted import Weighted
from tfpriv.secure.protocols.fixed_point import Fixed
from tfpriv.secure.protocols.protocol import Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalization(Weighted):
    """y = x * factor + summand, for each channel."""

    @property
    def _columns(self):
        return self.factors[np.newaxis]

    def plain(self, x: np.ndarray) -> np.ndarray:
        """See `Stage.plain`."""
        return x * self.factors + self.summands

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """See `Stage.compute`."""
        like = x.shares - x.shares
        y = protocol.mul(x.shares, weights[0].shares + like)
        return self._finished(protocol, y, x, weights, grid)


def _stages(layer):
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


registry.register(tf.keras.layers.BatchNormalization, stages=_stages)
