import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tfpriv
from tfpriv import files
from tfpriv.errors import UserError
from tfpriv.runs.metrics import MetricsWriter, read_metrics

_ROOT = pathlib.Path(tfpriv.__file__).parents[1]


def test_columns_are_the_union_and_blank_where_not_measured(tmp_path):
    metrics = MetricsWriter(tmp_path)
    metrics.write(1, {"loss": 0.5})
    metrics.write(2, {"loss": 0.25, "accuracy": 0.75})
    metrics.write(3, {"accuracy": None, "clients": np.int64(118)})
    text = (tmp_path / "metrics.csv").read_text()
    assert text == "round,loss,accuracy,clients\n1,0.5,,\n2,0.25,0.75,\n3,,,118\n"


def test_values_come_back_as_they_were_written(tmp_path):
    metrics = MetricsWriter(tmp_path, "step")
    values = [0.1, 1 / 3, 1e-300, float("nan"), float("inf"), 7]
    for step, value in enumerate(values):
        metrics.write(step, {'a, "b"': value})
    columns = read_metrics(tmp_path / "metrics.csv")
    assert list(columns) == ["step", 'a, "b"']
    assert columns["step"] == list(range(6))
    assert columns['a, "b"'][:3] == values[:3]
    assert math.isnan(columns['a, "b"'][3])
    assert columns['a, "b"'][4:] == [float("inf"), 7]


def test_metrics_of_the_same_step_share_a_row(tmp_path):
    metrics = MetricsWriter(tmp_path)
    metrics.write(4, {"loss": 0.5})
    metrics.write(4, {"accuracy": 0.75})
    assert (tmp_path / "metrics.csv").read_text() == "round,loss,accuracy\n4,0.5,0.75\n"


def test_an_earlier_step_is_refused(tmp_path):
    metrics = MetricsWriter(tmp_path)
    metrics.write(4, {"loss": 0.5})
    with pytest.raises(ValueError, match="step 3 comes after step 4"):
        metrics.write(3, {"loss": 0.5})
    with pytest.raises(ValueError, match="-1"):
        MetricsWriter(tmp_path).write(-1, {})


def test_what_is_no_number_is_refused_and_changes_nothing(tmp_path):
    metrics = MetricsWriter(tmp_path)
    metrics.write(1, {"loss": 0.5})
    with pytest.raises(ValueError, match="'loss' is not a number: 'high'"):
        metrics.write(2, {"loss": "high"})
    with pytest.raises(ValueError, match="'round' names the step"):
        metrics.write(2, {"round": 2})
    assert metrics.last_step == 1


def test_a_resumed_run_writes_what_an_uninterrupted_one_writes(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()

    def measure(metrics, steps):
        for step in steps:
            evaluated = {"accuracy": step / 10} if step % 3 == 0 else {}
            metrics.write(step, {"loss": 1 / step, "clients": 100 + step, **evaluated})

    measure(MetricsWriter(whole), range(1, 10))
    measure(MetricsWriter(cut), range(1, 8))
    resumed = MetricsWriter(cut)
    assert resumed.last_step == 7
    resumed.truncate(4)
    assert resumed.last_step == 4
    measure(resumed, range(5, 10))
    assert (cut / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_truncating_before_the_first_row_drops_all(tmp_path):
    metrics = MetricsWriter(tmp_path)
    metrics.write(0, {"loss": 1.0})
    metrics.truncate(-1)
    assert metrics.last_step is None
    assert read_metrics(tmp_path / "metrics.csv") == {"round": []}
    metrics.write(0, {"accuracy": 0.5})
    assert read_metrics(tmp_path / "metrics.csv") == {"round": [0], "accuracy": [0.5]}


@pytest.mark.parametrize(
    "text",
    ["", "round,a\n1\n", "round,a\nx,1\n", "round,a\n1,high\n", "round\n2\n1\n", "round\n1\n1\n"],
)
def test_a_damaged_file_is_named_and_not_taken(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(UserError, match=r"metrics\.csv is not a metrics file"):
        MetricsWriter(tmp_path)


def test_a_file_that_counts_otherwise_is_refused(tmp_path):
    MetricsWriter(tmp_path, "step").write(1, {"loss": 0.5})
    with pytest.raises(UserError, match="counts in steps, this program in rounds"):
        MetricsWriter(tmp_path, "round")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*metrics\.csv"):
        read_metrics(tmp_path / "metrics.csv")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    metrics = MetricsWriter(tmp_path)
    metrics.write(1, {"loss": 0.5})
    before = (tmp_path / "metrics.csv").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        metrics.write(2, {"loss": 0.25})
    assert (tmp_path / "metrics.csv").read_bytes() == before
    assert not list(tmp_path.glob(".metrics*"))


def test_a_killed_process_leaves_a_whole_file(tmp_path):
    loop = (
        "import sys, itertools\n"
        "from tfpriv.runs.metrics import MetricsWriter\n"
        "metrics = MetricsWriter(sys.argv[1])\n"
        "last = -1 if metrics.last_step is None else metrics.last_step\n"
        "for step in itertools.count(last + 1):\n"
        "    metrics.write(step, {f'column_{c}': step + c / 7 for c in range(200)})\n"
    )
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", loop, tmp_path], cwd=_ROOT)
        deadline = time.monotonic() + 30
        before = _rows(tmp_path)
        while _rows(tmp_path) < before + 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(random.random() / 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        columns = read_metrics(tmp_path / "metrics.csv")
        steps = columns.pop("round")
        assert len(steps) >= before + 5
        assert steps == list(range(len(steps)))
        assert len(columns) == 200
        assert columns["column_199"] == [step + 199 / 7 for step in steps]


def _rows(directory):
    path = directory / "metrics.csv"
    return len(path.read_bytes().splitlines()) - 1 if os.path.exists(path) else 0
