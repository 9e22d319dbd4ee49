"""Starts TFF's C++ worker as a child that never outlives its parent.

Importing this module loads neither TensorFlow nor TFF, so that a program can start the worker
first and import both while it comes up.
"""

import errno
import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading

from tfpriv import launcher, listening
from tfpriv.errors import UserError

_LOG_LINES_SHOWN = 15


class WorkerError(UserError):
    """The worker ended or stopped answering; the message holds the end of its log."""


class Worker:
    """One running `worker_binary`, serving TFF's executor protocol to this user alone.

    The worker would listen on every address of the machine, and it runs any graph for anybody. So
    the library of `tfpriv.listening` puts a Unix socket in the place of its port, in a folder that
    nobody else can enter. The port that it is told is one that this process holds: a worker that
    the library had no effect on cannot bind it, and ends.

    The worker runs in a session of its own, so that Ctrl-C reaches Python alone, and writes to a
    log file of its own, so that it holds none of Python's pipes. The kernel kills it when the
    thread that started it ends, by whatever means: start it from the main thread.

    Attributes:
        address: What gRPC connects to: `unix:` and the path of the socket.
        pid: The worker's process id.
        log_path: Where its standard output and error go.
    """

    def __init__(
        self, *, log_path: str | os.PathLike | None = None, cpus: int | None = None
    ) -> None:
        """Starts the worker and returns at once; it takes about a second to listen.

        Args:
            log_path: The file for its output; a temporary file, removed by `close`, when None.
            cpus: The number of cores that it may use; all when None.

        Raises:
            UserError: if TFF's worker binary or the native library is missing, or the worker cannot
                be started.
            ValueError: if not called from the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("start a Worker from the main thread: it is killed with its thread.")
        self._held_port = _held_port()
        self._folder = listening.private_folder()
        try:
            path = self._folder / "socket"
            self.address = f"unix:{path}"
            self.log_path = pathlib.Path(log_path or self._folder / "log")
            self._process = self._start(listening.child_environment(path, self._folder), cpus)
        except BaseException:
            self._tidy()
            raise
        self.pid = self._process.pid

    def _start(self, listens, cpus):
        allowed = sorted(os.sched_getaffinity(0))[:cpus]
        environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="1", **listens)
        # A CPU-only binary that searches for GPUs wastes its start.
        environment["CUDA_VISIBLE_DEVICES"] = ""
        # Model-sized tensors come and go with each step. By default each is mapped and unmapped,
        # page by page.
        environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31)}
        command = [
            _worker_binary(),
            f"--port={self._held_port.getsockname()[1]}",
            # A session is made for each call that runs at the same time as others. More than there
            # are cores cost time and memory, and give nothing.
            f"--max_concurrent_computation_calls={len(allowed)}",
        ]
        with open(self.log_path, "ab") as log:
            try:
                return subprocess.Popen(
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

    def refuse_ports(self) -> None:
        """Ends the worker if it listens at a port, or has ended because it was to and could not.

        Raises:
            UserError: in either case.
        """
        if self.is_alive():
            open_ports = listening.ports(self.pid)
        else:
            taken = os.strerror(errno.EADDRINUSE) in "".join(self._log_lines())
            open_ports = {self._held_port.getsockname()[:2]} if taken else set()
        if open_ports:
            self.close()
            places = ", ".join(listening.written(*port) for port in sorted(open_ports))
            raise UserError(
                f"TFF's worker was ended, as it does not keep from listening at {places}, where "
                "others can have it run what they like; build the native library anew with `make "
                "install`, and see that nothing on this machine keeps LD_PRELOAD from working."
            )

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
        lines = self._log_lines()[-_LOG_LINES_SHOWN:]
        log = "\n".join(f"  {line}" for line in lines) or "  (empty)"
        return f"it {state}; the end of its log {self.log_path}:\n{log}"

    def close(self) -> None:
        """Ends the worker and waits for it. Does nothing the second time."""
        if self.is_alive():
            self._process.kill()
        self._process.wait()
        self._tidy()

    def _log_lines(self):
        try:
            return self.log_path.read_text(errors="replace").splitlines()
        except OSError:
            return []

    def _tidy(self):
        self._held_port.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _worker_binary() -> str:
    # find_spec of a top-level package does not import it.
    spec = importlib.util.find_spec("tensorflow_federated")
    package = pathlib.Path(spec.origin).parent if spec and spec.origin else None
    path = package and package / "data" / "worker_binary"
    if not path or not path.is_file():
        raise UserError(
            "TFF's worker_binary is not installed; install the project's lock with `make`."
        )
    return os.fspath(path)


def _held_port() -> socket.socket:
    """Returns a socket that keeps a port at all addresses, and does not listen."""
    held = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
    if held.family == socket.AF_INET6:
        held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    held.bind(("", 0))
    return held
