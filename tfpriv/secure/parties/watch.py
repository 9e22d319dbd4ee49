"""Looks after servers in other processes, and Ctrl-C, while TensorFlow's calls block Python."""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time

import grpc
import psutil
from tensorflow.python.eager import cancellation

from tfpriv.secure.parties.addresses import port_of

# How long a call may take to return once it was cancelled; once its connections were cut.
_CANCEL_SECONDS = 1.0
_CUT_SECONDS = 5.0
_LOOK_SECONDS = 0.25
# A probe is sent this long after the last one's answer, and waits that long for its own.
_PROBE_EVERY_SECONDS = 1.0
_PROBE_SECONDS = 7.0
_SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

# A server that comes up while it is asked for is found soon.
CHANNEL_OPTIONS = (("grpc.max_reconnect_backoff_ms", 500),)


class Watch:
    """A context manager whose thread watches, and makes the call in progress fail.

    Attributes:
        reason: What is wrong with a server, in a sentence that names it; None while all answer.
        interrupted: Whether the user pressed Ctrl-C.
    """

    def __init__(self, servers: dict[str, str]) -> None:
        """Takes host:port by the name of the server."""
        self.reason = None
        self.interrupted = False
        self._servers = servers
        self._probes = [_Probe(name, address) for name, address in servers.items()]
        self._manager = cancellation.CancellationManager()
        self._cancelling = cancellation.CancellationManagerContext(self._manager)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="parties-watch", daemon=True)

    def __enter__(self):
        self._signals, told = socket.socketpair()
        self._told = told
        told.setblocking(False)
        self._previous = None
        if threading.current_thread() is threading.main_thread():
            # A call into TensorFlow blocks Python's own handling of Ctrl-C.
            self._previous = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        self._cancelling.__enter__()
        self._thread.start()

    def __exit__(self, *exception):
        self._left.set()
        self._cancelling.__exit__(*exception)
        if self._previous is not None:
            signal.set_wakeup_fd(self._previous)
        self._thread.join()
        self._signals.close()
        self._told.close()
        for probe in self._probes:
            probe.close()

    def _watch(self):
        while not self._left.is_set():
            if select.select([self._signals], [], [], _LOOK_SECONDS)[0]:
                self.interrupted = signal.SIGINT in self._signals.recv(64)
            self.reason = next(filter(None, (probe.look() for probe in self._probes)), None)
            if self.interrupted or self.reason:
                self._end_call()
                return

    def _end_call(self):
        self._manager.start_cancel()
        if self._left.wait(_CANCEL_SECONDS):
            return
        # Some of what TensorFlow waits for cannot be cancelled. It fails with its connection.
        _cut_connections(self._servers.values())
        if self._left.wait(_CUT_SECONDS):
            return
        if self.interrupted:
            sentence, status = "interrupted.", 128 + signal.SIGINT
        else:
            sentence, status = str(self.reason), 2
        sys.stdout.flush()
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        os._exit(status)


class _Probe:
    """Asks one server again and again for a method that it does not have; any answer is life."""

    def __init__(self, name, address) -> None:
        self._name = f"{name} at {address}"
        self._channel = grpc.insecure_channel(address, CHANNEL_OPTIONS)
        self._ask = self._channel.unary_unary("/tfpriv/Probe")
        self._call = None
        self._next = 0.0
        self._failures = 0

    def look(self):
        """Returns what is wrong with the server, or None; does not wait."""
        if self._call is None:
            if time.monotonic() > self._next:
                self._call = self._ask.future(b"", timeout=_PROBE_SECONDS)
            return None
        if not self._call.done():
            return None
        code, self._call = self._call.code(), None
        self._next = time.monotonic() + _PROBE_EVERY_SECONDS
        self._failures = self._failures + 1 if code in _SILENT else 0
        # Two in a row: the first may be this process's own fault, which was busy.
        if self._failures < 2:
            return None
        if code == grpc.StatusCode.UNAVAILABLE:
            return f"{self._name} is gone: it takes no connections; start it and this client again."
        return (
            f"{self._name} has not answered for {2 * _PROBE_SECONDS:g} s; look what it is doing, "
            "and start it and this client again."
        )

    def close(self):
        self._channel.close()


def _cut_connections(servers):
    ports = {port_of(address) for address in servers}
    for connection in psutil.Process().net_connections("tcp"):
        if connection.raddr and connection.raddr.port in ports:
            # A second handle: TensorFlow goes on holding, and closes, its own.
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(connection.fd)) as again,
            ):
                again.shutdown(socket.SHUT_RDWR)
