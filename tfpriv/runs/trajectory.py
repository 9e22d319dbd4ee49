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
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged ({error}); train again.") from error
