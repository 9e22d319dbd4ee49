"""Sampled batches in few tensor shapes: padded, or split where they are too large, never cut."""

import math

import numpy as np

from tfpriv.privacy import Sampler

_OVERFLOW_PROBABILITY = 1e-6


class Batches:
    """Lays the members of a step out in chunks, whose gradient sums add up to the step's.

    A chunk is a row of member numbers with -1 for padding. Its width is a multiple of a granule, so
    that a run meets a handful of shapes; padding every batch to the largest would cost a third more
    time at an expected size of 256.

    Attributes:
        capacity: The number of members that a step of the whole run exceeds with a probability of
            at most 1e-6.
        width: The largest width of a chunk.
        usual_widths: That of a step of the expected size, and the largest.
    """

    def __init__(
        self, sampler: Sampler, steps: int, accumulate_steps: int = 1, largest: int | None = None
    ) -> None:
        """Chooses the shapes.

        Args:
            sampler: Who draws the members.
            steps: The number of steps of the run, at least 1.
            accumulate_steps: In how many chunks a step is taken.
            largest: No chunk may be wider; None for no limit.
        """
        self.capacity = sampler.largest_size(_OVERFLOW_PROBABILITY / steps)
        self._granule = max(1, round(math.sqrt(self.capacity / accumulate_steps) / 2))
        width = self._rounded(math.ceil(self.capacity / accumulate_steps))
        self.width = width if largest is None else min(width, largest)
        self._accumulate_steps = accumulate_steps
        usual = self._rounded(math.ceil(sampler.expected_size / accumulate_steps))
        self.usual_widths = tuple(sorted({min(usual, self.width), self.width}))

    def chunks(self, members: np.ndarray) -> list[np.ndarray]:
        """Returns the chunks of a step, int64 [width] each, and one even without any member.

        Args:
            members: [n] member numbers. More than `capacity` make more chunks.
        """
        count = max(self._accumulate_steps, math.ceil(len(members) / self.width))
        return [self._padded(part) for part in np.array_split(members, count)]

    def _padded(self, members):
        width = min(self._rounded(max(1, len(members))), self.width)
        return np.pad(members, (0, width - len(members)), constant_values=-1)

    def _rounded(self, number):
        return -(-number // self._granule) * self._granule


def rows_of(values: np.ndarray, chunk: np.ndarray) -> np.ndarray:
    """Returns the rows of a chunk, [width, ...], with zeros in the place of padding.

    Args:
        values: [n, ...], the features or labels of all members.
        chunk: [width] member numbers, and behind them -1 for padding.
    """
    members = chunk[chunk >= 0]
    rows = np.zeros((len(chunk), *values.shape[1:]), values.dtype)
    rows[: len(members)] = values[members]
    return rows
