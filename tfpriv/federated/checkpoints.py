"""Checkpoints of a run, by tff.program's state manager."""

import asyncio
import concurrent.futures
import pathlib
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfpriv.errors import UserError
from tfpriv.models.messages import first_line

_PREFIX = "round_"
_KEPT = 2


class Checkpoints:
    """The states after the last rounds, each in a folder of its own that appears whole."""

    def __init__(self, path: pathlib.Path) -> None:
        """Uses `path`, which may not be there yet."""
        self._path = path
        self._manager = tff.program.FileProgramStateManager(
            path, prefix=_PREFIX, keep_total=_KEPT, keep_first=False
        )

    def save(self, state: Any, rounds_done: int) -> None:
        """Saves the state after `rounds_done` rounds.

        Raises:
            UserError: if it cannot be written, as where the disk is full.
        """
        try:
            _wait_for(self._manager.save(state, rounds_done))
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"the checkpoint after round {rounds_done} cannot be written to {self._path} "
                f"({first_line(error)}); make room, and go on with --resume."
            ) from error

    def latest(self, structure: Any) -> tuple[Any, int]:
        """Returns the last state and how many rounds were done; (None, 0) without one.

        Args:
            structure: A state of the same structure.

        Raises:
            UserError: if the last checkpoint cannot be read.
        """
        try:
            state, rounds_done = _wait_for(self._manager.load_latest(structure))
        except Exception as error:
            raise UserError(
                f"the last checkpoint in {self._path} is damaged ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else 'no message'}); remove the newest "
                f"folder {_PREFIX}* in it to go on from the one before."
            ) from error
        return state, rounds_done


def _wait_for(coroutine):
    """Returns what a coroutine returns; a notebook's thread has a loop of its own that runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
