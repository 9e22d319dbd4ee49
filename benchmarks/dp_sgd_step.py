"""Times a step of DP-SGD beside training without privacy, TensorFlow Privacy and Opacus.

  python -m benchmarks.dp_sgd_step
  python -m benchmarks.dp_sgd_step --update_dp_sgd

The second writes the results file's table into the docs. Opacus takes part where `make opacus`
has built its environment.

Every contender runs in a process of its own on one core and one thread. For each model they take
turns, some steps at a time, so that whatever else the machine does hits all alike; medians are
compared.
Optimizer and noise are included. TensorFlow Privacy's optimizers need memory for the Jacobian of a
batch and get a smaller one where it would not fit.

What was tried to make our step faster, on one core at a batch of 256:

- No second backward pass: an example's norm and the clipped sum come from the layers' inputs and
  their outputs' gradients. Kept.
- `tf.image.extract_patches` took half of the small CNN's step and 95 of 218 ms of the large one's.
  A convolution with an identity matrix for its kernel makes the patches of a few channels in a
  fifth of the time and less, shifted slices those of many in half; with both, the small CNN went
  from 12,000 to 23,000 examples a second and the large one from 1,170 to 1,680. Kept.
- Slices with a stride take longer than the op itself, so that strided convolutions of many channels
  still use it.
- The batched product of patches and gradients with its longer side last: 27 and not 37 ms on the
  large CNN's second convolution. Kept.
- The noise from tables of a discrete Gaussian, three to a number, in a loop without branches that
  looks them up eight at a time: 1.2 ms for the 2NN's 199,210 numbers; a fourth table to a number,
  for a grid that nobody needs to be as fine, took 0.8 more. Kept with three.
- The bits of the noise from AES in counter mode (`cryptography`) in the place of TensorFlow's
  generator: 0.2 and not 1.0 ms of processor time for a word to each of the 2NN's. Kept.
- The sum scaled by its clipping factors, in the place of a pass over whole gradients. Kept.
- Batches gathered into memory that is aligned for TensorFlow, which copies it all the same. Left.
- XLA, in the sketch of this step: 1.5 times slower on the 2NN, 3.5 times on the small CNN.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

from absl import app, flags

from benchmarks import machine
from tfpriv import files, launcher

MODELS = ("cnn_tutorial", "2nn", "cnn_mcmahan")
BATCH_SIZE = 256
# Ours as a share of `keras_fit`, at least.
AIMS = {"cnn_tutorial": 0.45, "2nn": 1.1, "cnn_mcmahan": 0.5}
OPACUS_MODES = ("plain", "hooks", "ghost", "ew")
# What holds the Jacobian of a batch.
_SMALL_BATCHES = {
    ("tfp_stock", "cnn_mcmahan"): 16,
    ("tfp_vectorized", "cnn_mcmahan"): 16,
    ("tfp_sequential", "cnn_mcmahan"): 64,
    ("tfp_sequential_xla", "cnn_mcmahan"): 64,
}
_OPACUS = pathlib.Path("build", "opacus", "bin", "python")

_UPDATE = flags.DEFINE_boolean(
    "update_dp_sgd",
    False,
    "Measure nothing; write the results file's table into the docs.",
)
_STEPS = flags.DEFINE_integer("steps", 21, "Timed steps of each contender.", lower_bound=1)
_SLOW_STEPS = flags.DEFINE_integer(
    "slow_steps", 2, "Those of TFP's optimizers; 0 leaves them out.", lower_bound=0
)
_OUTPUT = flags.DEFINE_string(
    "dp_sgd_output",
    str(pathlib.Path(__file__).parent / "results" / "dp_sgd_step.json"),
    "The file for the results.",
)


def contenders() -> list[str]:
    """Returns the names of those that can run here."""
    names = ["keras_fit", "keras_loop", "ours", "tfp_stock", "tfp_vectorized"]
    names += ["tfp_sequential", "tfp_sequential_xla"]
    if _OPACUS.exists():
        return names + [f"opacus_{mode}" for mode in OPACUS_MODES]
    print("note: Opacus is left out; `make opacus` builds its environment.", file=sys.stderr)
    return names


def measure(model: str) -> list[dict]:
    """Measures all contenders on one model, in turns."""
    core = sorted(os.sched_getaffinity(0))[-1]
    jobs = [
        {
            "contender": name,
            "model": model,
            "batch_size": _SMALL_BATCHES.get((name, model), BATCH_SIZE),
        }
        for name in contenders()
    ]
    slow = [job for job in jobs if job["contender"] in ("tfp_stock", "tfp_vectorized")]
    results = []
    for group, steps in (
        ([job for job in jobs if job not in slow], _STEPS.value),
        *(([job], _SLOW_STEPS.value) for job in slow if _SLOW_STEPS.value),
    ):
        processes = [_start(job, core) for job in group]
        answers = [[] for _ in group]
        for _ in range(steps):
            for process, told in zip(processes, answers, strict=True):
                process.stdin.write("\n")
                process.stdin.flush()
                told.append(json.loads(process.stdout.readline()))
        for job, process, told in zip(group, processes, answers, strict=True):
            process.stdin.close()
            process.wait()
            seconds = statistics.median(answer["seconds"] for answer in told)
            results.append(
                {
                    **job,
                    "seconds": seconds,
                    "examples_per_second": job["batch_size"] / seconds,
                    "peak_mb": told[-1]["peak_mb"],
                }
            )
            print(describe(results[-1]), flush=True)
    return results


def describe(result: dict) -> str:
    """Returns a line about one result."""
    return (
        f"{result['model']:13} {result['contender']:19} batch {result['batch_size']:3} "
        f"{result['examples_per_second']:10,.0f} examples a second, "
        f"peak {result['peak_mb']:,.0f} MB"
    )


def table(results: dict) -> str:
    """Returns the page's table of a results file."""
    speed = {(r["model"], r["contender"]): r for r in results["measured"]}
    names = list(dict.fromkeys(r["contender"] for r in results["measured"]))
    lines = [
        f"| examples a second | {' | '.join(MODELS)} |",
        f"| --- |{' --- |' * len(MODELS)}",
    ]
    for name in names:
        cells = []
        for model in MODELS:
            result = speed[model, name]
            note = "" if result["batch_size"] == BATCH_SIZE else f" (batch {result['batch_size']})"
            cells.append(f"{result['examples_per_second']:,.0f}{note}")
        lines.append(f"| {name} | {' | '.join(cells)} |")

    def share(other):
        return [
            speed[m, "ours"]["examples_per_second"] / speed[m, other]["examples_per_second"]
            for m in MODELS
        ]

    for other in ("keras_fit", "keras_loop"):
        lines.append(f"| ours over {other} | {' | '.join(f'{s:.2f}' for s in share(other))} |")
    lines.append(f"| aim, over keras_fit | {' | '.join(str(AIMS[m]) for m in MODELS)} |")
    private = [f"opacus_{mode}" for mode in OPACUS_MODES[1:] if f"opacus_{mode}" in names]
    if private:
        best = [min(share(name)[i] for name in private) for i in range(len(MODELS))]
        lines.append(f"| ours over Opacus's best | {' | '.join(f'{b:.2f}' for b in best)} |")
    peaks = [f"{speed[m, 'ours']['peak_mb']:,.0f} MB" for m in MODELS]
    lines.append(f"| peak memory of ours | {' | '.join(peaks)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"One core of {machine.sentence_end(results)}",
        ]
    )


def main(_) -> None:
    """Measures, or writes the table."""
    if _UPDATE.value:
        results = json.loads(pathlib.Path(_OUTPUT.value).read_text())
        files.replace_between(
            "docs/benchmarks.md", "<!-- dp-sgd -->", "<!-- /dp-sgd -->", table(results)
        )
        return
    results = {**machine.before(), "measured": []}
    for model in MODELS:
        results["measured"] += measure(model)
    results |= machine.after()
    files.write_text(_OUTPUT.value, json.dumps(results, indent=2) + "\n")
    print(table(results))


def _start(job, core):
    """Starts a contender on one core, and waits until it has warmed up."""
    is_opacus = job["contender"].startswith("opacus_")
    command = (
        [str(_OPACUS), str(pathlib.Path(__file__).with_name("opacus_contender.py"))]
        if is_opacus
        else [sys.executable, "-m", "benchmarks.dp_sgd_contender"]
    )
    process = subprocess.Popen(
        launcher.command([*command, json.dumps(job)], cores=[core]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in process.stdout:
        if line == "ready\n":
            return process
    raise RuntimeError(f"{job} ended before it was ready, with status {process.wait()}.")


if __name__ == "__main__":
    app.run(main)
