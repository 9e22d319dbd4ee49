"""One process at a time in a run directory."""

import fcntl
import os
import pathlib

from tfpriv.errors import UserError

FILE_NAME = ".lock"


class Lock:
    """Holds a directory for this process until `release` or the process's end.

    The kernel drops the lock when the process dies, also by `kill -9`, so that a killed run can be
    resumed at once. The file stays behind on purpose: were it removed, two processes could each
    hold a lock on a different file of that name.
    """

    def __init__(self, directory: str | os.PathLike) -> None:
        """Takes the lock.

        Args:
            directory: An existing directory; the lock is its file `.lock`.

        Raises:
            UserError: if another process, which the message names, holds it.
            OSError: if the file cannot be written.
        """
        path = pathlib.Path(directory) / FILE_NAME
        self._file = open(path, "a+", encoding="ascii")  # noqa: SIM115 - open while held
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            # A holder that has only just begun has not written its number yet.
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise UserError(
                f"{directory} is in use by another run (process {holder}); wait for it, end it, or "
                "give another --output_dir."
            ) from None
        except OSError:
            self._file.close()
            raise
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Lets the directory go; a second call does nothing."""
        self._file.close()
