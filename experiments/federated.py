"""Trains a Keras model federated, over simulated clients, with or without privacy.

  python -m experiments.federated --dataset=mnist --partition=shards --num_clients=100 \\
      --model=2nn --rounds=100 --clients_per_round=10 --client_learning_rate=0.1

  python -m experiments.federated --num_clients=3000 --clients_per_round=120 \\
      --privacy_unit=client --target_epsilon=2 --rounds=100

  python -m experiments.federated --flagfile=experiments/presets/demo.flags

It leaves a run directory: config.json, metrics.csv, TensorBoard events, checkpoints/, plots/,
model.keras, privacy.json, privacy.txt and summary.json. A flag that has no meaning under the other
choices is an error.
"""

from absl import flags

from experiments import program, secure_evaluation
from tfpriv import federated


def main() -> None:
    """Trains as the flags say and prints the summary."""
    secure_evaluation.prepare()
    config = program.config_from_flags(federated.FederatedConfig)
    run = federated.run(config, secure_evaluation.check_model)
    secure_evaluation.finish(run, config.data_dir)


program.define_flags(federated.FederatedConfig)
flags.adopt_module_key_flags(program)
flags.adopt_module_key_flags(secure_evaluation)

if __name__ == "__main__":
    program.run(main, resumes=True)
