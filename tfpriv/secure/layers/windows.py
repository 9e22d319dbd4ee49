"""The windows of an image, and on shares the largest value or the sum of each."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.protocol import Protocol


@dataclasses.dataclass(frozen=True)
class Windows:
    """The windows along one side: how many, how large, how far apart, and where the first is."""

    side: int
    size: int
    stride: int
    count: int
    before: int

    @classmethod
    def of(cls, side: int, size: int, stride: int, padding: str) -> "Windows":
        if padding == "valid":
            return cls(side, size, stride, (side - size) // stride + 1, 0)
        count = -(-side // stride)
        return cls(side, size, stride, count, max((count - 1) * stride + size - side, 0) // 2)

    @property
    def after(self) -> int:
        """How far the last window reaches beyond the side."""
        return max((self.count - 1) * self.stride + self.size - self.side - self.before, 0)

    def slices(self) -> list[slice]:
        starts = [i * self.stride - self.before for i in range(self.count)]
        return [slice(max(start, 0), min(start + self.size, self.side)) for start in starts]

    def members(self) -> list[slice]:
        """For each place in a window, the slice of the padded side that it has in all windows."""
        end = (self.count - 1) * self.stride + 1
        return [slice(i, i + end, self.stride) for i in range(self.size)]


def max_pool(
    protocol: Protocol, x: PrivateTensor, rows: Windows, columns: Windows
) -> PrivateTensor:
    """Returns the largest value in each window, by comparing halves of the windows' members.

    What lies beyond the image's sides is a copy of the sides, which changes no maximum.
    """
    x = _extend(protocol, x, 1, rows)
    x = _extend(protocol, x, 2, columns)
    members = [x[:, r, c, :] for r in rows.members() for c in columns.members()]
    while len(members) > 1:
        half = len(members) // 2
        pairs = [_stack(protocol, part) for part in (members[:half], members[half : 2 * half])]
        larger = protocol.maximum(*pairs)
        members = _unstack(larger, half) + members[2 * half :]
    return members[0]


def sums_of_windows(
    protocol: Protocol, x: PrivateTensor, rows: Windows, columns: Windows
) -> PrivateTensor:
    """Returns the sum of each window; what lies beyond the image's sides adds nothing."""
    x = _extend(protocol, x, 1, rows, with_zeros=True)
    x = _extend(protocol, x, 2, columns, with_zeros=True)
    members = [x[:, r, c, :] for r in rows.members() for c in columns.members()]
    total = members[0]
    for member in members[1:]:
        total = total + member
    return total


def window_sizes(rows: Windows, columns: Windows) -> np.ndarray:
    """Returns how many members lie within the image's sides, for each window, [rows, columns]."""
    high, wide = ([s.stop - s.start for s in side.slices()] for side in (rows, columns))
    return np.outer(high, wide)


def _extend(protocol, x, axis, windows, with_zeros=False):
    if not windows.before and not windows.after:
        return x
    lines = [slice(None)] * 4
    lines[axis] = slice(0, 1)
    first = x[tuple(lines)]
    lines[axis] = slice(windows.side - 1, windows.side)
    last = x[tuple(lines)]
    if with_zeros:
        first = last = first - first
    return protocol.concat([first] * windows.before + [x] + [last] * windows.after, axis=axis)


def _stack(protocol, parts):
    return parts[0] if len(parts) == 1 else protocol.concat(parts, axis=0)


def _unstack(x, count):
    if count == 1:
        return [x]
    size = static(x.shape)[0] // count
    return [x[i * size : (i + 1) * size] for i in range(count)]


def static(shape: Iterable[int]) -> list[int]:
    """Returns a shape whose sizes are all known as numbers."""
    return [int(size) for size in shape]
