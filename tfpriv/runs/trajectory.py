"""The models of a training's evaluations, kept for an audit."""

import zipfile
from collections.abc import Iterator, Sequence

import numpy as np

from tfpriv import files
from tfpriv.errors import UserError
from tfpriv.runs.run_directory import RunDirectory


def keep(run: RunDirectory, step: int, weights: Sequence[np.ndarray]) -> None:
    """Keeps the trainable weights after so many steps or rounds, in the model's order."""
    with files.replacing(run.trajectory_path / f"step_{step:08d}.npz") as path:
        np.savez(path, *weights)


def truncate(run: RunDirectory, step: int) -> None:
    """Removes the models of later steps, which a run that goes on from `step` takes anew."""
    for path in run.trajectory_path.glob("step_*.npz"):
        if int(path.stem.removeprefix("step_")) > step:
            path.unlink()


def models(run: RunDirectory) -> Iterator[list[np.ndarray]]:
    """Yields the weights at the evaluations, in order, from before the first step on.

    Raises:
        UserError: if they were not kept, or are damaged.
    """
    paths = sorted(run.trajectory_path.glob("step_*.npz"))
    if len(paths) < 2:
        raise UserError(
            f"{run.trajectory_path} holds {len(paths)} models, too few to follow the training; "
            "train again with --audit_canaries."
        )
    for path in paths:
        try:
            with np.load(path) as content:
                yield [content[f"arr_{i}"] for i in range(len(content.files))]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged ({error}); train again.") from error
