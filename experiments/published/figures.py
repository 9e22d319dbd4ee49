"""A paper's figures: curves of one metric over the values of one flag, beside published points.

Beside the points of a figure, points.json keeps the command that each value of a curve was run
with; when figures.json has changed since, the figure is refused. Points without one, from before
this was kept, are taken as they are.
"""

import itertools
import pathlib
import shlex
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

from experiments.published import child
from tfpriv import runs
from tfpriv.errors import UserError
from tfpriv.runs import json_files

FIGURES, POINTS = "figures.json", "points.json"

# In points.json: before a figure's name, the key of the commands that its points were run with.
_COMMANDS = "commands of "

# A value of the flag that stands for runs without it, drawn at the right end.
_NONE = "none"
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#CC79A7", "linestyle": ":", "marker": "D"},
    {"color": "#E69F00", "linestyle": "-", "marker": "v"},
    {"color": "#56B4E9", "linestyle": "--", "marker": "P"},
)
# Longer names in a legend stand one below the other.
_LONGEST_BESIDE_ANOTHER = 36
_PUBLISHED_STYLES: tuple[dict[str, Any], ...] = (
    {"marker": "x"},
    {"marker": "+"},
    {"marker": "1"},
    {"marker": "2"},
)

# What the description of a figure holds.
_TEXTS = ("title", "program", "metric", "ylabel", "flag", "xlabel")
_OPTIONAL_FLAGS = ("flags_for_values", "flags_for_none", "audit")


def find(presets: pathlib.Path, figure: str | None) -> tuple[str, str, dict]:
    """Returns the paper, the name and the description of a figure.

    Raises:
        UserError: if there is no such figure, or a figures.json is damaged or incomplete.
    """
    known = {}
    for path in sorted(presets.glob(f"*/{FIGURES}")):
        try:
            for name, described in json_files.read(path).items():
                _check(name, described)
                known[f"{path.parent.name}/{name}"] = described
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} cannot be used ({type(error).__name__}: {error}); restore it."
            ) from error
    if figure not in known:
        raise UserError(f"--figure={figure} is not known; choose one of {', '.join(known)}.")
    paper, _, name = figure.partition("/")
    return paper, name, known[figure]


class Points:
    """The points of a figure that have been run, as a points.json holds them."""

    def __init__(self, paper: pathlib.Path, name: str, figure: dict, folder: pathlib.Path):
        """Reads them.

        Args:
            paper: The folder of the paper's presets.
            name: The figure's.
            figure: Its description, from `find`.
            folder: Where points.json is kept; where it has none, the paper's points are the first.

        Raises:
            UserError: points.json is damaged, or has points that were run with other flags.
        """
        self._path, self._figure = folder / POINTS, figure
        self._everything = _read(self._path if self._path.exists() else paper / POINTS)
        self._points = self._everything.setdefault(name, {})
        self._commands = self._everything.setdefault(f"{_COMMANDS}{name}", {})
        _refuse_other_commands(self._path, figure, self._points, self._commands)

    @property
    def path(self) -> pathlib.Path:
        """Where they are kept."""
        return self._path

    def __bool__(self) -> bool:
        """Whether there are any."""
        return any(self._points.get(label) for label in self._figure["curves"])

    def run_missing(self, seeds: Sequence[int], folder: pathlib.Path) -> None:
        """Runs the points that are missing for these seeds, and writes points.json after each.

        Args:
            seeds: One run each for every value of every curve.
            folder: Where the run directories and their output go.

        Raises:
            UserError: A folder cannot be written to, a run failed, or its summary has no such
                metric.
        """
        refuse_unwritable(folder, "start in another folder")
        refuse_unwritable(self._path.parent, "give another --presets_dir")
        figure = self._figure
        for seed, label, value in itertools.product(seeds, figure["curves"], figure["values"]):
            known = self._points.get(label, {}).get(str(value), {})
            if str(seed) in known:
                continue
            stem = f"{len(list(folder.glob('*.log'))):03d}"
            arguments = [*_arguments(figure, label, value), f"--seed={seed}"]
            title = f"{label}, {figure['flag']} {value}, seed {seed}"
            run = child.run(
                figure["program"], arguments, folder / stem, folder / f"{stem}.log", title
            )
            summary = run.final_summary
            if "audit" in figure:
                summary |= child.audited(run, figure["audit"], seed, title)
            measured = summary.get(figure["metric"])
            if not _is_number(measured):
                raise UserError(
                    f"the summary of {title} has {measured} for the metric "
                    f"{figure['metric']!r} of {FIGURES}; name one of "
                    f"{', '.join(key for key, item in summary.items() if _is_number(item))}."
                )
            self._points.setdefault(label, {})[str(value)] = {**known, str(seed): measured}
            self._commands.setdefault(label, {})[str(value)] = _command(figure, label, value)
            json_files.write(self._path, self._everything)
            runs.print_safely(f"{title}: {measured:.4g}")

    def draw(self, picture: pathlib.Path) -> None:
        """Draws them, and what was published, into a PNG file."""
        draw(picture, self._figure, self._points)


def draw(path: pathlib.Path, figure: dict, points: dict) -> None:
    """Draws medians over seeds with bars from the least to the largest, and published points."""
    numbers = [float(value) for value in figure["values"] if value != _NONE]
    place = {
        str(value): 2 * max(numbers) if value == _NONE else value for value in figure["values"]
    }
    with runs.drawing(path, height=4.0) as (axes,):
        for label, style in zip(figure["curves"], _STYLES, strict=False):
            curve = points.get(label, {})
            measured = sorted((place[x], list(curve[x].values())) for x in place if curve.get(x))
            if not measured:
                continue
            medians = [statistics.median(ys) for _, ys in measured]
            bars = [
                [m - min(ys) for m, (_, ys) in zip(medians, measured, strict=True)],
                [max(ys) - m for m, (_, ys) in zip(medians, measured, strict=True)],
            ]
            axes.errorbar(
                [x for x, _ in measured],
                medians,
                bars,
                label=label,
                markersize=4,
                capsize=2,
                **style,
            )
        for (label, published), style in zip(
            figure.get("published", {}).items(), _PUBLISHED_STYLES, strict=False
        ):
            xs, ys = zip(*published["points"], strict=True)
            axes.plot(xs, ys, label=label, color="#555555", linestyle="none", **style)
        axes.set_xscale("log", base=2)
        names = ["no noise" if value == _NONE else f"{value:g}" for value in figure["values"]]
        axes.set_xticks(list(place.values()), names)
        axes.set_xlabel(figure["xlabel"])
        axes.set_ylabel(figure["ylabel"])
        axes.set_title(figure["title"], fontsize=9)
        longest = max(map(len, axes.get_legend_handles_labels()[1]))
        columns = 2 if longest <= _LONGEST_BESIDE_ANOTHER else 1
        axes.figure.legend(loc="outside lower center", ncols=columns, fontsize=7)


def _arguments(figure, label, value):
    """Returns the flags of a point but for --seed."""
    arguments = [*figure["flags"], *figure["curves"][label]]
    if value == _NONE:
        return [*arguments, *figure["flags_for_none"]]
    return [*arguments, *figure.get("flags_for_values", ()), f"--{figure['flag']}={value}"]


def _command(figure, label, value):
    """Returns what decides a point but for the seed, as it stands in points.json."""
    words = [figure["metric"], "of"]
    if "audit" in figure:
        words += ["audit", *figure["audit"], "of"]
    return shlex.join([*words, figure["program"], *_arguments(figure, label, value)])


def _refuse_other_commands(path, figure, points, commands):
    """Raises UserError if there are points that were run with something else than now."""
    for label in figure["curves"]:
        for value in figure["values"]:
            now = _command(figure, label, value)
            before = commands.get(label, {}).get(str(value), now)
            if points.get(label, {}).get(str(value)) and before != now:
                raise UserError(
                    f"{path} has points of the curve {label!r} that were run with "
                    f"{_only(before, now)}, where {FIGURES} now has {_only(now, before)}; remove "
                    "the curve's points there to run them again, or restore the flags."
                )


def _only(command, other):
    """Returns the words of a command that are not in the other one, for a message."""
    words = [word for word in shlex.split(command) if word not in shlex.split(other)]
    return " ".join(words) or "the same without them or in another order"


def _check(name, figure):
    """Raises ValueError if a figure's description is not complete."""

    def refuse(key, wanted):
        given = repr(figure[key]) if key in figure else "missing"
        raise ValueError(f"{key} of {name} is {given}; it must be {wanted}")

    for key in _TEXTS:
        if not isinstance(figure.get(key), str):
            refuse(key, "a text")
    values = figure.get("values")
    if not isinstance(values, list) or not all(v == _NONE or _is_number(v) for v in values):
        refuse("values", f"a list of numbers and {_NONE!r}")
    if not any(_is_number(value) for value in values):
        refuse("values", "a list with at least one number")
    curves = figure.get("curves")
    if not isinstance(curves, dict) or not curves or not all(map(_is_texts, curves.values())):
        refuse("curves", "lists of flags by label")
    needed = {"flags", *(key for key in _OPTIONAL_FLAGS if key in figure)}
    if _NONE in values:
        needed.add("flags_for_none")
    for key in sorted(needed):
        if not _is_texts(figure.get(key)):
            refuse(key, "a list of flags")
    for label, published in figure.get("published", {}).items():
        if not published["points"] or not all(
            len(point) == 2 and all(map(_is_number, point)) for point in published["points"]
        ):
            raise ValueError(f"the points of {label} in {name} must be pairs of numbers")


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_texts(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def refuse_unwritable(folder: pathlib.Path, advice: str) -> None:
    """Makes a folder; raises UserError if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}); {advice}.") from error


def _read(path):
    """Returns what points.json holds; empty before there are points."""
    try:
        everything = json_files.read(path)
        for name, curves in everything.items():
            for label, values in curves.items():
                for value, item in values.items():
                    if name.startswith(_COMMANDS):
                        is_right = isinstance(item, str)
                    else:
                        is_right = all(map(_is_number, item.values()))
                    if not is_right:
                        raise ValueError(f"{name}, {label}, {value} is {item!r}")
        return everything
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or remove it.") from error
