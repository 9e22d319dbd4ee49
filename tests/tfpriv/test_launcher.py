"""Tests of tfpriv.launcher."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tfpriv import launcher

_TELL = "import os, signal; print(os.getpid(), *os.sched_getaffinity(0)); "
_TELL += "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"


def _said(arguments, **conditions):
    """Runs a program under conditions; returns its process id and what it printed."""
    process = subprocess.Popen(
        launcher.command(arguments, **conditions), stdout=subprocess.PIPE, text=True
    )
    return process.pid, process.communicate(timeout=60)[0].splitlines()


def test_program_has_the_process_and_the_cores_of_its_command():
    core = max(os.sched_getaffinity(0))
    pid, (told, handles_ctrl_c) = _said([sys.executable, "-c", _TELL], cores=[core])
    assert told == f"{pid} {core}"
    assert handles_ctrl_c == "True"


def test_program_without_conditions_runs_as_its_parent_does():
    pid, (told, _) = _said([sys.executable, "-c", _TELL])
    assert told.split() == [str(pid), *map(str, os.sched_getaffinity(0))]


def test_program_is_searched_for_and_ends_at_a_broken_pipe():
    process = subprocess.Popen(launcher.command(["yes"]), stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    assert process.wait(timeout=20) == -signal.SIGPIPE


def test_program_dies_with_the_thread_that_started_it():
    started = []

    def start():
        started.append(subprocess.Popen(launcher.command(["sleep", "60"], dies_with_parent=True)))
        while psutil.Process(started[0].pid).name() != "sleep":
            time.sleep(0.01)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert started[0].wait(timeout=20) == -signal.SIGKILL


def test_program_whose_parent_is_gone_before_it_starts_does_not_start(tmp_path):
    command = launcher.command(["touch", str(tmp_path / "started")], dies_with_parent=True)
    own = command.index(str(os.getpid()))
    status = subprocess.run([*command[:own], "1", *command[own + 1 :]], timeout=20).returncode
    assert status == 1
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("mode", "error"), [(None, FileNotFoundError), (0o600, PermissionError)], ids=["none", "mode"]
)
def test_path_that_cannot_be_executed_is_refused(tmp_path, mode, error):
    path = tmp_path / "program"
    if mode is not None:
        path.touch()
        path.chmod(mode)
    with pytest.raises(error, match=str(path)):
        launcher.command([str(path)])


def test_file_that_is_no_program_is_an_error_of_one_line(tmp_path):
    path = tmp_path / "program"
    path.write_text("no program")
    path.chmod(0o700)
    ended = subprocess.run(
        launcher.command([str(path)]), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {path} could not be started ([Errno 8] Exec format error")


def test_no_code_runs_between_fork_and_exec():
    """A fork beside TensorFlow's and gRPC's threads can wait for ever; see the module."""
    root = launcher.__file__.rsplit("/", 2)[0]
    found = subprocess.run(
        # Mutants run in forks, of a process in which nothing of TensorFlow has run.
        ["grep", "-rlE", "preexec_" + "fn|os[.]fork", "--include=*.py", "--exclude=mutants.py"]
        + [f"{root}/{folder}" for folder in ("tfpriv", "experiments", "benchmarks", "tests")],
        capture_output=True,
        text=True,
    )
    assert found.stdout == "" and found.returncode == 1
