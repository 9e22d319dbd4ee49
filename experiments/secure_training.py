"""Trains a network on secret-shared data, next to the same steps in plaintext.

  python -m experiments.secure_training --network=logistic --optimizer=sgd --epochs=5

  python -m experiments.secure_training --dataset=diabetes --model=mlp --batch_size=16 --epochs=30

  python -m experiments.secure_training --network=logistic --target_epsilon=3 --epochs=5

It leaves a run directory: config.json, metrics.csv, TensorBoard events, plots/, model.keras (where
the weights are the outcome), privacy.json, privacy.txt and summary.json. A flag that has no meaning
under the other choices is an error.
"""

from absl import flags

from experiments import program
from tfpriv import runs, secure
from tfpriv.secure.training.config import SecureTrainingConfig


def main() -> None:
    """Trains as the flags say and prints the summary."""
    run = secure.train(program.config_from_flags(SecureTrainingConfig))
    private = run.path / "privacy.txt"
    text = f"Revealed: {run.final_summary['revealed']}.\n"
    text += private.read_text() if private.exists() else ""
    runs.print_safely(runs.format_summary(run.final_summary, run.files(), text))
    program.leave_if_results_disagree(run.final_summary)


program.define_flags(SecureTrainingConfig)
flags.adopt_module_key_flags(program)

if __name__ == "__main__":
    program.run(main)
