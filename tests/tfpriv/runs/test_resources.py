import pathlib
import subprocess
import sys

import pytest

import tfpriv
from tfpriv.runs import resources

_ROOT = pathlib.Path(tfpriv.__file__).parents[1]
_MEGABYTE = 1_000_000


def _measure(code):
    code = "from tfpriv.runs.resources import *\nimport subprocess, sys, time\n" + code
    output = subprocess.check_output([sys.executable, "-c", code], cwd=_ROOT, text=True)
    return [float(word) for word in output.split()]


def test_the_peak_counts_what_was_given_back():
    before, after = _measure(
        "print(peak_memory_bytes()); x = bytes(b'x') * 80_000_000; del x\n"
        "print(peak_memory_bytes())"
    )
    assert 75 * _MEGABYTE < after - before < 90 * _MEGABYTE


def test_the_peak_counts_children_of_children():
    hold = "x = bytes(b'x') * 80_000_000; print(flush=True); input()"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    alone, together = _measure(
        "print(peak_memory_bytes())\n"
        f"child = subprocess.Popen([sys.executable, '-c', {start!r}],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(peak_memory_bytes()); child.communicate(b'x')"
    )
    assert together - alone > 80 * _MEGABYTE


def test_a_small_child_of_a_big_parent_counts_as_small():
    alone, together = _measure(
        "x = bytes(b'x') * 200_000_000; print(peak_memory_bytes())\n"
        "child = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdin.write(b'x\\n'); child.stdin.flush(); child.stdout.readline()\n"
        "print(peak_memory_bytes()); child.communicate()"
    )
    assert together - alone < 20 * _MEGABYTE


def test_a_process_that_is_gone_holds_nothing():
    process = subprocess.Popen(["true"])
    process.wait()
    assert resources._peak_bytes(process.pid) == 0


def test_time_counts_from_the_start_of_the_process():
    first, second = _measure(
        "print(seconds_since_process_start()); time.sleep(0.5)\n"
        "print(seconds_since_process_start())"
    )
    assert first > 0.02  # Python's own start is in it.
    assert second - first == pytest.approx(0.5, abs=0.2)
    assert first < 20
