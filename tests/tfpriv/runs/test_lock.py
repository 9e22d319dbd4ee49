import os
import pathlib
import subprocess
import sys

import pytest

import tfpriv
from tfpriv.errors import UserError
from tfpriv.runs.lock import Lock

_ROOT = pathlib.Path(tfpriv.__file__).parents[1]


def test_a_second_holder_is_refused_and_the_first_is_named(tmp_path):
    held = Lock(tmp_path)
    with pytest.raises(UserError, match=rf"in use by another run \(process {os.getpid()}\)"):
        Lock(tmp_path)
    held.release()


def test_an_earlier_holder_is_not_named(tmp_path):
    (tmp_path / ".lock").write_text("123456789\n")
    held = Lock(tmp_path)
    with pytest.raises(UserError, match=rf"\(process {os.getpid()}\)"):
        Lock(tmp_path)
    held.release()


def test_a_released_directory_can_be_taken_again(tmp_path):
    held = Lock(tmp_path)
    held.release()
    held.release()
    Lock(tmp_path).release()


def test_a_killed_holder_lets_go(tmp_path):
    hold = (
        "import sys, time; from tfpriv.runs.lock import Lock\n"
        "held = Lock(sys.argv[1]); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold, tmp_path], cwd=_ROOT, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"process {process.pid}"):
            Lock(tmp_path)
        process.kill()
    Lock(tmp_path).release()


def test_a_child_that_outlives_its_parent_does_not_keep_the_directory(tmp_path):
    held = Lock(tmp_path)
    child = subprocess.Popen(["sleep", "60"])
    held.release()
    try:
        Lock(tmp_path).release()
    finally:
        child.kill()
        child.wait()
