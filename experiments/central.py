"""Trains a Keras model on one machine under example-level differential privacy.

  python -m experiments.central --dataset=mnist --model=cnn_tutorial --target_epsilon=3 \\
      --delta=1e-5 --epochs=40

  python -m experiments.central --dataset=fashion_mnist --features=scattering --model=logistic \\
      --optimizer=momentum --expected_batch_size=8192 --learning_rate=16 --clip_norm=0.1 \\
      --epochs=40 --target_epsilon=3

  python -m experiments.central --mechanism=none --learning_rate=0.1 --epochs=20

It leaves a run directory: config.json, metrics.csv, TensorBoard events, checkpoints/, plots/,
model.keras, privacy.json, privacy.txt and summary.json. A flag that has no meaning under the other
choices is an error.
"""

from absl import flags

from experiments import program, secure_evaluation
from tfpriv import central


def main() -> None:
    """Trains as the flags say and prints the summary."""
    secure_evaluation.prepare()
    config = program.config_from_flags(central.CentralConfig)
    run = central.run(config, secure_evaluation.check_model)
    secure_evaluation.finish(run, config.data_dir)


program.define_flags(central.CentralConfig)
flags.adopt_module_key_flags(program)
flags.adopt_module_key_flags(secure_evaluation)

if __name__ == "__main__":
    program.run(main, resumes=True)
