"""Brings a run's records back to the checkpoint that it goes on from."""

import sys

from tfpriv.errors import UserError
from tfpriv.runs import trajectory
from tfpriv.runs.run_directory import RunDirectory
from tfpriv.runs.terminal import print_safely


def return_to(run: RunDirectory, done: int, ran: int, *, measured: int) -> None:
    """Drops what a run wrote after its checkpoint, and says so if there is none.

    Args:
        run: The run, resumed.
        done: The rounds or steps that the checkpoint holds; 0 if there is no checkpoint.
        ran: The rounds or steps that were counted as run.
        measured: The last of those that the checkpoint holds which has a row in metrics.csv; 0 for
            none.

    Raises:
        UserError: that row is not there, as the file was changed after the run.
    """
    run.metrics.truncate(done)
    if (run.metrics.last_step or 0) < measured:
        name = run.config["step_name"]
        raise UserError(
            f"metrics.csv in {run.path} has no row of {name} {measured}, which the last checkpoint "
            "comes after; put the file back, or start the run anew in another --output_dir."
        )
    trajectory.truncate(run, done)
    if ran and not done:
        print_safely(
            f"note: {run.path} has no checkpoint yet, so the run starts over; the {ran} "
            f"{run.config['step_name']}s that ran before count as well.",
            sys.stderr,
        )
