"""What an audit is to guess: which canaries and which examples took part. Kept apart from the run.

Whoever knows it knows something about the training set, so it lies beside the run directory,
readable by its owner only, and not in it. With it lies the salt without which the hashes in the
directory tell nothing.
"""

import hashlib
import json
import os
import pathlib
import secrets

import numpy as np

from tfpriv import files
from tfpriv.errors import UserError
from tfpriv.runs import json_files

_SALT_BYTES = 16


def path_of(run_path: str | os.PathLike) -> pathlib.Path:
    """Returns where the coin flips of the run in this directory lie."""
    run_path = pathlib.Path(os.path.expanduser(run_path)).resolve()
    return run_path.with_name(f"{run_path.name}.coins.json")


def refuse_left_over(run_path: str | os.PathLike) -> None:
    """Refuses a new run where what an audit of another is to guess lies beside its directory.

    Raises:
        UserError: if it does.
    """
    path = path_of(run_path)
    if path.exists() and not _has_nothing_to_guess(path):
        raise UserError(
            f"{path} holds the coin flips of another run; remove it, or give another --output_dir."
        )


def flip(
    run_path: str | os.PathLike, count: int, taken: np.ndarray | None = None
) -> tuple[np.ndarray, str]:
    """Flips a fair coin for each canary and keeps the result.

    Args:
        run_path: The run directory.
        count: The number of canaries, at least 0.
        taken: [n] bool, which training examples a secret draw took; None where there was none.

    Returns:
        [count] bool, and the commitment to what is kept (its SHA-256 under a salt) that may be made
        public.

    Raises:
        UserError: if the file is there already or cannot be written.
    """
    refuse_left_over(run_path)
    path = path_of(run_path)
    kept = {
        "salt": secrets.token_hex(_SALT_BYTES),
        "coins": "".join(secrets.choice("01") for _ in range(count)),
    }
    if taken is not None:
        kept["taken"] = "".join(map(str, taken.astype(int)))
    try:
        with files.replacing(path, owner_only=True) as temporary:
            temporary.write_text(json.dumps(kept), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"the coin flips cannot be written to {path} ({error.strerror}); give an --output_dir "
            "in a folder where files may be made."
        ) from error
    return _parsed(kept["coins"]), _commitment(kept)


def read(run_path: str | os.PathLike, commitment: str) -> np.ndarray:
    """Returns the coin flips of a run, [count] bool.

    Args:
        run_path: The run directory.
        commitment: What `flip` returned.

    Raises:
        UserError: if they are not there, or not those that were flipped.
    """
    return _parsed(_read(run_path, commitment)["coins"])


def read_taken(run_path: str | os.PathLike, commitment: str) -> np.ndarray | None:
    """Returns the training examples that a secret draw took, [n] bool; None without such a draw.

    Raises:
        UserError: as `read` does.
    """
    taken = _read(run_path, commitment).get("taken")
    return None if taken is None else _parsed(taken)


def salted(run_path: str | os.PathLike, commitment: str, text: str) -> str:
    """Returns the SHA-256 of a text under the run's salt, in hexadecimal.

    Raises:
        UserError: as `read` does.
    """
    return _hash(_read(run_path, commitment)["salt"], text)


def _read(run_path, commitment):
    path = path_of(run_path)
    try:
        kept = json_files.read(path)
        if _commitment(kept) == commitment:
            return kept
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is not there, which says what took part; put it back beside the run directory."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(
        f"{path} does not hold the coins that were flipped for this run; put the right file back."
    )


def _has_nothing_to_guess(path):
    """Says whether a file holds a salt alone, of a run that is no longer in its place."""
    try:
        kept = json_files.read(path)
        return kept["coins"] == "" and "taken" not in kept
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _parsed(coins):
    return np.array([coin == "1" for coin in coins], bool)


def _commitment(kept):
    return _hash(kept["salt"], " ".join([kept["coins"], *filter(None, [kept.get("taken")])]))


def _hash(salt, text):
    return hashlib.sha256(f"{salt} {text}".encode()).hexdigest()
