"""How often the audits find the planted mistakes: runs, results file and table.

  python -m tests.audit_power --runs=10

The results go into tests/audit_power.json, and as a table into tests/README.md.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import tempfile

from tfpriv import environment, files, rounding
from tfpriv.audit.statistics import clopper_pearson
from tfpriv.runs import json_files, provenance

_FOLDER = pathlib.Path(__file__).parent
RESULTS, README = _FOLDER / "audit_power.json", _FOLDER / "README.md"
_LOOKED_FOR = {
    "seed known": "one run, 600 canaries, all steps, knowing the seed",
    "low bits": "16 steps, looking for: low bits",
}
BEGIN, END = "<!-- audit power -->", "<!-- /audit power -->"


def table(results: dict) -> str:
    """Returns the results in Markdown: a row a mistake and a way to look for it."""
    lines = [
        "| what is planted | audit | claim | caught, 95% interval | median bound | runs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["rows"]:
        caught = sum(bound > row["epsilon"] for bound in row["bounds"])
        share = clopper_pearson(caught, len(row["bounds"]))
        lines.append(
            f"| {row['mistake']} | {row['audit']} | {rounding.up(row['epsilon'], 3)} | "
            f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%}) | "
            f"{statistics.median(row['bounds']):.2f} | {len(row['bounds'])} |"
        )
    return "\n".join(lines)


def measure(count: int) -> dict:
    """Runs every mistake `count` times, with a seed of its own each time; a leak half as often."""
    from tests import planted, planted_leaks

    rows = []
    for mistake in planted.MISTAKES:
        bounds, epsilon = [], 0.0
        for seed in range(count):
            with tempfile.TemporaryDirectory() as folder, _quiet():
                found = planted.audited(mistake, pathlib.Path(folder), seed)
            bounds.append(found["epsilon_lower_bound"])
            epsilon = found["accounted_epsilon"]
        rows.append(_row(mistake, "one run, 600 canaries", epsilon, bounds))
    for mistake in ("none", "empty steps skipped"):
        found = [planted.audited_step(mistake, seed) for seed in range(count)]
        rows.append(_row(mistake, "one step, repeated", found[0][1], [bound for bound, _ in found]))
    for leak in planted_leaks.LEAKS:
        for mistake, is_planted in (("none", False), (leak, True)):
            with _quiet():
                found = [
                    planted_leaks.audited(leak, is_planted, seed) for seed in range(-(-count // 2))
                ]
            audit = _LOOKED_FOR.get(leak, f"{planted_leaks.TRIALS} runs, looking for: {leak}")
            rows.append(_row(mistake, audit, found[0][1], [bound for bound, _ in found]))
    made = provenance.surroundings()
    return {"rows": rows, **{name: made[name] for name in ("versions", "git_commit", "git_dirty")}}


def _row(mistake, audit, epsilon, bounds):
    row = {"mistake": mistake, "audit": audit, "epsilon": epsilon, "bounds": bounds}
    print(f"{mistake}, {audit}: {bounds} of {epsilon:.3g}", flush=True)
    return row


@contextlib.contextmanager
def _quiet():
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def main() -> None:
    """Measures, or only writes the table again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="0 only writes the table again")
    count = parser.parse_args().runs
    if count:
        environment.quiet_tensorflow()
        json_files.write(RESULTS, measure(count))
    files.replace_between(README, BEGIN, END, table(json_files.read(RESULTS)))


if __name__ == "__main__":
    main()
