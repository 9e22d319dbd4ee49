"""Says whether what an audit rests on is still what the run left behind."""

from collections.abc import Mapping

import numpy as np

from tfpriv import files
from tfpriv.errors import UserError
from tfpriv.runs import coins, json_files
from tfpriv.runs.run_directory import RunDirectory

MEMBERS, SEAL = "members.json", "seal.json"
_SEALED = ("config.json", MEMBERS, "privacy.json", "model.keras")


def record_members(
    run: RunDirectory,
    members: Mapping,
    canaries: int,
    *,
    data_sha256: str | None = None,
    claims_privacy: bool = False,
    taken: np.ndarray | None = None,
) -> np.ndarray:
    """Writes members.json: what of the data took part, and what canaries were planted.

    A run that goes on has it already, and must have the same data: its earlier steps are accounted
    for as steps over these members.

    Args:
        run: The run directory.
        members: What to write, besides the commitment to the canaries' coins.
        canaries: The number of canaries, for which coins are flipped.
        data_sha256: The hash of the data set, in hexadecimal. It would tell whoever suspects an
            example to be in a data set whether it is, so that a private run salts it.
        claims_privacy: Whether the run is private.
        taken: [n] bool, which training examples a secret draw took; None where there was none.

    Returns:
        The coins, [canaries] bool: which of the canaries take part.

    Raises:
        UserError: if the coins of a run that goes on are not there, or its members are damaged or
            others than these.
    """
    if (run.path / MEMBERS).exists():
        recorded = read_members(run)
        _refuse_other_members(run, recorded, members)
        if data_sha256 is not None:
            _refuse_other_data(run, recorded, data_sha256)
        return coins.read(run.path, recorded["coins_sha256"]) if canaries else np.ones(0, bool)
    flipped = np.ones(0, bool)
    members = dict(members)
    if canaries or claims_privacy:
        flipped, commitment = coins.flip(run.path, canaries, taken)
        members["coins_sha256"] = commitment
    if claims_privacy and data_sha256 is not None:
        members["salted_data_sha256"] = coins.salted(run.path, commitment, data_sha256)
    elif data_sha256 is not None:
        members["data_sha256"] = data_sha256
    json_files.write(run.path / MEMBERS, members)
    return flipped


def is_data(run: RunDirectory, recorded: Mapping, data_sha256: str) -> bool:
    """Says whether a data set is the one that a run was trained on.

    Args:
        run: The run directory.
        recorded: What members.json holds.
        data_sha256: The hash of the data set.

    Raises:
        UserError: if the hash is salted, and the salt is not there.
    """
    if "salted_data_sha256" not in recorded:
        return recorded.get("data_sha256") == data_sha256
    salted = coins.salted(run.path, recorded["coins_sha256"], data_sha256)
    return recorded["salted_data_sha256"] == salted


def _refuse_other_members(run, recorded, members):
    for name, value in json_files.plain(members).items():
        if recorded.get(name) != value:
            raise _other_data(run, f"{name} in {MEMBERS} is another")


def _refuse_other_data(run, recorded, data_sha256):
    if not is_data(run, recorded, data_sha256):
        raise _other_data(run, f"their hash in {MEMBERS} is another")


def _other_data(run, how):
    return UserError(
        f"the data are not those that {run.path} began with ({how}); give it the same data to go "
        "on, or start anew in another --output_dir."
    )


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
