"""Runs the secure programs across three servers, each a process of its own on this machine.

`make players` runs it: an evaluation and two steps of training, on data that need no download. The
programs are the ones that users start; what they print goes to the terminal.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from tfpriv import environment
from tfpriv.secure.parties import loopback


def save_model(path: pathlib.Path) -> None:
    """Trains a small network on the digits, in this process, and saves it."""
    environment.quiet_tensorflow()
    import tensorflow as tf

    from tfpriv import datasets, models

    tf.keras.utils.set_random_seed(0)
    digits = datasets.load("digits")
    model = models.build("mlp", digits.train_features.shape[1:], digits.num_classes)
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits.train_features, digits.train_labels, epochs=5, verbose=0)
    model.save(path)


def run(program: str, *flags: str, output: pathlib.Path) -> dict:
    """Runs a program and returns its summary; raises if it fails or takes more than 5 minutes."""
    subprocess.run(
        [sys.executable, "-m", f"experiments.{program}", *flags, f"--output_dir={output}"],
        check=True,
        timeout=300,
    )
    return json.loads((output / "summary.json").read_text())


def main() -> int:
    """Runs the programs; returns 0 if what they computed is right."""
    with tempfile.TemporaryDirectory(prefix="tfpriv-players-") as name:
        folder = pathlib.Path(name)
        model = folder / "model.keras"
        save_model(model)
        with loopback.players() as (config, _):
            players = f"--players={config}"
            inference = run(
                "secure_inference",
                *(players, f"--model={model}", "--dataset=digits"),
                *("--num_examples=100", "--batch_size=32"),
                output=folder / "inference",
            )
            training = run(
                "secure_training",
                *(players, "--dataset=diabetes", "--model=mlp"),
                *("--batch_size=16", "--max_steps=2"),
                output=folder / "training",
            )
    if inference["agreement"] < 0.99 or training["max_abs_error"] > 0.01:
        print("error: on shares something else came out than in plaintext.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
