"""Runs a program of this package in a process of its own, and waits for its run directory."""

import contextlib
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

from tfpriv import runs
from tfpriv.errors import UserError

_LOG_LINES_SHOWN = 5


def run(
    program: str, arguments: Sequence[str], output: pathlib.Path, log: pathlib.Path, title: str
) -> runs.RunDirectory:
    """Runs a program and returns its finished run directory.

    Args:
        program: The module in `experiments`.
        arguments: Its flags but for --output_dir.
        output: The run directory.
        log: The file for what it prints.
        title: What it is, for the message if it fails.

    Raises:
        UserError: if it fails; with the end of its log.
    """
    command = [sys.executable, "-m", f"experiments.{program}", *arguments]
    command.append(f"--output_dir={output}")
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            status = process.wait()
        finally:
            process.kill()  # Its own children end with it.
            process.wait()
    if status:
        end = log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        raise UserError(
            f"{title} ended with status {status}; the end of its log {log} says why:\n"
            + "\n".join(f"  {line}" for line in end)
        )
    return runs.RunDirectory.open(output)


@contextlib.contextmanager
def ended_by(number: int) -> Iterator[None]:
    """Has a signal end the program as Ctrl-C does, so that a run is not left behind."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)
