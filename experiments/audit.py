"""Attacks a finished run, to see what its model leaks and whether its epsilon can be true.

  python -m experiments.central --dataset=location30 --train_fraction=0.5 --mechanism=none \\
      --output_dir=runs/open
  python -m experiments.audit --run=runs/open --attack=membership
  python -m experiments.audit --run=runs/open --attack=lira --shadow_models=64

  python -m experiments.central --target_epsilon=8 --audit_canaries=1000 --output_dir=runs/planted
  python -m experiments.audit --run=runs/planted --attack=one_run

  python -m experiments.federated --privacy_unit=client --target_epsilon=8 --num_clients=3000 \\
      --clients_per_round=120 --audit_canaries=1000 --output_dir=runs/clients
  python -m experiments.audit --run=runs/clients --attack=canary_clients

  python -m experiments.central --dataset=shakespeare --model=char_lstm --mechanism=none \\
      --optimizer=adam --audit_secrets=10 --output_dir=runs/secrets
  python -m experiments.audit --run=runs/secrets --attack=secret_sharer

It leaves a run directory with audit.json: every figure with its confidence interval, what the
attacker sees, and the accounted epsilon beside the lower bound that the attack proves. The exit
status is 3 when that bound exceeds the accounted epsilon: the privacy claim is broken. At a
confidence of 95% that happens to 5% of true claims, and to more of them where the best of several
audits of one run is taken.
"""

import sys

from absl import flags

from experiments import program
from experiments.program import Help
from tfpriv import audit, runs
from tfpriv.audit import config

BROKEN = 3

_HELPS = {
    "run": Help("The directory of a finished run of central or federated."),
    "attack": Help(
        "membership (TensorFlow Privacy's threshold, logistic-regression, k-nearest and forest "
        "attacks); lira (the likelihood-ratio attack with shadow models; Carlini et al. 2022); "
        "one_run (a bound on epsilon from the run's canaries; Steinke et al. 2023, Mahloujifar et "
        "al. 2024); "
        "canary_clients (the same, and an estimate, from random-direction clients of a federated "
        "run; Andrew et al. 2023); secret_sharer (exposure of planted text; Carlini et al. 2019).",
        config.ATTACKS,
    ),
    "data_dir": Help(
        "The folder for downloaded data; by default the run's, else $TFPRIV_DATA_DIR, else tfpriv "
        "in the user's cache."
    ),
    "trust_code": Help(
        "Run Python code that only the run's config.json names, and no flag of yours: its data set "
        "or model. It is shown with its path and sha256.",
        kind=bool,
    ),
    "confidence": Help(
        "The confidence of every interval and bound. Each audit of a run is wrong with the rest of "
        "the probability, on its own.",
        kind=float,
    ),
    "max_examples": Help(
        "With membership and lira: at most so many members, and as many others, are attacked. "
        "[1000]",
        kind=int,
    ),
    "shadow_models": Help(
        "With lira: how many shadow models to train, an even number. [32]", kind=int
    ),
    "lira_variant": Help(
        "With lira: offline (models without the example), online (with and without) or both. "
        "[both]",
        config.VARIANTS,
    ),
    "processes": Help(
        "With lira: how many models are trained at once. [one for each core]", kind=int
    ),
    "seed": Help("Decides which examples are attacked, and the shadow models.", kind=int),
    "output_dir": Help("The audit's directory; by default runs/audit-<date>-<time>."),
    "resume": Help(
        "Go on with the audit in --output_dir: shadow models that are there are not trained again.",
        kind=bool,
    ),
}


def main() -> None:
    """Audits as the flags say, prints the verdict, and says by the exit status if it is bad."""
    run, is_broken = audit.run(program.config_from_flags(audit.AuditConfig))
    text = audit.as_text(run)
    runs.print_safely(runs.format_summary(run.summary, run.files(), text))
    if is_broken:
        sys.exit(BROKEN)


program.define_flags(audit.AuditConfig, _HELPS)
flags.adopt_module_key_flags(program)

if __name__ == "__main__":
    program.run(main, resumes=True)
