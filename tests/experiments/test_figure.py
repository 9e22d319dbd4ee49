"""A figure's points are run once each, kept, and drawn."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FIGURE = {
    "title": "Digits",
    "program": "central",
    "metric": "test_accuracy",
    "ylabel": "Test accuracy",
    "flag": "target_epsilon",
    "xlabel": "Epsilon",
    "values": [1, 8],
    "flags": ["--dataset=digits", "--model=logistic", "--epochs=1"],
    "curves": {"DP-SGD": ["--mechanism=dpsgd"]},
    "published": {"theirs": {"source": "nowhere", "points": [[1, 0.5], [8, 0.6]]}},
}


@pytest.fixture(name="presets")
def _presets(tmp_path):
    folder = tmp_path / "presets" / "paper2020"
    folder.mkdir(parents=True)
    (folder / "figures.json").write_text(json.dumps({"curve": FIGURE}))
    return folder.parent


def _figure(presets, *more, figure="paper2020/curve"):
    command = [sys.executable, "-m", "experiments.figure", f"--figure={figure}", *more]
    command += [f"--presets_dir={presets}", f"--figure_dir={presets.parent}"]
    return subprocess.run(
        command, cwd=presets.parent, capture_output=True, text=True, env=_environment(), timeout=300
    )


def _environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_points_are_run_once_and_drawn(presets):
    path = presets / "paper2020" / "points.json"
    made = {"curve": {"DP-SGD": {"1": {"0": 0.25}}}}  # As an interrupted figure leaves them.
    path.write_text(json.dumps(made))
    done = _figure(presets)
    assert done.returncode == 0, done.stderr
    points = json.loads(path.read_text())["curve"]["DP-SGD"]
    assert points["1"] == {"0": 0.25}
    assert 0 < points["8"]["0"] < 1
    assert len(list((presets.parent / "runs").rglob("summary.json"))) == 1
    picture = presets.parent / "paper2020_curve.png"
    assert picture.stat().st_size > 10_000
    picture.unlink()
    assert _figure(presets, "--draw").returncode == 0
    assert picture.exists()


def test_unknown_figure_and_missing_points_are_refused(presets):
    done = _figure(presets, figure="paper2020/other")
    assert done.returncode == 2 and "choose one of paper2020/curve" in done.stderr
    done = _figure(presets, "--draw")
    assert done.returncode == 2 and "has no points of curve" in done.stderr
