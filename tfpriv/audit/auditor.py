"""One audit, from a config to a finished run directory."""

import contextlib
import shutil
from collections.abc import Mapping

import tensorflow as tf

from tfpriv import runs, user_code
from tfpriv.audit import canary_clients, lira, membership, one_run, report, secret_sharer
from tfpriv.audit.config import AuditConfig
from tfpriv.audit.target import Target
from tfpriv.errors import UserError

PROGRAM = "audit"
# How many train at once changes nothing of what they are.
_MAY_DIFFER = (*runs.run_directory.MAY_DIFFER, "processes", "trust_code")

_ATTACKS: Mapping = {
    "membership": lambda target, config, run: membership.attack(target, config),
    "lira": lira.attack,
    "one_run": lambda target, config, run: one_run.attack(target, config),
    "canary_clients": lambda target, config, run: canary_clients.attack(target, config),
    "secret_sharer": secret_sharer.attack,
}


def audit(config: AuditConfig) -> tuple[runs.RunDirectory, bool]:
    """Attacks, writes the audit's directory, and says whether the claim is broken.

    Args:
        config: A complete config.

    Raises:
        UserError: if the run does not allow the attack, or a shadow model cannot be trained.
    """
    tf.get_logger().setLevel("ERROR")
    assert config.run is not None, "the config is complete"
    target = Target(config.run, config.data_dir, trust_code=config.trust_code)
    started = runs.RunDirectory.start(
        config,
        program=PROGRAM,
        may_differ=_MAY_DIFFER,
        step_name="attack",
        seeds={"seed": config.seed},
        data=target.run.config["data"],
    )
    with started as run, _leaving_nothing_if_refused(run):
        finding = _attack(config.attack)(target, config, run)
        head = {
            "attack": config.attack,
            "run": str(target.run.path),
            "confidence": config.confidence,
            "delta": target.delta,
        }
        is_broken = report.write(run, finding, head, target.epsilon)
    return run, is_broken


def _attack(name):
    if not user_code.is_user_code(name):
        return _ATTACKS[name]
    function = user_code.load_function(name, "--attack")

    def attack(target, config, run):
        finding = function(target, config, run)
        if not isinstance(finding, report.Finding):
            raise UserError(
                f"--attack={name} returned a {type(finding).__name__}; return a "
                "tfpriv.audit.Finding."
            )
        return finding

    return attack


@contextlib.contextmanager
def _leaving_nothing_if_refused(run):
    """Removes the directory again if an attack was refused before it wrote anything."""
    try:
        yield
    except UserError:
        written = [path for path in run.files() if path.name != "config.json"]
        if not written:
            run.close()
            shutil.rmtree(run.path)
        raise
