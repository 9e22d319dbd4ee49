"""Dense layers."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfpriv.secure.layers import registry
from tfpriv.secure.layers.activation import activation_stages, trained_activation
from tfpriv.secure.layers.grid import Grid
from tfpriv.secure.layers.keras_layers import refuse
from tfpriv.secure.layers.trained import Part, TrainedLayer, capped, grid_step, square_sum
from tfpriv.secure.layers.weighted import Linear, kernel_and_bias
from tfpriv.secure.protocols import fixed_point
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.fixed_point import Fixed
from tfpriv.secure.protocols.protocol import Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense(Linear):
    """y = x W + b, over the last axis."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        """See `Stage.plain`."""
        return x @ self.factors + self.summands

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """See `Stage.compute`."""
        rows = x.shape
        flat = x.shares
        if len(rows) > 2:
            flat = protocol.reshape(flat, [int(np.prod(rows[:-1])), rows[-1]])
        y = protocol.matmul(flat, weights[0].shares)
        y = self._finished(protocol, y, x, weights, grid)
        if len(rows) > 2:
            y = y.with_shares(protocol.reshape(y.shares, [*rows[:-1], self.factors.shape[1]]))
        return y


class TrainedDense(TrainedLayer):
    """y = x W + b."""

    kind: ClassVar[str] = "Dense"
    num_weights: ClassVar[int] = 2
    can_clip: ClassVar[bool] = True

    def forward(
        self, prot: Protocol, weights: Sequence[Any], x: PrivateTensor
    ) -> tuple[PrivateTensor, PrivateTensor]:
        """See `TrainedLayer.forward`."""
        kernel, bias = weights
        return prot.matmul(x, kernel) + bias, x

    def gradients(
        self, prot: Protocol, weights: Sequence[Any], cache: PrivateTensor, d_y: PrivateTensor
    ) -> list[PrivateTensor]:
        """See `TrainedLayer.gradients`."""
        return [
            fixed_point.matmul(prot, prot.transpose(cache), d_y),
            fixed_point.at_twice_the_scale(prot, d_y.reduce_sum(axis=0)),
        ]

    def d_input(
        self, prot: Protocol, weights: Sequence[Any], cache: PrivateTensor, d_y: PrivateTensor
    ) -> PrivateTensor:
        """See `TrainedLayer.d_input`."""
        return prot.matmul(d_y, prot.transpose(weights[0]))

    def part(self, prot: Protocol, cache: PrivateTensor, d_y: PrivateTensor) -> Part:
        """See `TrainedLayer.part`."""
        a_squared = prot.truncate(square_sum(prot, cache)) + (1 + grid_step(prot))
        return _DensePart(cache, d_y, *capped(prot, a_squared))


class _DensePart(Part):
    """a is the layer's input, with a 1 for the bias, and d the gradient of its output.

    The gradient is their outer product, of the squared norm (|a|^2 + 1) |d|^2 (Goodfellow 2015,
    "Efficient per-example gradient computations"), and scaling it is scaling d.
    """

    def squared(self, prot):
        return self.a_squared * prot.truncate(square_sum(prot, self.d))

    def sums(self, prot, d):
        kernel = fixed_point.matmul(prot, prot.transpose(self.a), d)
        return [kernel, fixed_point.at_twice_the_scale(prot, d.reduce_sum(axis=0))]


def _stages(layer):
    kernel, bias = kernel_and_bias(layer, layer.units)
    return [
        Dense(name=layer.name, factors=kernel, summands=bias),
        *activation_stages(layer, layer.activation),
    ]


def _trained(layer):
    if not layer.use_bias:
        refuse(layer, "no bias", "use_bias=True", "trained")
    if len(layer.input_shape) != 2:
        refuse(layer, "inputs of several axes", "Flatten first", "trained")
    return [TrainedDense(), *trained_activation(layer)]


registry.register(tf.keras.layers.Dense, stages=_stages, trained=_trained)
