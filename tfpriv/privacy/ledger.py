"""Which steps really ran, for a run that may have been interrupted."""

from collections.abc import Sequence


class Ledger:
    """The steps that a run has released, in stretches without a break.

    A step is recorded before anything of its result is saved or shown. If the run is killed
    between the record and the checkpoint, the step runs again and is counted twice.

    Attributes:
        stretches: [[first step, one past the last], ...] in the order in which they ran.
        segment: The number of the stretch that this ledger adds: how often the run was
            interrupted before.
    """

    def __init__(self, stretches: Sequence[Sequence[int]] = ()):
        """Starts from earlier stretches, as they were read from a file."""
        self.stretches = [[int(first), int(end)] for first, end in stretches]
        self.segment = len(self.stretches)
        self._new = True

    def record(self, step: int) -> None:
        """Adds a step; the first one since this ledger was made starts a stretch."""
        if self._new:
            self.stretches.append([step, step])
            self._new = False
        if self.stretches[-1][1] != step:
            raise ValueError(f"step {step} does not follow on {self.stretches[-1]}.")
        self.stretches[-1][1] = step + 1

    @property
    def steps(self) -> int:
        """How many steps ran, repeated ones counted each time."""
        return sum(end - first for first, end in self.stretches)

    @property
    def repeated_steps(self) -> int:
        """How many steps ran that had run before."""
        return self.steps - len({s for first, end in self.stretches for s in range(first, end)})

    def segments(self, steps_per_pass: int | None = None) -> list[int]:
        """Returns the lengths of the stretches, as `PrivacyPlan.event` takes them.

        Args:
            steps_per_pass: Where given, stretches are cut at its multiples too.
        """
        if steps_per_pass is None:
            return [end - first for first, end in self.stretches]
        cut = []
        for first, end in self.stretches:
            while first < end:
                stop = min(end, (first // steps_per_pass + 1) * steps_per_pass)
                cut.append(stop - first)
                first = stop
        return cut
