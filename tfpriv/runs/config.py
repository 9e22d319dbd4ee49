"""config.json: what a run was started with, and whether it may go on with what there is now."""

import json
import logging
import pathlib
from collections.abc import Collection, Mapping

from tfpriv.errors import UserError
from tfpriv.runs import json_files

_logger = logging.getLogger(__name__)


def read(path: pathlib.Path) -> dict:
    """Returns what config.json in the directory `path` holds.

    Raises:
        UserError: if it is not there, or is damaged.
    """
    try:
        config = json_files.read(path / "config.json")
        if not isinstance(config["flags"], dict) or not isinstance(config["program"], str):
            raise ValueError("it names no program or flags")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"there is no run in {path}, as it has no config.json; give the directory of a run."
        ) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"{path / 'config.json'} cannot be used ({type(error).__name__}: {error}); restore it, "
            "or start anew with another --output_dir."
        ) from error
    return config


def write(path: pathlib.Path, config: Mapping) -> None:
    """Writes config.json in the directory `path`."""
    json_files.write(path / "config.json", config)


def refuse_other_flags(
    path: pathlib.Path, before: Mapping, now: Mapping, may_differ: Collection[str]
) -> None:
    """Raises UserError if a run would go on with other flags than it was started with.

    Args:
        path: The run's directory, for the message.
        before: The flags from config.json.
        now: The flags now, as plain JSON values.
        may_differ: Names of flags that do not matter.
    """
    different = [
        f"--{name}={_shown(before, name)} (now {_shown(now, name)})"
        for name in sorted({*before, *now} - set(may_differ))
        if _shown(before, name) != _shown(now, name)
    ]
    if different:
        raise UserError(
            f"the run in {path} was started with {', '.join(different)}; give the same flags, or "
            "start anew with another --output_dir."
        )


def _shown(flags, name):
    # As JSON, in which 1, 1.0, true and "1" differ.
    return json.dumps(flags[name]) if name in flags else "not a flag"


def warn_of_changes(config: Mapping, now: Mapping) -> None:
    """Logs a warning for each version, and the commit, that a run goes on with and began without.

    Args:
        config: The run's config.json.
        now: `provenance.surroundings()` of this process.
    """
    before = config.get("versions", {})
    for package, version in now["versions"].items():
        if before.get(package) != version:
            _logger.warning(
                "The run was started with %s %s and goes on with %s; its results may differ.",
                package,
                before.get(package),
                version,
            )
    if config.get("git_commit") != now["git_commit"]:
        _logger.warning(
            "The run was started at commit %s of tfpriv and goes on at %s; its results may differ.",
            config.get("git_commit"),
            now["git_commit"],
        )
