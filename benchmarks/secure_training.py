"""Times a step of training on shares: tf-encrypted's own networks, batches of 128.

  python -m benchmarks.secure_training
  python -m benchmarks.secure_training --update_secure_training

The second measures nothing and writes the results file's figures into the docs. All parties run
in one process; each measurement is a process of its own. The networks are those of tf-encrypted's
table: logistic regression, A (784-128-128-10), D (one convolution), and B and C (two convolutions
with maxima); SGD with momentum.
"""

import pathlib

from absl import app, flags

from benchmarks import secure

AIMS = {("A", 128): 1.5, ("D", 128): 5}
RESULTS = str(pathlib.Path(__file__).parent / "results" / "secure_training.json")

_UPDATE = flags.DEFINE_boolean(
    "update_secure_training",
    False,
    "Measure nothing; write --training_output into the docs.",
)
_OUTPUT = flags.DEFINE_string("training_output", RESULTS, "The file for the results.")
_QUICK = flags.DEFINE_boolean("training_quick", False, "Few and small measurements, as a test.")


def jobs(quick: bool) -> list[dict]:
    """Returns what is measured, the slowest last."""
    if quick:
        return [_job("logistic", "tfpriv", 1, 3)]
    ours = [
        _job(network, "tfpriv", cores, repetitions)
        for network, repetitions in (("logistic", 30), ("A", 20), ("D", 15), ("B", 5), ("C", 4))
        for cores in (1, 2)
    ]
    return [*ours, *(_job(network, "tf-encrypted", 1, 3) for network in ("logistic", "A", "D"))]


def _job(network, engine, cores, repetitions):
    return {
        "job": "training",
        "model": network,
        "batch_size": 128,
        "protocol": "aby3",
        "engine": engine,
        "cores": cores,
        "repetitions": repetitions,
    }


def main(_) -> None:
    """Measures and writes the results, or writes the table."""
    if _UPDATE.value:
        secure.update_page(_OUTPUT.value, "secure training", AIMS)
    else:
        secure.measure_all(jobs(_QUICK.value), _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
