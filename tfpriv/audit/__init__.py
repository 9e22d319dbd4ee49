"""What a trained model leaks: attacks on runs, and what they prove about a claimed epsilon."""

import importlib

from tfpriv import runs
from tfpriv.audit.config import AuditConfig
from tfpriv.runs import json_files

_HOMES = {"Examples": "target", "Finding": "report", "Target": "target", "losses": "target"}

__all__ = ["AuditConfig", "as_text", "run", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def run(config: AuditConfig) -> tuple[runs.RunDirectory, bool]:
    """Attacks a run as `config` says.

    Returns:
        The audit's own run directory, with audit.json in it, and whether the run's privacy claim
        is broken.

    Raises:
        UserError: if the config or the run does not allow the attack.
    """
    config = config.complete()
    from tfpriv.audit import auditor

    return auditor.audit(config)


def as_text(directory: runs.RunDirectory) -> str:
    """Returns what an audit found, as lines for the terminal."""
    from tfpriv.audit import report

    return report.as_text(json_files.read(directory.path / report.FILE))
