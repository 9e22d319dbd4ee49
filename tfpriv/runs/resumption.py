"""Brings a run's records back to the checkpoint that it goes on from."""

import sys

from tfpriv.runs import trajectory
from tfpriv.runs.run_directory import RunDirectory
from tfpriv.runs.terminal import print_safely


def return_to(run: RunDirectory, done: int, ran: int) -> None:
    """Drops what a run wrote after its checkpoint, and says so if there is none.

    Args:
        run: The run, resumed.
        done: The rounds or steps that the checkpoint holds; 0 if there is no checkpoint.
        ran: The rounds or steps that were counted as run.
    """
    run.metrics.truncate(done)
    trajectory.truncate(run, done)
    if ran and not done:
        print_safely(
            f"note: {run.path} has no checkpoint yet, so the run starts over; the {ran} "
            f"{run.config['step_name']}s that ran before count as well.",
            sys.stderr,
        )
