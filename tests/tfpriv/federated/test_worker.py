"""Tests of tfpriv.federated.worker. They load no TensorFlow: the worker is a process by itself."""

import os
import pathlib
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import psutil
import pytest

from tfpriv.errors import UserError
from tfpriv.federated import worker
from tfpriv.federated.worker import Worker
from tfpriv.listening import native


def _gone(pid, seconds=10.0) -> bool:
    """Waits for a process to end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def _wait_for_its_program(worker) -> None:
    """Waits for the process to run `worker_binary`: until exec ends, it has no environment."""
    process = psutil.Process(worker.pid)
    while process.name() != "worker_binary" or not process.environ():
        assert worker.is_alive()
        time.sleep(0.01)


def _python(code) -> subprocess.Popen:
    """Starts a Python that starts a worker, prints its pid and goes on as `code` says."""
    start = "import os, time\nfrom tfpriv.federated.worker import Worker\nw = Worker()\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + "print(w.pid, flush=True)\n" + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_close_ends_it_and_removes_its_log_and_may_be_called_again():
    found = Worker()
    assert found.is_alive()
    assert found.log_path.exists()
    found.close()
    assert not found.is_alive()
    assert _gone(found.pid, 0.1)
    assert not found.log_path.exists()
    found.close()


def test_its_end_can_be_waited_for():
    found = Worker()
    assert not found.ends_within(0.05)
    os.kill(found.pid, signal.SIGKILL)
    assert found.ends_within(10.0)
    found.close()


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_close_ends_a_worker_that_was_killed_or_stopped(stop):
    found = Worker()
    os.kill(found.pid, stop)
    found.close()
    assert _gone(found.pid, 0.1)


@pytest.mark.parametrize(
    "end",
    ["pass", "raise RuntimeError", "os._exit(3)", "os.kill(os.getpid(), 9)", "os.abort()"],
)
def test_no_way_for_its_parent_to_end_leaves_it_behind(end):
    parent = _python(end)
    pid = int(parent.stdout.readline())
    parent.wait(timeout=20)
    assert _gone(pid)
    parent.stdout.close()


def test_ctrl_c_reaches_the_parent_alone():
    parent = _python("time.sleep(60)")
    pid = int(parent.stdout.readline())
    assert os.getpgid(pid) != os.getpgid(parent.pid)
    assert psutil.pid_exists(pid)
    parent.send_signal(signal.SIGINT)
    parent.wait(timeout=20)
    assert _gone(pid)
    parent.stdout.close()


def test_it_holds_none_of_its_parents_pipes_and_sees_no_gpu():
    found = Worker()
    _wait_for_its_program(found)
    ours = {os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)} - {"/dev/null"}
    theirs = {os.readlink(f"/proc/{found.pid}/fd/{n}") for n in (0, 1, 2)}
    environment = pathlib.Path(f"/proc/{found.pid}/environ").read_bytes().split(b"\0")
    found.close()
    assert not ours & theirs
    assert str(found.log_path) in theirs
    assert b"CUDA_VISIBLE_DEVICES=" in environment


def test_a_log_of_ones_own_is_kept(tmp_path):
    found = Worker(log_path=tmp_path / "worker.log")
    found.close()
    assert (tmp_path / "worker.log").exists()


def test_it_keeps_to_the_cores_it_was_given():
    found = Worker(cpus=1)
    _wait_for_its_program(found)
    cores = os.sched_getaffinity(found.pid)
    found.close()
    assert cores == set(sorted(os.sched_getaffinity(0))[:1])


def test_description_says_how_it_ended_and_shows_the_end_of_its_log(tmp_path):
    log = tmp_path / "worker.log"
    found = Worker(log_path=log)
    assert f"it is running as process {found.pid}" in found.describe()
    found.close()
    log.write_text("".join(f"line {n}\n" for n in range(100)))
    description = found.describe()
    assert "it was ended by SIGKILL" in description
    assert "line 99" in description
    assert "line 84" not in description
    log.unlink()
    assert "(empty)" in found.describe()


def test_its_folder_is_of_its_user_alone_and_goes_with_it():
    found = Worker()
    folder = pathlib.Path(found.address.removeprefix("unix:")).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    found.close()
    assert not folder.exists()


def test_without_the_native_library_it_is_not_started(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    native.load.cache_clear()
    try:
        with pytest.raises(UserError, match=r"tfpriv.listening is not built .*make install"):
            Worker()
    finally:
        native.load.cache_clear()
    assert [*tmp_path.iterdir()] == []


def test_another_thread_than_the_main_one_is_refused():
    refused = []

    def start():
        try:
            Worker()
        except ValueError as error:
            refused.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in refused[0]


def test_a_missing_binary_is_refused_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(worker.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="worker_binary is not installed; install"):
        Worker()


def test_a_binary_that_cannot_run_is_refused_with_the_remedy(monkeypatch, tmp_path):
    broken = tmp_path / "worker_binary"
    broken.touch()
    monkeypatch.setattr(worker, "_worker_binary", lambda: os.fspath(broken))
    with pytest.raises(UserError, match=r"could not be started .*Permission denied.*make"):
        Worker()
