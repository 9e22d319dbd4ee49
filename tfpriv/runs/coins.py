"""The coin flips of an audit: which canaries took part. Kept apart from the run directory.

Whoever knows them knows what the audit is to guess, and something about the training set, so they
lie beside the run directory, readable by their owner only, and not in it.
"""

import hashlib
import json
import os
import pathlib
import secrets

import numpy as np

from tfpriv.errors import UserError
from tfpriv.runs import json_files

_SALT_BYTES = 16


def path_of(run_path: str | os.PathLike) -> pathlib.Path:
    """Returns where the coin flips of the run in this directory lie."""
    run_path = pathlib.Path(os.path.expanduser(run_path)).resolve()
    return run_path.with_name(f"{run_path.name}.coins.json")


def refuse_left_over(run_path: str | os.PathLike) -> None:
    """Refuses a new run where coins of another lie beside its directory.

    Raises:
        UserError: if they do.
    """
    if path_of(run_path).exists():
        raise _left_over(path_of(run_path))


def flip(run_path: str | os.PathLike, count: int) -> tuple[np.ndarray, str]:
    """Flips a fair coin for each canary and keeps the result.

    Args:
        run_path: The run directory.
        count: The number of canaries.

    Returns:
        [count] bool, and the commitment to them (SHA-256 of a salt and the coins) that may be made
        public.

    Raises:
        UserError: if the file is there already or cannot be written.
    """
    path = path_of(run_path)
    kept = {"salt": secrets.token_hex(_SALT_BYTES), "coins": f"{secrets.randbits(count):0{count}b}"}
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise _left_over(path) from error
    except OSError as error:
        raise UserError(
            f"the coin flips cannot be written to {path} ({error.strerror}); give an --output_dir "
            "in a folder where files may be made."
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(kept, file)
    return _parsed(kept), _commitment(kept)


def read(run_path: str | os.PathLike, commitment: str) -> np.ndarray:
    """Returns the coin flips of a run.

    Args:
        run_path: The run directory.
        commitment: What `flip` returned.

    Raises:
        UserError: if they are not there, or not those that were flipped.
    """
    path = path_of(run_path)
    try:
        kept = json_files.read(path)
        if _commitment(kept) == commitment:
            return _parsed(kept)
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is not there, which says which canaries took part; put it back beside the run "
            "directory."
        ) from error
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{path} does not hold the coins that were flipped for this run; put the right file back."
    )


def _left_over(path):
    return UserError(
        f"{path} holds the coin flips of another run; remove it, or give another --output_dir."
    )


def _parsed(kept):
    return np.array([coin == "1" for coin in kept["coins"]])


def _commitment(kept):
    return hashlib.sha256(f"{kept['salt']} {kept['coins']}".encode()).hexdigest()
