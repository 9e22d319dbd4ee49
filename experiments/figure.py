"""Runs the points of a figure over several seeds, and draws it.

  python -m experiments.figure --figure=kairouz2021/crossover --seeds=0,1,2

A paper's figures stand in its figures.json: curves of one metric over the values of one flag,
beside published points, with an audit of each run where the figure asks for one. Results go into
points.json beside it after every run, so that a figure that was interrupted goes on where it
stopped. --draw draws what there is, and runs nothing.
"""

import pathlib
import signal
import statistics
import sys

from absl import flags

from experiments import child, program, reproduce
from tfpriv import runs
from tfpriv.errors import UserError
from tfpriv.runs import json_files

FIGURES, POINTS = "figures.json", "points.json"

# A value of the flag that stands for runs without it, drawn at the right end.
_NONE = "none"
_STYLES = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#CC79A7", "linestyle": ":", "marker": "D"},
    {"color": "#E69F00", "linestyle": "-", "marker": "v"},
    {"color": "#56B4E9", "linestyle": "--", "marker": "P"},
)
_PUBLISHED_STYLES = ({"marker": "x"}, {"marker": "+"}, {"marker": "1"}, {"marker": "2"})

_FIGURE = flags.DEFINE_string("figure", None, "The figure, as paper/name.")
_DRAW = flags.DEFINE_boolean("draw", False, "Only draw the points that there are.")
_FOLDER = flags.DEFINE_string(
    "figure_dir", str(reproduce.ROOT / "docs"), "The folder for the picture."
)


def main() -> None:
    """Runs what is missing of the figure, as the flags say, and draws it."""
    presets = pathlib.Path(reproduce.PRESETS_DIR.value)
    paper, name, figure = find(presets, _FIGURE.value)
    path = presets / paper / POINTS
    points = _read(path)
    if not _DRAW.value:
        folder = pathlib.Path("runs", "figures", paper, name).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with child.ended_by(signal.SIGTERM):
            try:
                _run_missing(
                    figure,
                    points.setdefault(name, {}),
                    folder,
                    lambda: json_files.write(path, points),
                )
            except KeyboardInterrupt:
                runs.print_safely("error: interrupted; run it again to go on.", sys.stderr)
                sys.exit(program.INTERRUPTED)
    if not points.get(name):
        raise UserError(f"{path} has no points of {name}; run it without --draw.")
    picture = pathlib.Path(_FOLDER.value) / f"{paper}_{name}.png"
    draw(picture, figure, points[name])
    runs.print_safely(f"{picture}")


def find(presets: pathlib.Path, figure: str | None) -> tuple[str, str, dict]:
    """Returns the paper, the name and the description of a figure.

    Raises:
        UserError: if there is no such figure.
    """
    known = {
        f"{path.parent.name}/{name}": described
        for path in sorted(presets.glob(f"*/{FIGURES}"))
        for name, described in json_files.read(path).items()
    }
    if figure not in known:
        raise UserError(f"--figure={figure} is not known; choose one of {', '.join(known)}.")
    paper, _, name = figure.partition("/")
    return paper, name, known[figure]


def draw(path: pathlib.Path, figure: dict, points: dict) -> None:
    """Draws medians over seeds with bars from the least to the largest, and published points."""
    numbers = [float(value) for value in figure["values"] if value != _NONE]
    place = {
        str(value): 2 * max(numbers) if value == _NONE else value for value in figure["values"]
    }
    with runs.drawing(path, height=4.0) as (axes,):
        for (label, values), style in zip(points.items(), _STYLES, strict=False):
            measured = sorted((place[x], list(seeds.values())) for x, seeds in values.items())
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
        axes.figure.legend(loc="outside lower center", ncols=2, fontsize=7)


def _run_missing(figure, points, folder, save):
    seeds = reproduce.parse_seeds(reproduce.SEEDS.value)
    for seed in seeds:
        for label, own in figure["curves"].items():
            for value in figure["values"]:
                found = points.setdefault(label, {}).setdefault(str(value), {})
                if str(seed) in found:
                    continue
                stem = f"{len(list(folder.glob('*.log'))):03d}"
                arguments = [*figure["flags"], *own]
                if value == _NONE:
                    arguments += figure["flags_for_none"]
                else:
                    arguments += [
                        *figure.get("flags_for_values", ()),
                        f"--{figure['flag']}={value}",
                    ]
                arguments.append(f"--seed={seed}")
                title = f"{label}, {figure['flag']} {value}, seed {seed}"
                run = child.run(
                    figure["program"], arguments, folder / stem, folder / f"{stem}.log", title
                )
                summary = run.summary
                if "audit" in figure:
                    summary |= child.audited(run, figure["audit"], seed, title)
                found[str(seed)] = summary[figure["metric"]]
                save()
                runs.print_safely(f"{title}: {found[str(seed)]:.4g}")


def _read(path):
    try:
        return json_files.read(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or remove it.") from error


if __name__ == "__main__":
    program.run(main)
