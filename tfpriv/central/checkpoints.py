"""Checkpoints of a run, by tf.train's manager."""

import os
import pathlib

import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.models.messages import first_line

_KEPT = 2


class Checkpoints:
    """The state after the last steps, as TensorFlow checkpoints."""

    def __init__(self, path: pathlib.Path, **kept: object) -> None:
        """Keeps what is trackable in `kept`, in the folder `path`, which may not be there yet."""
        self._path = path
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._checkpoint = tf.train.Checkpoint(step=self._step, **kept)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(path), max_to_keep=_KEPT, checkpoint_name="step"
        )

    def save(self, steps_done: int) -> None:
        """Saves the state after `steps_done` steps.

        Raises:
            UserError: if it cannot be written, as where the disk is full.
        """
        self._step.assign(steps_done)
        try:
            self._manager.save(checkpoint_number=steps_done)
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"the checkpoint after step {steps_done} cannot be written to {self._path} "
                f"({first_line(error)}); make room, and go on with --resume."
            ) from error

    def restore(self) -> int:
        """Restores the last state and returns how many steps were done; 0 without one.

        A first save that was cut off has left files, but not yet the list of what was saved.

        Raises:
            UserError: if the last checkpoint cannot be read.
        """
        there = [path for path in self._manager.checkpoints if os.path.exists(f"{path}.index")]
        if not there:
            listed = self._path / "checkpoint"
            begun = {path.stem.removesuffix("_temp") for path in self._path.glob("step-*")}
            if listed.exists() or len(begun) > 1:
                raise UserError(
                    f"{listed}, which says what the last checkpoint is, is "
                    "damaged or gone; start the run anew in another --output_dir."
                )
            return 0
        try:
            self._checkpoint.restore(there[-1]).assert_existing_objects_matched()
        except Exception as error:
            remedy = "start the run anew in another --output_dir"
            if len(there) > 1:
                remedy = f"remove {there[-1]}.* to go on from the one before"
            raise UserError(
                f"the last checkpoint {there[-1]} is damaged ({type(error).__name__}); {remedy}."
            ) from error
        return int(self._step.numpy())
