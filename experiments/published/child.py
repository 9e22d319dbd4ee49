"""Runs a program of this package in a process of its own, and waits for its run directory."""

import pathlib
import subprocess
import sys
from collections.abc import Sequence

from experiments.program import DISAGREES
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
    if status not in (0, DISAGREES):
        end = log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        raise UserError(
            f"{title} ended with status {status}; the end of its log {log} says why:\n"
            + "\n".join(f"  {line}" for line in end)
        )
    return runs.RunDirectory.open(output)


def audited(directory: runs.RunDirectory, flags: Sequence[str], seed: int, title: str) -> dict:
    """Audits a run in a process of its own and returns the summary, but with both runs' time.

    Args:
        directory: A finished run.
        flags: The audit's flags but for --run, --seed and --output_dir.
        seed: The audit's seed.
        title: What the run is, for the message if the audit fails.
    """
    output = directory.path.with_name(f"{directory.path.name}_audit")
    log = output.with_suffix(".log")
    arguments = [*flags, f"--run={directory.path}", f"--seed={seed}"]
    summary = run("audit", arguments, output, log, f"the audit of {title}").final_summary
    return {
        **summary,
        "wall_seconds": summary["wall_seconds"] + directory.final_summary["wall_seconds"],
    }
