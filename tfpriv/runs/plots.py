"""Pictures of a run's metrics."""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfpriv import files
from tfpriv.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Picture, label of its y axis, and the columns of metrics.csv with their names in the legend.
_PICTURES = (
    ("accuracy", "Accuracy", {"test_accuracy": "test", "train_accuracy": "train"}),
    ("loss", "Loss", {"test_loss": "test", "train_loss": "train"}),
    ("rmse", "Root mean squared error", {"test_rmse": "test", "train_rmse": "train"}),
    ("epsilon", "Epsilon spent", {"epsilon": "epsilon", "epsilon_rdp": "by RDP"}),
    ("clip", "Clipping norm", {"clip_norm": "clipping norm"}),
)

# The first two of Okabe and Ito's colors, which people with color blindness tell apart, and lines
# that a black-and-white print tells apart.
_LINES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "linestyle": "-"},
    {"color": "#D55E00", "linestyle": "--"},
)
_STYLE: dict[Any, object] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}


def plot_run(run: RunDirectory) -> list[pathlib.Path]:
    """Draws the metrics of a run that are to be had, each by round or step.

    Args:
        run: A run; accuracy, loss, RMSE, epsilon and clipping norm are drawn from those of the
            columns test_accuracy, train_accuracy, test_loss, train_loss, test_rmse, train_rmse,
            epsilon, epsilon_rdp and clip_norm that metrics.csv has.

    Returns:
        The pictures written, such as plots/accuracy.png.

    Raises:
        UserError: if the run has no metrics.csv.
    """
    columns = run.read_metrics()
    step_name, steps = next(iter(columns.items()))
    written = []
    for picture, label, legend in _PICTURES:
        curves = {legend[name]: _finite(steps, columns[name]) for name in legend if name in columns}
        curves = {name: points for name, points in curves.items() if points[0]}
        if curves:
            path = run.plots_path / f"{picture}.png"
            plot_metric(path, curves, xlabel=step_name.capitalize(), ylabel=label)
            written.append(path)
    return written


def plot_metric(
    path: str | os.PathLike,
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
) -> None:
    """Draws up to two curves into one picture.

    Args:
        path: The picture, for example a .png or .pdf; its suffix names the format.
        curves: The steps and the values by the curve's name. A legend is drawn for more than one.
        xlabel: The label of the axis of the steps.
        ylabel: The label of the axis of the values.
    """
    from matplotlib.ticker import MaxNLocator

    with drawing(path) as (axes,):
        for (name, (steps, values)), line in zip(curves.items(), _LINES, strict=False):
            marker = "o" if len(steps) <= 15 else None
            axes.plot(steps, values, label=name, marker=marker, markersize=3.5, **line)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if len(curves) > 1:
            axes.legend()


@contextlib.contextmanager
def drawing(
    path: str | os.PathLike, *, columns: int = 1, height: float = 3.0
) -> Iterator[tuple["Axes", ...]]:
    """Makes a picture in the house's style: yields its axes, and writes it when they are drawn on.

    Args:
        path: The picture, for example a .png or .pdf; its suffix names the format.
        columns: How many axes, side by side.
        height: In inches; each of the axes is 4.5 wide.

    Yields:
        A tuple of matplotlib's axes.
    """
    # matplotlib takes a second to import. Its objects, and not pyplot, because pyplot keeps state
    # of the whole process, which a user's own code may rely on.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.5 * columns, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield tuple(figure.subplots(1, columns, squeeze=False)[0])
        with files.replacing(path) as temporary:
            figure.savefig(temporary, dpi=200)


def _finite(steps, values):
    """Returns the steps and the values where there is a value that can be drawn."""
    points = [
        (step, value)
        for step, value in zip(steps, values, strict=True)
        if value is not None and math.isfinite(value)
    ]
    return [step for step, _ in points], [value for _, value in points]
