"""The secret key that decides who takes part in a private run. Kept apart from the run directory.

Amplification by sampling holds against those who do not know the draws, so their key comes from the
operating system. It lies beside the run directory, readable by its owner only, and nothing in the
directory is a function of it. Going on with an interrupted run needs it, and nothing else does.
"""

import os
import pathlib
from typing import Protocol

from tfpriv import draws, files
from tfpriv.draws import Origin
from tfpriv.errors import UserError


class Config(Protocol):
    """What `origin_of` reads of a config."""

    @property
    def claims_privacy(self) -> bool:
        """Whether who takes part is to be a secret."""

    @property
    def seed(self) -> int | None:
        """What all else is drawn from."""

    @property
    def insecure_sampling_seed(self) -> int | None:
        """The number that was given in the place of a key; None for a key."""

    @property
    def output_dir(self) -> str | None:
        """The run directory."""

    @property
    def resume(self) -> bool:
        """Whether the run goes on with what is there."""


def path_of(run_path: str | os.PathLike) -> pathlib.Path:
    """Returns where the sampling key of the run in this directory lies."""
    run_path = pathlib.Path(os.path.expanduser(run_path)).resolve()
    return run_path.with_name(f"{run_path.name}.sampling_key")


def origin_of(config: Config) -> Origin:
    """Returns what decides who takes part in a run.

    That is the seed in a run without privacy; in a private one the number that was given as
    insecure, or the key of the run to go on with, or a new key.

    Args:
        config: A complete config with `claims_privacy`, `seed`, `insecure_sampling_seed`,
            `output_dir` and `resume`.

    Raises:
        UserError: if the key of the run to go on with is missing or damaged.
    """
    if not config.claims_privacy:
        assert config.seed is not None, "a complete config has a seed"
        return config.seed
    if config.insecure_sampling_seed is not None:
        return config.insecure_sampling_seed
    if config.resume and config.output_dir:
        return _read(path_of(config.output_dir))
    return draws.new_key()


def keep(run_path: str | os.PathLike, origin: Origin) -> None:
    """Writes a key beside the run directory, in the place of that of an earlier run; not a number.

    Raises:
        UserError: if it cannot be written.
    """
    if not isinstance(origin, bytes):
        return
    path = path_of(run_path)
    try:
        with files.replacing(path, owner_only=True) as temporary:
            temporary.write_text(f"{origin.hex()}\n", encoding="ascii")
    except OSError as error:
        raise UserError(
            f"the sampling key cannot be written to {path} ({error.strerror}); give an "
            "--output_dir in a folder where files may be made."
        ) from error


def _read(path):
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is not there, from which the run drew who takes part; put it back beside the "
            "run directory, or start anew in another --output_dir."
        ) from error
    except (OSError, ValueError):
        key = b""
    if len(key) != draws.KEY_BYTES:
        raise UserError(
            f"{path} is damaged; put the right file back, or start anew in another --output_dir."
        )
    return key
