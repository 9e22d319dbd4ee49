"""What a run was made with: versions, commit, command and time."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys

import tfpriv

PACKAGES = (
    "tensorflow",
    "tensorflow-federated",
    "tensorflow-privacy",
    "tf-encrypted",
    "dp-accounting",
    "numpy",
)

# What earlier runs in the same checkout wrote does not change what a run is made of.
_NOT_RESULTS = [
    f":(top,exclude)experiments/presets/*/{name}.json" for name in ("results", "points")
]


def surroundings() -> dict:
    """Returns the entries of config.json that say what this process is made of.

    Returns:
        `versions` (of Python, tfpriv and `PACKAGES`; None for what is not installed), `git_commit`
        (hexadecimal) and `git_dirty` (whether tracked files other than measured results differ
        from that commit), both None where tfpriv does not lie in a git checkout, `command` (a shell
        line) and `started` (ISO 8601, UTC). No package is imported for it.
    """
    commit, dirty = _git_state(pathlib.Path(tfpriv.__file__).parent)
    return {
        "versions": versions(),
        "git_commit": commit,
        "git_dirty": dirty,
        "command": shlex.join(sys.orig_argv),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str | None]:
    """Returns the versions of Python, tfpriv and `PACKAGES`, None for what is not installed."""
    versions_found = {
        "python": platform.python_version(),
        "tfpriv": getattr(tfpriv, "__version__", None),
    }
    for package in PACKAGES:
        try:
            versions_found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions_found[package] = None
    return versions_found


def _git_state(source: pathlib.Path) -> tuple[str | None, bool | None]:
    """Returns the commit that `source` is at, and whether tracked files differ from it."""
    # A git hook sets these for its own repository, which may be another.
    hooks = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in hooks}

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(source), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.strip()

    try:
        # An environment inside somebody else's checkout does not make tfpriv part of it.
        git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", *_NOT_RESULTS)
        return git("rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None, None
