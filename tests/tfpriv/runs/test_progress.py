import contextlib
import fcntl
import io
import os
import pathlib
import pty
import struct
import subprocess
import sys
import termios

import pytest

import tfpriv
from tfpriv.runs import progress
from tfpriv.runs.progress import Progress

_ROOT = pathlib.Path(tfpriv.__file__).parents[1]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to go on."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_without_a_terminal_there_is_a_line_a_tenth(clock):
    stream = io.StringIO()
    with Progress(100, stream=stream) as bar:
        for step in range(1, 101):
            clock.now += 2
            bar.update(step, accuracy=0.5 if step % 5 == 0 else None, epsilon=step / 50)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "round 10/100: accuracy 0.500, epsilon 0.2, 2 s/round, 3 min 00 s left"
    assert lines[-1] == "round 100/100: accuracy 0.500, epsilon 2, 2 s/round"
    assert "\r" not in stream.getvalue()


def test_slow_rounds_have_a_line_every_thirty_seconds(clock):
    stream = io.StringIO()
    with Progress(1000, stream=stream, unit="step") as bar:
        for step in range(1, 13):
            clock.now += 10
            bar.update(step)
    lines = stream.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == [f"step {n}/1000" for n in (3, 6, 9, 12)]


def test_a_run_that_stops_early_shows_where(clock):
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress(100, stream=stream) as bar:
        bar.update(3, accuracy=0.25)
        raise KeyboardInterrupt
    assert stream.getvalue().startswith("round 3/100: accuracy 0.250")


def test_a_resumed_run_goes_on_counting(clock):
    stream = io.StringIO()
    with Progress(100, initial=50, stream=stream) as bar:
        for step in range(51, 101):
            clock.now += 1
            bar.update(step)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0] == "round 60/100: 1 s/round, 40 s left"


def test_the_first_slow_round_does_not_spoil_the_forecast(clock):
    stream = io.StringIO()
    with Progress(10, stream=stream) as bar:
        for step in range(1, 4):
            clock.now += 60 if step == 1 else 1
            bar.update(step)
    assert stream.getvalue().splitlines()[-1].endswith("1 s/round, 7 s left")


def test_values_that_are_not_finite_are_shown(clock):
    stream = io.StringIO()
    with Progress(1, stream=stream) as bar:
        bar.update(1, loss=float("nan"), rmse=12345.6)
    assert stream.getvalue() == "round 1/1: loss nan, rmse 1.23e+04, 0 s/round\n"


def test_a_reader_that_goes_away_does_not_stop_the_run(clock):
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", buffering=1)
    with Progress(4, stream=stream) as bar:
        for step in range(1, 5):
            bar.update(step)
    assert bar._stream._stream is None
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_closed_stream_is_no_error():
    stream = io.StringIO()
    stream.close()
    with Progress(1, stream=stream) as bar:
        bar.update(1)


_TRAIN = """
from tfpriv.runs import Progress, print_safely
import sys, time
with Progress(50) as bar:
    for step in range(1, 51):
        time.sleep(0.01)
        bar.update(step, accuracy=step / 50)
open(sys.argv[1], "w").write("done")
print_safely("first\\nsecond\\n" * 50000)
"""


@pytest.mark.parametrize("pipe", ["2>&1 | head -n 1", "2>&- | head -n 1", "2>&- >&-"])
def test_a_program_ends_well_when_nobody_reads(tmp_path, pipe):
    done, errors = tmp_path / "done", tmp_path / "errors"
    command = f'set -o pipefail; "$0" -c "$1" "$2" {pipe}'
    with open(errors, "w") as file:
        subprocess.run(
            ["bash", "-c", command, sys.executable, _TRAIN, done],
            cwd=_ROOT,
            stdout=subprocess.DEVNULL,
            stderr=file,
            check=True,
            timeout=60,
        )
    assert done.read_text() == "done"
    assert errors.read_text() == ""


def _on_a_terminal(columns):
    """Returns what the program shows on a terminal, up to each carriage return or newline."""
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAIN, os.devnull],
        cwd=_ROOT,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        stdout=subprocess.DEVNULL,
        stderr=side,
    )
    os.close(side)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other side is closed.
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    assert process.wait() == 0
    frames = shown.decode().replace("\n", "\r").split("\r")
    return [frame for frame in frames if frame.strip()]


def test_on_a_terminal_there_is_a_bar_as_wide_as_it():
    frames = _on_a_terminal(80)
    assert len(frames) > 2
    assert frames[-1].startswith("round 50/50 |█")
    assert "accuracy 1.000" in frames[-1]
    assert all(len(frame) <= 80 for frame in frames)


def test_on_a_terminal_without_a_width_there_are_lines():
    frames = _on_a_terminal(0)
    assert len(frames) == 10
    assert frames[-1].startswith("round 50/50: accuracy 1.000")
