import io
import pathlib

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from tfpriv.errors import UserError
from tfpriv.runs import plots
from tfpriv.runs.run_directory import RunDirectory

_NAN = float("nan")


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, by their files' suffixes."""
    saved = []
    save = matplotlib.figure.Figure.savefig

    def keep(self, path, **options):
        saved.append(self)
        save(self, path, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    return saved


def _run(path, rows, step_name="round"):
    with RunDirectory.create(path, {}, program="federated", step_name=step_name) as run:
        for step, values in rows.items():
            run.metrics.write(step, values)
    return run


def _pixels(path):
    return np.asarray(Image.open(io.BytesIO(pathlib.Path(path).read_bytes())).convert("L"), float)


def test_each_metric_that_is_there_gets_its_picture(tmp_path):
    row = {
        "test_accuracy": 0.5,
        "test_loss": 1.0,
        "epsilon": 1.0,
        "epsilon_rdp": 1.1,
        "clip_norm": 0.1,
    }
    run = _run(tmp_path, {1: row, 2: {name: value * 1.5 for name, value in row.items()}})
    paths = plots.plot_run(run)
    assert [path.name for path in paths] == ["accuracy.png", "loss.png", "epsilon.png", "clip.png"]
    assert sorted(run.plots_path.iterdir()) == sorted(paths)
    for path in paths:
        assert _pixels(path).std() > 5


def test_what_was_not_measured_gets_no_picture(tmp_path):
    run = _run(tmp_path, {1: {"test_rmse": 50.0, "test_loss": _NAN, "clients": 7}})
    assert [path.name for path in plots.plot_run(run)] == ["rmse.png"]


def test_a_run_without_metrics_is_refused(tmp_path):
    run = RunDirectory.create(tmp_path, {}, program="federated")
    with pytest.raises(UserError, match=r"metrics\.csv"):
        plots.plot_run(run)


def test_axes_and_curves_are_those_of_the_metrics(tmp_path, figures):
    rows = {
        0: {"train_loss": 3.0},
        5: {"test_loss": 2.0, "train_loss": 1.5},
        10: {"test_loss": float("inf"), "train_loss": _NAN},
        15: {"test_loss": 1.0},
    }
    plots.plot_run(_run(tmp_path, rows, "step"))
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == "Step"
    assert axes.get_ylabel() == "Loss"
    curves = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert curves == {"test": [[5, 2.0], [15, 1.0]], "train": [[0, 3.0], [5, 1.5]]}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["test", "train"]


def test_one_measurement_can_be_seen(tmp_path):
    points = tmp_path / "points.png"
    nothing = tmp_path / "nothing.png"
    plots.plot_metric(points, {"test": ([1], [0.5])}, xlabel="Round", ylabel="Accuracy")
    plots.plot_metric(nothing, {}, xlabel="Round", ylabel="Accuracy")
    middle = (slice(200, 400), slice(300, 700))
    colored = np.asarray(Image.open(points).convert("RGB"), int)[middle]
    assert (colored[..., 2] - colored[..., 0] > 100).any()  # blue
    blank = np.asarray(Image.open(nothing).convert("RGB"), int)[middle]
    assert not (blank[..., 2] - blank[..., 0] > 100).any()


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(self, file, **_):
        pathlib.Path(file).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        plots.plot_metric(path, {"a": ([1], [1.0])}, xlabel="Round", ylabel="A")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
