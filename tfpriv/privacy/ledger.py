"""Which steps really ran, for a run that may have been interrupted."""

import json
import pathlib
from collections.abc import Sequence

from tfpriv import files
from tfpriv.errors import UserError


class Ledger:
    """The steps that a run has released, in spans without a break.

    A step is recorded before anything of its result is saved or shown. If the run is killed
    between the record and the checkpoint, the step runs again and is counted twice.

    Attributes:
        spans: [[first step, one past the last], ...] in the order in which they ran.
        segment: The number of the span that this ledger adds: how often the run was
            interrupted before.
    """

    def __init__(self, spans: Sequence[Sequence[int]] = ()) -> None:
        """Starts from earlier spans, as they were read from a file."""
        self.spans = [[first, end] for first, end in spans]
        self.segment = len(self.spans)
        self._new = True

    @classmethod
    def read(cls, path: pathlib.Path) -> "Ledger":
        """Returns the ledger of an interrupted run from its file, an empty one if there is none.

        Raises:
            UserError: if the file is damaged: epsilon would be a guess.
        """
        try:
            spans = json.loads(path.read_text())
            _check(spans)
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}), and with it the count of the steps that ran; start "
                "the run anew in another --output_dir."
            ) from error
        return cls(spans)

    def refuse_gap(self, done: int, path: pathlib.Path) -> None:
        """Refuses to go on from a checkpoint that has seen steps which are not recorded.

        Args:
            done: How many steps the checkpoint has seen.
            path: The ledger's file.

        Raises:
            UserError: if one of them is missing: epsilon would be too low.
        """
        recorded = max((end for _, end in self.spans), default=0)
        if recorded < done:
            raise UserError(
                f"{path} counts {recorded} steps, and the last checkpoint has seen {done}; epsilon "
                "would be too low: restore the file, or start the run anew in another --output_dir."
            )

    def write(self, path: pathlib.Path) -> None:
        """Writes the spans to a file, for `read`."""
        files.write_text(path, json.dumps(self.spans) + "\n")

    def record(self, step: int) -> None:
        """Adds a step; the first one since this ledger was made starts a span."""
        if self._new:
            self.spans.append([step, step])
            self._new = False
        if self.spans[-1][1] != step:
            raise ValueError(f"step {step} does not follow on {self.spans[-1]}.")
        self.spans[-1][1] = step + 1

    @property
    def steps(self) -> int:
        """How many steps ran, repeated ones counted each time."""
        return sum(end - first for first, end in self.spans)

    @property
    def repeated_steps(self) -> int:
        """How many steps ran that had run before."""
        return self.steps - len({s for first, end in self.spans for s in range(first, end)})

    def segments(self, steps_per_pass: int | None = None) -> list[int]:
        """Returns the lengths of the spans, as `PrivacyPlan.event` takes them.

        Args:
            steps_per_pass: Where given, spans are cut at its multiples too.
        """
        if steps_per_pass is None:
            return [end - first for first, end in self.spans]
        cut = []
        for first, end in self.spans:
            while first < end:
                stop = min(end, (first // steps_per_pass + 1) * steps_per_pass)
                cut.append(stop - first)
                first = stop
        return cut


def _check(spans):
    """Raises ValueError or TypeError unless these spans can have run: without a gap."""
    reached = 0
    for first, end in spans:
        if type(first) is not int or type(end) is not int or not 0 <= first < end:
            raise ValueError(f"[{first}, {end}] is no span of steps")
        if first > reached:
            raise ValueError(f"steps {reached} to {first} are missing")
        reached = max(reached, end)
