"""Runs a published row over several seeds and compares it with what was published.

  python -m experiments.reproduce --preset=mcmahan2017/2nn_iid_b10_e1 --seeds=0,1,2

  python -m experiments.reproduce --write_table

Each seed is a run of its own, one after another. Run directories, their output and results.json go
into a new folder in runs/reproduce/. --record puts the result into the paper's results.json too,
and --write_table writes those of all papers into docs/results.md. The exit status is 0 when the row
is reached, 1 when it is not.
"""

import datetime
import pathlib
import sys

from absl import flags

from experiments import program
from experiments.published import child, options, results, rows
from tfpriv import runs
from tfpriv.errors import UserError
from tfpriv.runs import json_files

NOT_REACHED = 1

_PRESET = flags.DEFINE_string("preset", None, "The row to run, as paper/row.")
_WRITE_TABLE = flags.DEFINE_boolean(
    "write_table",
    False,
    f"Write the results of all papers into --table, between {results.BEGIN} and {results.END}.",
)
_RECORD = flags.DEFINE_boolean(
    "record",
    False,
    "Put the result into the paper's results.json too, in the place of what is there.",
)
_TABLE = flags.DEFINE_string(
    "table", str(options.ROOT / "docs" / "results.md"), "The file for --write_table."
)


def main() -> None:
    """Runs the row, writes the table, or both, as the flags say."""
    presets = pathlib.Path(options.PRESETS_DIR.value)
    if not _PRESET.value and not _WRITE_TABLE.value:
        raise UserError("there is nothing to do; give --preset=paper/row or --write_table.")
    is_reached = True
    if _PRESET.value:
        row = rows.find_row(presets, _PRESET.value)
        seeds = options.parse_seeds(options.SEEDS.value)
        results.read(presets, row.paper)  # A damaged file is to be known of now, not after hours.
        folder = _new_folder(row)
        try:
            ran = {seed: _run(row, seed, folder) for seed in seeds}
        except KeyboardInterrupt:
            runs.print_safely("error: interrupted; no result was written.", sys.stderr)
            sys.exit(program.INTERRUPTED)
        summaries = {seed: summary for seed, (summary, _) in ran.items()}
        result = results.judge(row, summaries, {seed: config for seed, (_, config) in ran.items()})
        json_files.write(folder / results.RESULTS, {row.name: result})
        if _RECORD.value:
            results.write(presets, row, result)
        is_reached = results.reached(result)
        runs.print_safely("\n".join([*results.header(), *results.lines(row, result)]))
    if _WRITE_TABLE.value:
        results.write_table(pathlib.Path(_TABLE.value), presets)
    if not is_reached:
        sys.exit(NOT_REACHED)


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
    """Runs a row with one seed; returns its summary, with its audit's, and its config."""
    output, log = folder / f"seed_{seed}", folder / f"seed_{seed}.log"
    runs.print_safely(f"seed {seed}: running; its output goes to {log}")
    flags_of_row = [f"--flagfile={row.preset}", f"--seed={seed}"]
    title = f"{row.paper}/{row.name} with seed {seed}"
    run = child.run(row.program, flags_of_row, output, log, title)
    summary = run.final_summary
    if row.audit:
        summary |= child.audited(run, row.audit, seed, title)
    values = ", ".join(f"{check.metric} {summary.get(check.metric)}" for check in row.checks)
    runs.print_safely(f"seed {seed}: {values}, {summary['wall_seconds']:.0f} s")
    return summary, run.config


flags.adopt_module_key_flags(options)

if __name__ == "__main__":
    program.run(main)
