"""What a layer is in inference on shares: a row of stages, from one tensor to the next.

Tensors keep Keras's layout, [batch, height, width, channels]. Each stage reads and gives numbers on
grids that `tfpriv.secure.inference.grids` chooses.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tfpriv.secure.layers.grid import Grid, room_for
from tfpriv.secure.protocols.fixed_point import Fixed
from tfpriv.secure.protocols.protocol import Protocol

# A number never gets more bits than these, of its largest value.
MOST_BITS = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(abc.ABC):
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

    @abc.abstractmethod
    def plain(self, x: np.ndarray) -> np.ndarray:
        """Returns in plaintext what the stage gives, float64 of shape [n, ...]."""

    @abc.abstractmethod
    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """Returns on shares what the stage gives.

        Args:
            protocol: A running protocol.
            x: Private, of shape [batch, ...].
            weights: Private, as `weights` of this stage.
            grid: What was chosen for the stage.
        """

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
