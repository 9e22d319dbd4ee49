"""Layers that change the shape of an example, or nothing."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfpriv.secure.layers import registry
from tfpriv.secure.layers.grid import Grid
from tfpriv.secure.layers.keras_layers import refuse_channels_first
from tfpriv.secure.layers.stage import Stage
from tfpriv.secure.layers.trained import TrainedLayer
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.fixed_point import Fixed
from tfpriv.secure.protocols.protocol import Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reshape(Stage):
    """The same numbers in another shape."""

    shape: tuple[int, ...]

    def plain(self, x: np.ndarray) -> np.ndarray:
        """See `Stage.plain`."""
        return x.reshape(len(x), *self.shape)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """See `Stage.compute`."""
        return x.with_shares(protocol.reshape(x.shares, [x.shape[0], *self.shape]))


class TrainedFlatten(TrainedLayer):
    """One row an example."""

    kind: ClassVar[str] = "Flatten"
    can_clip: ClassVar[bool] = True

    def forward(
        self, prot: Protocol, weights: Sequence[Any], x: PrivateTensor
    ) -> tuple[PrivateTensor, list[int]]:
        """See `TrainedLayer.forward`."""
        shape = [int(n) for n in x.shape]
        return prot.reshape(x, [shape[0], math.prod(shape[1:])]), shape

    def d_input(
        self, prot: Protocol, weights: Sequence[Any], cache: list[int], d_y: PrivateTensor
    ) -> PrivateTensor:
        """See `TrainedLayer.d_input`."""
        return prot.reshape(d_y, cache)


def _flatten(layer):
    refuse_channels_first(layer)
    return [Reshape(name=layer.name, shape=(int(np.prod(layer.input_shape[1:])),))]


def _reshape(layer):
    return [Reshape(name=layer.name, shape=tuple(layer.output_shape[1:]))]


registry.register(
    tf.keras.layers.Flatten, stages=_flatten, trained=lambda layer: [TrainedFlatten()]
)
registry.register(tf.keras.layers.Reshape, stages=_reshape)
registry.register(tf.keras.layers.Dropout, stages=lambda layer: [])
