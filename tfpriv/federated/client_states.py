"""What clients keep from round to round, a file for each client and round."""

import pathlib
import re
import shutil
from typing import Any

import numpy as np
import tensorflow as tf

from tfpriv import files
from tfpriv.errors import UserError

_NAME = re.compile(r"client_(\d+)_after_(\d+)[.]npz")


class ClientStates:
    """The states of those clients that took part, on disk.

    A state is kept until no checkpoint needs it, so that a run that goes on from one finds what its
    clients had then.
    """

    def __init__(self, path: pathlib.Path, first: Any) -> None:
        """Finds the states in `path`, which may not be there yet.

        Args:
            path: A folder.
            first: The state of a client that took part in no round, a structure of arrays.
        """
        self._path, self._first = path, first
        self._rounds: dict[int, list[int]] = {}
        names = path.iterdir() if path.is_dir() else ()
        for match in filter(None, (_NAME.fullmatch(file.name) for file in names)):
            client, rounds_done = map(int, match.groups())
            self._rounds.setdefault(client, []).append(rounds_done)
        for rounds in self._rounds.values():
            rounds.sort()
        self._checkpoint = 0

    def of(self, client: int) -> Any:
        """Returns a client's state.

        Raises:
            UserError: if its file is damaged.
        """
        rounds = self._rounds.get(client)
        if not rounds:
            return self._first
        file = self._file(client, rounds[-1])
        try:
            with np.load(file, allow_pickle=False) as arrays:
                flat = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
            return tf.nest.pack_sequence_as(self._first, flat)
        except Exception as error:
            raise UserError(
                f"{file} is damaged ({type(error).__name__}: {error}); start the run anew, as its "
                "clients' states cannot be computed again."
            ) from error

    def keep(self, client: int, rounds_done: int, state: Any) -> None:
        """Keeps a client's state after so many rounds."""
        with files.replacing(self._file(client, rounds_done)) as temporary:
            np.savez(temporary, *map(np.asarray, tf.nest.flatten(state)))
        self._rounds.setdefault(client, []).append(rounds_done)

    def return_to(self, rounds_done: int) -> None:
        """Removes what came after so many rounds, those of the checkpoint that is gone on from."""
        if not rounds_done:
            shutil.rmtree(self._path, ignore_errors=True)
        for client, rounds in self._rounds.items():
            while rounds and rounds[-1] > rounds_done:
                self._file(client, rounds.pop()).unlink(missing_ok=True)
        self._checkpoint = rounds_done

    def checkpoint_made(self, rounds_done: int) -> None:
        """Removes what neither this checkpoint, after so many rounds, nor the last one needs."""
        for client, rounds in self._rounds.items():
            while len(rounds) > 1 and rounds[1] <= self._checkpoint:
                self._file(client, rounds.pop(0)).unlink(missing_ok=True)
        self._checkpoint = rounds_done

    def _file(self, client, rounds_done):
        return self._path / f"client_{client}_after_{rounds_done}.npz"
