"""How fine the grid is on which the numbers of a layer lie.

A number x on a grid of b bits is the whole number x 2^b.
"""

import dataclasses
import math

from tfpriv.secure.protocols import fixed_point

# No bound is taken for smaller than this, nor a weight.
_SMALLEST = 2.0**-40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """What is chosen for a stage.

    Attributes:
        reads: The bound of the magnitudes that it reads, a power of two.
        gives: The bound of what it gives.
        bits_read: The grid of what it reads.
        weights: The grid of its weights.
        bits_given: The grid of what it gives.
    """

    reads: float
    gives: float
    bits_read: int
    weights: int
    bits_given: int


def log2(size: float) -> int:
    """Returns the least whole number whose power of two is at least `size`."""
    return math.ceil(math.log2(max(size, _SMALLEST)))


def room_for(bound: float) -> int:
    """Returns the finest grid on which numbers of at most `bound` fit the ring."""
    return fixed_point.RING_BITS - log2(bound)
