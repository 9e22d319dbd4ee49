"""Times secure inference: the 2NN and McMahan's CNN, batches of 1 and 32, one core and two.

  python -m benchmarks.secure_inference
  python -m benchmarks.secure_inference --update_secure_inference

The second measures nothing and writes the results file's figures into the docs. All parties run
in one process; each measurement is a process of its own. tf-encrypted's own ABY3 runs on our
randomness and bit operations, without which it does not run at all, and without the fused ops.

What was tried, and what it gave (B is the CNN at batch 32, one core, units of the table):

- One op for what a server does between two messages, with its randomness drawn inside: kept. A
  comparison went from some 700 TensorFlow operations to 43.
- The bits of a word kept in the order in which the carry's tree halves them, so that a level is a
  shift and not a gathering of every second bit: kept; without it each level is five steps more.
- A blocked product of 64-bit integers with the second half of the shares as more depth: kept. It
  runs at five times TensorFlow's speed, and packs image patches as it goes.
- Maxima before ReLU: kept; there are a quarter as many numbers to compare with zero.
- A server's two shares of a bit as a number by one product, where tf-encrypted sends four oblivious
  transfers: kept; 56 bytes a number travel and not 96.
- SecureNN's comparison by bytes modulo 127 in three rounds, where tf-encrypted spreads each number
  over 64 of 64 bits: kept; the CNN at batch 32 took 25 times as long, and five times the memory.
- Each layer as a graph of its own: slower by a millisecond a layer; only the picture of the time
  by layer runs them so.
"""

import pathlib

from absl import app, flags

from benchmarks import secure

AIMS = {("2nn", 32): 0.25, ("cnn_mcmahan", 1): 1.2, ("cnn_mcmahan", 32): 16}
RESULTS = str(pathlib.Path(__file__).parent / "results" / "secure_inference.json")

_UPDATE = flags.DEFINE_boolean(
    "update_secure_inference",
    False,
    "Measure nothing; write --inference_output into the docs.",
)
_OUTPUT = flags.DEFINE_string("inference_output", RESULTS, "The file for the results.")
_QUICK = flags.DEFINE_boolean("inference_quick", False, "Few and small measurements, as a test.")


def jobs(quick: bool) -> list[dict]:
    """Returns what is measured, the slowest last."""
    if quick:
        return [_job("2nn", 1, "aby3", "tfpriv", cores, 3) for cores in (1, 2)]
    ours = [
        _job(model, batch, "aby3", "tfpriv", cores, 40)
        for model in ("2nn", "cnn_mcmahan")
        for batch in (1, 32)
        for cores in (1, 2)
    ]
    helped = [
        _job(model, batch, "securenn", "tfpriv", cores, 20)
        for model in ("2nn", "cnn_mcmahan")
        for batch in (1, 32)
        for cores in (1, 2)
    ]
    theirs = [
        _job(model, batch, "aby3", "tf-encrypted", 1, 2)
        for model in ("2nn", "cnn_mcmahan")
        for batch in (1, 32)
    ]
    return [*ours, *helped, *theirs]


def _job(model, batch_size, protocol, engine, cores, repetitions):
    return {
        "job": "inference",
        "model": model,
        "batch_size": batch_size,
        "protocol": protocol,
        "engine": engine,
        "cores": cores,
        "repetitions": repetitions,
    }


def main(_) -> None:
    """Measures and writes the results, or writes the table."""
    if _UPDATE.value:
        secure.update_page(_OUTPUT.value, "secure", AIMS)
    else:
        secure.measure_all(jobs(_QUICK.value), _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
