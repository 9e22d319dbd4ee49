"""Says whether what an audit rests on is still what the run left behind."""

from collections.abc import Mapping

import numpy as np

from tfpriv import files
from tfpriv.errors import UserError
from tfpriv.runs import coins, json_files
from tfpriv.runs.run_directory import RunDirectory

MEMBERS, SEAL = "members.json", "seal.json"
_SEALED = ("config.json", MEMBERS, "privacy.json", "model.keras")


def record_members(run: RunDirectory, members: Mapping, canaries: int) -> np.ndarray:
    """Writes members.json: what of the data took part, and what canaries were planted.

    A run that goes on has it already, and must have the same data: its earlier steps are accounted
    for as steps over these members.

    Args:
        run: The run directory.
        members: What to write, besides the commitment to the canaries' coins.
        canaries: The number of canaries, for which coins are flipped.

    Returns:
        The coins, [canaries] bool: which of the canaries take part.

    Raises:
        UserError: if the coins of a run that goes on are not there, or its members are damaged or
            others than these.
    """
    if (run.path / MEMBERS).exists():
        recorded = read_members(run)
        for name, value in json_files.plain(members).items():
            if recorded.get(name) != value:
                raise UserError(
                    f"the data are not those that {run.path} began with ({name} in {MEMBERS} is "
                    "another); give it the same data to go on, or start anew in another "
                    "--output_dir."
                )
        return coins.read(run.path, recorded["coins_sha256"]) if canaries else np.ones(0, bool)
    flipped = np.ones(0, bool)
    members = dict(members)
    if canaries:
        flipped, members["coins_sha256"] = coins.flip(run.path, canaries)
    json_files.write(run.path / MEMBERS, members)
    return flipped


def read_members(run: RunDirectory) -> dict:
    """Returns what members.json holds.

    Raises:
        UserError: if it is not there, or damaged.
    """
    path = run.path / MEMBERS
    try:
        return json_files.read(path)
    except FileNotFoundError as error:
        raise UserError(
            f"{run.path} does not say who its members were: there is no {MEMBERS}; train again "
            "with this version."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); train again.") from error


def write(run: RunDirectory) -> None:
    """Writes seal.json, the SHA-256 of the files that must not change once a run has ended."""
    present = [name for name in _SEALED if (run.path / name).exists()]
    json_files.write(
        run.path / SEAL,
        {name: files.sha256(run.path / name) for name in (*present, *_trajectory(run))},
    )


def check(run: RunDirectory) -> None:
    """Refuses a run that has not ended, or whose files were altered since.

    Raises:
        UserError: naming the file.
    """
    read_members(run)
    try:
        sealed = json_files.read(run.path / SEAL)
    except FileNotFoundError as error:
        raise UserError(f"{run.path} has not ended: there is no {SEAL}; --resume it.") from error
    except ValueError as error:
        raise UserError(f"{run.path / SEAL} is damaged ({error}); train again.") from error
    if not isinstance(sealed, dict):
        raise UserError(f"{run.path / SEAL} is damaged; train again.")
    models = {*_trajectory(run), *(set(sealed) - set(_SEALED))}
    for name in (*_SEALED, *sorted(models)):
        path = run.path / name
        if not path.exists() or sealed.get(name) != files.sha256(path):
            raise UserError(
                f"{path} was altered or removed after the run had ended; an audit of it would "
                "prove nothing: train again, or restore it."
            )


def _trajectory(run):
    return sorted(str(path.relative_to(run.path)) for path in run.trajectory_path.glob("step_*"))
