"""What a layer is in training on shares: forward, and back.

tf-encrypted's own layers compute the gradient with respect to the data, which nobody needs and
which is a third of the work of a dense network, and compare anew in the backward pass what the
forward pass compared. These are made of its protocol's operations, keep the bits of each
comparison, and read Keras's layout: [batch, height, width, channels], kernels [h, w, in, out].
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tfpriv.secure.protocols import fixed_point
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.protocol import Protocol

# An example with a larger |a|^2 in some layer counts nothing: it would leave no room for |d|^2.
_LARGEST_FACTOR = 2.0**18

Sides = tuple[int, ...]


class TrainedLayer(abc.ABC):
    """A layer of a network that is trained on shares.

    The last five are for private training, which takes the layers of this package alone: that the
    clip holds is proved for each of them.

    Attributes:
        kind: What messages call it.
        num_weights: How many weights it has: a kernel and a bias, or none.
        can_clip: Whether it is known in private training: a layer with weights by its `part`, one
            without because no norm, of its outputs or of gradients, grows in it.
        overlap: By how many outputs of one channel an input is read at most.
    """

    kind: ClassVar[str]
    num_weights: ClassVar[int] = 0
    can_clip: ClassVar[bool] = False

    @abc.abstractmethod
    def forward(
        self, prot: Protocol, weights: Sequence[Any], x: PrivateTensor
    ) -> tuple[PrivateTensor, Any]:
        """Returns the output, and what is needed on the way back.

        Args:
            prot: The protocol.
            weights: Its weights, all private or all public.
            x: [batch, ...].
        """

    def gradients(
        self, prot: Protocol, weights: Sequence[Any], cache: Any, d_y: PrivateTensor
    ) -> list[PrivateTensor]:
        """Returns the gradients of its weights, summed over the batch, at twice the scale.

        Args:
            prot: The protocol.
            weights: As in `forward`.
            cache: What `forward` returned beside the output.
            d_y: The gradient of the output.
        """
        return []

    @abc.abstractmethod
    def d_input(
        self, prot: Protocol, weights: Sequence[Any], cache: Any, d_y: PrivateTensor
    ) -> PrivateTensor:
        """Returns the gradient of the input; see `gradients`."""

    def sides_after(self, sides: Sides) -> Sides:
        """Returns height and width of what it gives for images of such sides."""
        return sides

    def places(self, sides: Sides) -> int:
        """Returns at how many places it adds its bias, for images of such sides."""
        return 1

    @property
    def overlap(self) -> int:
        """See the class."""
        return 1

    def largest_part(self, inputs: float, d_y: float, places: int) -> float:
        """Returns what no number is above that `part` makes of an example, 0 if it makes none.

        Args:
            inputs: What the norm of what it reads is at most.
            d_y: What the norm of the gradient of its output is at most.
            places: At how many places it adds its bias.
        """
        return 0.0

    def part(self, prot: Protocol, cache: Any, d_y: PrivateTensor) -> "Part":
        """Returns what each example's gradient of its weights is made of; see `gradients`."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Part(abc.ABC):
    """What an example's gradient in one layer is made of: products of numbers of a and of d.

    Attributes:
        a: [batch, n].
        d: [batch, m].
        a_squared: [batch, 1], |a|^2, rounded up; 0 where it is too large.
        is_small: [batch, 1] bits: whether it is not.
    """

    a: PrivateTensor
    d: PrivateTensor
    a_squared: PrivateTensor
    is_small: PrivateTensor

    @abc.abstractmethod
    def squared(self, prot: Protocol) -> PrivateTensor:
        """Returns about the squared norm of the gradient, [batch, 1]."""

    @abc.abstractmethod
    def sums(self, prot: Protocol, d: PrivateTensor) -> list[PrivateTensor]:
        """Returns the gradients of kernel and bias for these d, summed, at twice the scale."""

    def times(self, prot: Protocol, factor: PrivateTensor) -> "Part":
        """Returns the part of the gradient times a factor for each example, [batch, 1]."""
        width = int(self.d.shape[1])
        repeated = factor if width == 1 else prot.tile(factor, [1, width])
        return dataclasses.replace(self, d=self.d * repeated)


def square_sum(prot: Protocol, x: PrivateTensor) -> PrivateTensor:
    """Returns the sums of the squares of rows, [batch, 1], at twice the scale."""
    return fixed_point.product(prot, x, x).reduce_sum(axis=1, keepdims=True)


def capped(prot: Protocol, a_squared: PrivateTensor) -> tuple[PrivateTensor, PrivateTensor]:
    """Returns squared norms, 0 where they are too large, and bits: where they are not."""
    is_small = a_squared <= _LARGEST_FACTOR
    return prot.mul_ab(a_squared, is_small), is_small


def ones(prot: Protocol, batch: int) -> Any:
    """Returns public ones, [batch, 1]."""
    return prot.define_constant(np.ones([batch, 1]))


def grid_step(prot: Protocol) -> float:
    """Returns the step of the protocol's own grid."""
    return 2.0**-prot.fixedpoint_config.precision_fractional
