"""Notices on shares that training has left the range of numbers that fixed point holds.

Sums of products have twice the fractional bits, so on a grid of 16 bits they must stay below 2^29.
Public bounds are chosen so that they do, whatever numbers keep them: a sum of n products is at most
n times both bounds. Whether numbers keep theirs is compared on shares, and one bit is opened for
each layer's outputs, gradients, weights and optimizer's state.
"""

import math
from collections.abc import Iterable, Sequence

import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.layers.trained import TrainedLayer
from tfpriv.secure.protocols import fixed_point
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.protocol import Protocol

# What each number that a layer gives stays below, and at most each gradient and each weight.
_LARGEST = 2.0**9
# A step doubles a sum at most, before it is looked at.
_SPARE_BITS = 1


class Check:
    """What is looked at while the graph of a step is built.

    Attributes:
        names: What each bit is about.
        bits: Tensors of the graph: 1 if a number is beyond its bound.
    """

    def __init__(self, prot: Protocol, network: Sequence[TrainedLayer]) -> None:
        """Looks at nothing yet.

        Args:
            prot: The protocol.
            network: Layers, as `backpropagation.network_of` returns them.
        """
        self.names: list[str] = []
        self.bits: list[tf.Tensor] = []
        self._prot = prot
        self._layers = _names(network)

    def outputs(self, layer: int, x: PrivateTensor) -> None:
        """Looks at what a layer gives, by its number in the network, if it has weights."""
        self._add("outputs", layer, x, _LARGEST)

    def gradients(self, layer: int, d_y: PrivateTensor) -> None:
        """Looks at the gradient with respect to what a layer gives, [batch, ..., channels]."""
        rows = math.prod(int(n) for n in d_y.shape[:-1])
        self._add("gradients", layer, d_y, min(self._sum_bound / (rows * _LARGEST), _LARGEST))

    def weights(self, layer: int, kernel: PrivateTensor) -> None:
        """Looks at a kernel, [inputs, outputs] or [height, width, in, out]."""
        *inputs, outputs = (int(n) for n in kernel.shape)
        terms = max(math.prod(inputs), math.prod(inputs[:-1]) * outputs)
        self._add("weights", layer, kernel, min(self._sum_bound / (terms * _LARGEST), _LARGEST))

    def state(self, layer: int, slot: PrivateTensor, bound: float) -> None:
        """Looks at a tensor of the optimizer's."""
        self._add("sums of gradients", layer, slot, bound)

    def refuse(self, opened: Iterable[tf.Tensor], when: str) -> None:
        """Raises UserError, naming the layer, if a bit is set.

        Args:
            opened: The bits that were opened.
            when: Such as "at step 100".
        """
        for name, bit in zip(self.names, opened, strict=True):
            if int(bit):
                raise UserError(
                    f"{when}, {name} are beyond what fixed point holds on shares, so all that "
                    "follows would be wrong; lower --learning_rate, or scale the features or the "
                    "labels."
                )

    @property
    def _sum_bound(self):
        point = self._prot.fixedpoint_config
        return 2.0 ** (fixed_point.RING_BITS - _SPARE_BITS - 2 * point.precision_fractional)

    def _add(self, what, layer, x, bound):
        if self._layers[layer] is None:
            return
        x = fixed_point.on_own_grid(self._prot, x)
        self.names.append(f"the {what} of {self._layers[layer]}")
        self.bits.append(
            fixed_point.reveal(self._prot, fixed_point.any_beyond(self._prot, x, bound))
        )


def _names(network):
    """Returns, by number, which of the layers with weights it is, such as `Dense layer 2`."""
    count, names = 0, []
    for layer in network:
        count += bool(layer.num_weights)
        names.append(f"{layer.kind} layer {count}" if layer.num_weights else None)
    return names
