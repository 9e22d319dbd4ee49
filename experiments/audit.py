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
from tfpriv import audit, runs

BROKEN = 3


def main() -> None:
    """Audits as the flags say, prints the verdict, and says by the exit status if it is bad."""
    run, is_broken = audit.run(program.config_from_flags(audit.AuditConfig))
    text = audit.as_text(run)
    runs.print_safely(runs.format_summary(run.final_summary, run.files(), text))
    if is_broken:
        sys.exit(BROKEN)


program.define_flags(audit.AuditConfig)
flags.adopt_module_key_flags(program)

if __name__ == "__main__":
    program.run(main, resumes=True)
