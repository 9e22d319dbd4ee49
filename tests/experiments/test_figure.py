"""A figure's points are run once each, kept, and drawn."""

import json
import os
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
    _describe(folder.parent)
    return folder.parent


def _describe(presets, **changes):
    figure = {key: item for key, item in (FIGURE | changes).items() if item is not None}
    (presets / "paper2020" / "figures.json").write_text(json.dumps({"curve": figure}))


def _refused(done):
    """Returns the one sentence of a program that was refused."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def _figure(presets, *more, figure="paper2020/curve", folder=None, cwd=None):
    more = [*more, "--record", f"--figure_dir={folder or presets.parent}"]
    return _run(presets, *more, figure=figure, cwd=cwd)


def _run(presets, *more, figure="paper2020/curve", cwd=None):
    command = [sys.executable, "-m", "experiments.figure", f"--figure={figure}", *more]
    command += [f"--presets_dir={presets}"]
    return subprocess.run(
        command,
        cwd=cwd or presets.parent,
        capture_output=True,
        text=True,
        env=_environment(),
        timeout=300,
    )


def _environment():
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


@pytest.mark.slow
def test_what_is_not_to_be_recorded_stays_in_a_folder_of_its_own(presets):
    path = presets / "paper2020" / "points.json"
    made = json.dumps({"curve": {"DP-SGD": {"1": {"0": 0.25}}}})
    path.write_text(made)
    folder = presets.parent / "runs" / "figures" / "paper2020" / "curve"
    for more, runs in ((("--draw",), 0), ((), 1), ((), 1)):
        done = _run(presets, *more)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == str(folder / "paper2020_curve.png")
        assert len(list(folder.rglob("summary.json"))) == runs
    assert path.read_text() == made
    points = json.loads((folder / "points.json").read_text())["curve"]["DP-SGD"]
    assert points["1"] == {"0": 0.25} and 0 < points["8"]["0"] < 1


@pytest.mark.slow
def test_points_of_other_flags_are_refused_until_they_are_removed(presets):
    path = presets / "paper2020" / "points.json"
    _describe(presets, values=[8])
    assert _figure(presets).returncode == 0
    written = json.loads(path.read_text())
    assert written["commands of curve"] == {
        "DP-SGD": {
            "8": "test_accuracy of central --dataset=digits --model=logistic --epochs=1 "
            "--mechanism=dpsgd --target_epsilon=8"
        }
    }
    flags = ["--dataset=digits", "--model=logistic", "--epochs=2"]
    _describe(presets, values=[8], flags=flags)
    for more in ((), ("--draw",)):
        error = _refused(_figure(presets, *more))
        assert "points of the curve 'DP-SGD' that were run with --epochs=1" in error
        assert "now has --epochs=2; remove the curve's points" in error
    # A value that was not there before, and another title, take nothing from the points.
    _describe(presets, values=[8, "none"], flags_for_none=["--mechanism=none"], title="New")
    assert _figure(presets, "--draw").returncode == 0
    _describe(presets, values=[8], flags=flags)
    path.write_text(json.dumps(written | {"curve": {}}))
    assert _figure(presets).returncode == 0
    assert "--epochs=2" in json.loads(path.read_text())["commands of curve"]["DP-SGD"]["8"]


def test_points_of_curves_and_values_that_are_gone_are_not_drawn(presets):
    made = {"curve": {"DP-SGD": {"1": {"0": 0.25}, "4": {"0": 0.5}}, "gone": {"1": {"0": 0.5}}}}
    (presets / "paper2020" / "points.json").write_text(json.dumps(made))
    done = _figure(presets, "--draw")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": None}, "values of curve is missing; it must be a list of numbers and 'none'"),
        ({"values": ["none"]}, "it must be a list with at least one number"),
        ({"values": [1, "none"]}, "flags_for_none of curve is missing; it must be a list of flags"),
        ({"flag": None}, "flag of curve is missing; it must be a text"),
        ({"flags": "--epochs=1"}, "flags of curve is '--epochs=1'; it must be a list of flags"),
        ({"curves": {"a": "--epochs=1"}}, "it must be lists of flags by label"),
        ({"audit": [1]}, "audit of curve is [1]; it must be a list of flags"),
        ({"published": {"theirs": {"points": [1, 2]}}}, "TypeError"),
        ({"published": {"theirs": {"points": [[1]]}}}, "must be pairs of numbers"),
    ],
)
def test_incomplete_figure_is_refused_in_a_sentence(presets, changes, message):
    _describe(presets, **changes)
    error = _refused(_figure(presets))
    assert "figures.json cannot be used" in error and message in error


@pytest.mark.parametrize("content", ['{"curve": {', "[]", '{"curve": []}'])
@pytest.mark.parametrize("name", ["figures.json", "points.json"])
def test_damaged_file_is_refused_in_a_sentence(presets, name, content):
    path = presets / "paper2020" / name
    path.write_text(content)
    assert _refused(_figure(presets)).startswith(f"error: {path} ")


def test_folder_that_cannot_be_written_to_is_refused_before_anything_runs(presets):
    for more in ((), ("--draw",)):
        (presets / "paper2020" / "points.json").write_text(
            '{"curve": {"DP-SGD": {"1": {"0": 0.5}}}}'
        )
        error = _refused(_figure(presets, *more, folder="/proc/zz"))
        assert "/proc/zz cannot be written to" in error and "give another --figure_dir" in error
    assert not (presets.parent / "runs").exists()


def test_metric_that_a_summary_lacks_is_named(presets):
    _describe(presets, values=[8], metric="test_acuracy")
    error = _refused(_figure(presets))
    assert "None for the metric 'test_acuracy'" in error and "test_accuracy" in error
    assert not (presets / "paper2020" / "points.json").exists()


@pytest.mark.parametrize("paper", ["papernot2020", "kairouz2021", "audits"])
def test_points_that_are_checked_in_are_drawn(tmp_path, paper):
    presets = ROOT / "experiments" / "presets"
    for name in json.loads((presets / paper / "points.json").read_text()):
        if name.startswith("commands of "):
            continue
        done = _figure(presets, "--draw", figure=f"{paper}/{name}", folder=tmp_path, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_unknown_figure_and_missing_points_are_refused(presets):
    done = _figure(presets, figure="paper2020/other")
    assert done.returncode == 2 and "choose one of paper2020/curve" in done.stderr
    done = _figure(presets, "--draw")
    assert done.returncode == 2 and "has no points of curve" in done.stderr
