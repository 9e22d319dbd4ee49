"""Starts TFF's C++ worker as a child that never outlives its parent.

Importing this module loads neither TensorFlow nor TFF, so that a program can start the worker
first and import both while it comes up.
"""

import importlib.util
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading

from tfpriv import launcher
from tfpriv.errors import UserError

_LOG_LINES_SHOWN = 15


class WorkerError(UserError):
    """The worker ended or stopped answering; the message holds the end of its log."""


class Worker:
    """One running `worker_binary`, serving TFF's executor protocol on a local port.

    The worker runs in a session of its own, so that Ctrl-C reaches Python alone, and writes to a
    log file of its own, so that it holds none of Python's pipes. The kernel kills it when the
    thread that started it ends, by whatever means: start it from the main thread.

    Attributes:
        address: `host:port` of the service.
        pid: The worker's process id.
        log_path: Where its standard output and error go.
    """

    def __init__(self, *, log_path: str | os.PathLike | None = None, cpus: int | None = None):
        """Starts the worker and returns at once; it takes about a second to listen.

        Args:
            log_path: The file for its output; a temporary file, removed by `close`, when None.
            cpus: The number of cores that it may use; all when None.

        Raises:
            UserError: if TFF's worker binary is not installed or cannot be started.
            ValueError: if not called from the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("start a Worker from the main thread: it is killed with its thread.")
        self._own_log = log_path is None
        if log_path is None:
            handle, name = tempfile.mkstemp(prefix="tfpriv-worker-", suffix=".log")
            os.close(handle)
            log_path = name
        self.log_path = pathlib.Path(log_path)
        port = _unused_port()
        self.address = f"localhost:{port}"
        allowed = sorted(os.sched_getaffinity(0))[:cpus]
        environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="1")
        # A CPU-only binary that searches for GPUs wastes its start.
        environment["CUDA_VISIBLE_DEVICES"] = ""
        # Model-sized tensors come and go with each step. By default each is mapped and unmapped,
        # page by page.
        environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31)}
        with open(self.log_path, "ab") as log:
            try:
                command = [
                    _worker_binary(),
                    f"--port={port}",
                    # A session is made for each call that runs at the same time as others.
                    # More than there are cores cost time and memory, and give nothing.
                    f"--max_concurrent_computation_calls={len(allowed)}",
                ]
                self._process = subprocess.Popen(
                    launcher.command(command, cores=allowed, dies_with_parent=True),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise UserError(
                    f"TFF's worker could not be started ({error}); reinstall with `make`."
                ) from error
        self.pid = self._process.pid

    def is_alive(self) -> bool:
        """Says whether the process still runs."""
        return self._process.poll() is None

    def ends_within(self, seconds: float) -> bool:
        """Waits for the process to end by itself; says whether it has."""
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def describe(self) -> str:
        """Returns how the process ended, or that it runs, and the last lines of its log."""
        status = self._process.poll()
        if status is None:
            state = f"is running as process {self.pid}"
        elif status < 0:
            state = f"was ended by {signal.Signals(-status).name}"
        else:
            state = f"ended with status {status}"
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        except OSError:
            lines = []
        log = "\n".join(f"  {line}" for line in lines) or "  (empty)"
        return f"it {state}; the end of its log {self.log_path}:\n{log}"

    def close(self) -> None:
        """Ends the worker and waits for it. Does nothing the second time."""
        if self.is_alive():
            self._process.kill()
        self._process.wait()
        if self._own_log:
            self.log_path.unlink(missing_ok=True)


def _worker_binary() -> str:
    # find_spec of a top-level package does not import it.
    spec = importlib.util.find_spec("tensorflow_federated")
    path = spec and pathlib.Path(spec.origin).parent / "data" / "worker_binary"
    if not path or not path.is_file():
        raise UserError(
            "TFF's worker_binary is not installed; install the project's lock with `make`."
        )
    return os.fspath(path)


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
