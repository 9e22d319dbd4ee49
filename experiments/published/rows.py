"""Published rows: what a preset is expected to reach, and whether runs have reached it.

A folder of presets is a paper: `<row>.flags` for each row, `expected.json` with what was published,
and `results.json` with what was reached here.
"""

import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from math import isfinite

from tfpriv.errors import UserError
from tfpriv.runs import json_files

EXPECTED = "expected.json"

# How a median is compared with the published value v and tolerance t.
_COMPARISONS = {
    "at_most": lambda median, v, t: median - (v + t),
    "at_least": lambda median, v, t: (v - t) - median,
    "within": lambda median, v, t: abs(median - v) - t,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One published number, and what counts as having reached it.

    Attributes:
        metric: A key of summary.json.
        value: The published value, in the metric's unit.
        source: Where it stands: table or section.
        comparison: at_most (value + tolerance), at_least (value - tolerance), or within
            (value +- tolerance).
        tolerance: In the metric's unit, at least 0.
        why: Why that tolerance.
    """

    metric: str
    value: float
    source: str
    comparison: str
    tolerance: float
    why: str

    def __post_init__(self):
        for name in ("metric", "source", "why"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value.strip()):
                raise ValueError(f"{name} is {value!r}; it must be a text")
        for name in ("value", "tolerance"):
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, int | float) and isfinite(value)):
                raise ValueError(f"{name} of {self.metric} is {value!r}; it must be a number")
        if self.tolerance < 0:
            raise ValueError(f"tolerance of {self.metric} is {self.tolerance}; it is below 0")
        if self.comparison not in _COMPARISONS:
            raise ValueError(
                f"comparison of {self.metric} is {self.comparison!r}; it must be one of "
                f"{', '.join(_COMPARISONS)}"
            )

    def judge(self, values: Sequence[float | None]) -> dict:
        """Compares the median of several runs with the published value.

        Args:
            values: One a run; None where a run did not get there. More than half of them None
                make the median None.

        Returns:
            `median`, `reached`, and `missed_by`: how far the median is beyond what is allowed, in
            the metric's unit; None if it is reached, or if there is no median.
        """
        # A run that never got there is worse than any that did, on whichever side that is.
        worst = float("-inf" if self.comparison == "at_least" else "inf")
        median = statistics.median(worst if value is None else value for value in values)
        if abs(median) == float("inf"):
            return {"median": None, "reached": False, "missed_by": None}
        excess = _COMPARISONS[self.comparison](median, self.value, self.tolerance)
        # What was written in decimal does not add up to the last bit.
        reached = excess <= 1e-9 * abs(self.value)
        return {"median": median, "reached": reached, "missed_by": None if reached else excess}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One published row.

    Attributes:
        paper: The folder's name.
        name: The preset's name, without `.flags`.
        title: What the row is, for a table.
        program: The module in `experiments` that runs it.
        audit: Flags of the audit of the run whose figures are compared too; empty for none.
        preset: The flag file.
        checks: What was published; at least one.
    """

    paper: str
    name: str
    title: str
    program: str
    audit: tuple[str, ...]
    preset: pathlib.Path
    checks: tuple[Check, ...]

    def flags(self) -> list[str]:
        """Returns the preset's flags, without comments and empty lines."""
        lines = (line.strip() for line in self.preset.read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line and not line.startswith(("#", "//"))]


def papers(presets: pathlib.Path) -> list[str]:
    """Returns the names of the papers in a folder of presets, sorted."""
    return sorted(path.parent.name for path in presets.glob(f"*/{EXPECTED}"))


def read_paper(presets: pathlib.Path, paper: str) -> tuple[str, dict[str, Row]]:
    """Returns a paper's full reference and its rows by name, in the order of its expected.json.

    Args:
        presets: The folder of presets.
        paper: The name of a folder in it.

    Raises:
        UserError: if there is no such paper, or its expected.json is damaged or incomplete.
    """
    path = presets / paper / EXPECTED
    try:
        content = json_files.read(path)
        rows = {name: _row(presets / paper, name, entry) for name, entry in content["rows"].items()}
        return str(content["paper"]), rows
    except FileNotFoundError as error:
        raise UserError(
            f"--preset names the paper {paper!r}, which has no {path}; choose one of "
            f"{', '.join(papers(presets))}."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be used ({type(error).__name__}: {error}); restore it."
        ) from error


def find_row(presets: pathlib.Path, preset: str) -> Row:
    """Returns the row that `preset`, paper/row, names.

    Raises:
        UserError: if there is none.
    """
    paper, slash, name = preset.removesuffix(".flags").partition("/")
    if not slash or not paper or not name:
        raise UserError(
            f"--preset={preset} must be paper/row; the papers are {', '.join(papers(presets))}."
        )
    _, rows = read_paper(presets, paper)
    if name not in rows:
        raise UserError(
            f"--preset={preset} is not in {presets / paper / EXPECTED}; its rows are "
            f"{', '.join(rows)}."
        )
    if not rows[name].preset.is_file():
        raise UserError(f"--preset={preset} has no flag file {rows[name].preset}; restore it.")
    return rows[name]


def _row(folder: pathlib.Path, name: str, entry: Mapping) -> Row:
    checks = tuple(Check(**check) for check in entry["checks"])
    if not checks:
        raise ValueError(f"{name} has no checks")
    return Row(
        paper=folder.name,
        name=name,
        title=entry["title"],
        program=entry["program"],
        audit=tuple(entry.get("audit", ())),
        preset=folder / f"{name}.flags",
        checks=checks,
    )
