"""Runs a published row over several seeds and compares it with what was published.

  python -m experiments.reproduce --preset=mcmahan2017/2nn_iid_b10_e1 --seeds=0,1,2

  python -m experiments.reproduce --write_table

Each seed is a run of its own, one after another, with its run directory and its output in
runs/reproduce/. The row then goes into the paper's results.json, and into the README by
--write_table. The exit status is 0 when the row is reached, 1 when it is not.
"""

import contextlib
import datetime
import pathlib
import signal
import subprocess
import sys

from absl import flags

from experiments import program, published, results
from tfpriv import runs
from tfpriv.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
NOT_REACHED = 1
_LOG_LINES_SHOWN = 5

_PRESET = flags.DEFINE_string("preset", None, "The row to run, as paper/row.")
_SEEDS = flags.DEFINE_list("seeds", ["0"], "The seeds to run it with, one run each.")
_WRITE_TABLE = flags.DEFINE_boolean(
    "write_table",
    False,
    f"Write the results of all papers into --readme, between {results.BEGIN} and {results.END}.",
)
_PRESETS_DIR = flags.DEFINE_string(
    "presets_dir", str(ROOT / "experiments" / "presets"), "The folder of papers."
)
_README = flags.DEFINE_string("readme", str(ROOT / "README.md"), "The file for --write_table.")


def main() -> None:
    """Runs the row, writes the table, or both, as the flags say."""
    presets = pathlib.Path(_PRESETS_DIR.value)
    if not _PRESET.value and not _WRITE_TABLE.value:
        raise UserError("there is nothing to do; give --preset=paper/row or --write_table.")
    is_reached = True
    if _PRESET.value:
        row = published.find_row(presets, _PRESET.value)
        seeds = _parse_seeds(_SEEDS.value)
        results.read(presets, row.paper)  # A damaged file is to be known of now, not after hours.
        folder = _new_folder(row)
        try:
            with _ended_by(signal.SIGTERM):
                ran = {seed: _run(row, seed, folder) for seed in seeds}
        except KeyboardInterrupt:
            runs.print_safely("error: interrupted; no result was written.", sys.stderr)
            sys.exit(program.INTERRUPTED)
        summaries = {seed: run.summary for seed, run in ran.items()}
        result = results.judge(row, summaries, {seed: run.config for seed, run in ran.items()})
        results.write(presets, row, result)
        is_reached = results.reached(result)
        runs.print_safely("\n".join([*results.header(), *results.lines(row, result)]))
    if _WRITE_TABLE.value:
        results.write_table(pathlib.Path(_README.value), presets)
    if not is_reached:
        sys.exit(NOT_REACHED)


def _parse_seeds(values):
    try:
        seeds = [int(value) for value in values]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(
            f"--seeds={','.join(values)} must be different whole numbers from 0, such as 0,1,2."
        )
    return seeds


def _new_folder(row):
    now = datetime.datetime.now()
    folder = pathlib.Path("runs", "reproduce", row.paper, f"{row.name}-{now:%Y%m%d-%H%M%S-%f}")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be made ({error.strerror}); start in a folder that can be written to."
        ) from error
    return folder.absolute()


def _run(row, seed, folder):
    """Runs a row with one seed and returns its finished run directory."""
    output, log = folder / f"seed_{seed}", folder / f"seed_{seed}.log"
    runs.print_safely(f"seed {seed}: running; its output goes to {log}")
    command = [sys.executable, "-m", f"experiments.{row.program}", f"--flagfile={row.preset}"]
    command += [f"--seed={seed}", f"--output_dir={output}"]
    with open(log, "wb") as file:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            status = child.wait()
        finally:
            child.kill()  # Its own children end with it.
            child.wait()
    if status:
        end = log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        raise UserError(
            f"{row.paper}/{row.name} with seed {seed} ended with status {status}; the end of its "
            f"log {log} says why:\n" + "\n".join(f"  {line}" for line in end)
        )
    run = runs.RunDirectory.open(output)
    values = ", ".join(f"{check.metric} {run.summary.get(check.metric)}" for check in row.checks)
    runs.print_safely(f"seed {seed}: {values}, {run.summary['wall_seconds']:.0f} s")
    return run


@contextlib.contextmanager
def _ended_by(number):
    """Has a signal end the program as Ctrl-C does, so that a run is not left behind."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)


if __name__ == "__main__":
    program.run(main)
