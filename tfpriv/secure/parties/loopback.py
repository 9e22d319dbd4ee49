"""Three servers on this machine, each a process of its own, for a trial or a test."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

from tfpriv import launcher
from tfpriv.errors import UserError
from tfpriv.secure.parties.addresses import SERVERS

_START_SECONDS = 60.0
_END_SECONDS = 10.0


class Player:
    """One server's process.

    The kernel ends it with the thread that started it, by whatever means that ends.

    Attributes:
        name: Which server it is.
        pid: Its process id.
        log: The file that holds what it says.
    """

    def __init__(
        self,
        name: str,
        config: pathlib.Path,
        *,
        prefix: Sequence[str] = (),
        arguments: Sequence[str] = (),
    ) -> None:
        """Starts the process; it takes seconds to be ready.

        Args:
            name: Which server of the players file.
            config: The players file; the log goes next to it.
            prefix: A command that runs the rest of its arguments, such as `ip netns exec`.
            arguments: More flags for the player.
        """
        self.name = name
        self.log = config.with_name(f"{name}.log")
        command = [
            *(*prefix, sys.executable, "-m", "tfpriv.secure.player"),
            *(f"--config={config}", f"--name={name}", *arguments),
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                launcher.command(command, dies_with_parent=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # TensorFlow, once imported here, has set it to less.
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
                # Ctrl-C reaches the client alone.
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait_until_ready(self) -> None:
        """Returns when the server answers; raises UserError if it does not come to that."""
        deadline = time.monotonic() + _START_SECONDS
        while f"{self.name} is ready" not in self.log.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"{self.name} did not start; it said: {self.log.read_text()}")
            time.sleep(0.05)

    def end(self) -> int:
        """Ends the process, even one that is stopped, and returns its exit status."""
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextlib.contextmanager
def players() -> Iterator[tuple[pathlib.Path, Mapping[str, Player]]]:
    """Runs three servers on unused ports of this machine while the block runs.

    Yields:
        The players file, and the servers by name.

    Raises:
        UserError: A server did not start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="tfpriv-players-") as folder,
        contextlib.ExitStack() as stack,
    ):
        config = pathlib.Path(folder, "players.json")
        ports = _unused_ports(len(SERVERS))
        config.write_text(
            json.dumps(
                {name: f"localhost:{port}" for name, port in zip(SERVERS, ports, strict=True)}
            )
        )
        started = {}
        for name in SERVERS:
            started[name] = Player(name, config)
            stack.callback(started[name].end)
        for player in started.values():
            player.wait_until_ready()
        yield config, started


def _unused_ports(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("localhost", 0))
        return [probe.getsockname()[1] for probe in probes]
