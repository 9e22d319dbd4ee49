"""Evaluates a trained Keras model on secret shares: neither weights nor examples are seen.

  python -m experiments.secure_inference --model=runs/demo --num_examples=1000

  python -m experiments.secure_inference --model=model.keras --dataset=mnist --protocol=securenn

  python -m experiments.secure_inference --model=runs/demo --players=players.json

Three servers hold shares of the weights and of the examples and compute shares of the answers,
which are put together by the client alone. Beside it stands the same model in plaintext. It leaves
a run directory: config.json, metrics.csv (seconds by batch), plots/ and summary.json.
"""

from absl import flags

from experiments import program
from tfpriv import runs, secure
from tfpriv.secure import InferenceConfig


def main() -> None:
    """Evaluates as the flags say and prints the summary."""
    run = secure.infer(program.config_from_flags(InferenceConfig))
    runs.print_safely(runs.format_summary(run.final_summary, run.files()))
    program.leave_if_results_disagree(run.final_summary)


program.define_flags(InferenceConfig)
flags.adopt_module_key_flags(program)

if __name__ == "__main__":
    program.run(main)
