"""What the benchmarks of secure computation share: measuring in processes, and the tables."""

import json
import os
import pathlib
import statistics
import subprocess
import sys

from benchmarks import machine
from tfpriv import files, launcher


def measure(job: dict, cores: int) -> dict:
    """Measures one job of `benchmarks.secure_contender` on so many cores.

    Returns:
        The job, with `cores`, `first_seconds` (from the model to the first result: the graph is
        built and the weights are shared), `seconds` (median of a batch) and its `quartiles`, and
        `unit_seconds` and `units` (a batch in units), when one core was used.

    Raises:
        RuntimeError: if the process fails; with the end of what it said.
    """
    allowed = sorted(os.sched_getaffinity(0))[-cores:]
    process = subprocess.run(
        launcher.command(
            [sys.executable, "-m", "benchmarks.secure_contender", json.dumps(job)], cores=allowed
        ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(f"{job} failed:\n{process.stderr[-3000:]}")
    measured = json.loads(process.stdout.splitlines()[-1])
    seconds = measured["seconds"]
    low, middle, high = statistics.quantiles(seconds, n=4) if seconds[1:] else seconds * 3
    result = {
        **job,
        "cores": len(allowed),
        "first_seconds": measured["first_seconds"],
        "seconds": middle,
        "quartiles": [low, high],
    }
    if cores == 1:
        unit = statistics.mean(measured["unit_seconds"])
        result |= {"unit_seconds": unit, "units": middle / unit}
    return result


def measure_all(jobs: list[dict], path: str) -> dict:
    """Measures all jobs on the cores that each names, prints a line each, and writes the file."""
    results = {**machine.before(), "measured": []}
    for job in jobs:
        job = dict(job)
        result = measure(job, job.pop("cores"))
        results["measured"].append(result)
        print(describe(result), flush=True)
    results |= machine.after()
    files.write_text(path, json.dumps(results, indent=2) + "\n")
    return results


def update_page(path: str, marker: str, aims: dict) -> None:
    """Writes a results file's table into the docs, between the marker and its end."""
    results = json.loads(pathlib.Path(path).read_text())
    files.replace_between(
        "docs/benchmarks.md", f"<!-- {marker} -->", f"<!-- /{marker} -->", table(results, aims)
    )


def describe(result: dict) -> str:
    """Returns a line about one result."""
    units = f" = {result['units']:.2f} units" if "units" in result else ""
    return (
        f"{result['engine']:12} {result['protocol']:8} {result['model']:12} batch "
        f"{result['batch_size']:3} {result['cores']} core: {result['seconds']:.4f} s{units}, first "
        f"result after {result['first_seconds']:.1f} s"
    )


def table(results: dict, aims: dict) -> str:
    """Returns the page's table of a results file.

    Args:
        results: The results file.
        aims: By (model, batch size), the most units that ABY3 on one core should take.
    """
    rows = {}
    for r in results["measured"]:
        key = (r["model"], r["batch_size"], r["protocol"], r["engine"])
        rows.setdefault(key, {})[r["cores"]] = r
    lines = [
        "| model | batch | protocol | engine | s a batch, 1 core | units | aim | 2 cores "
        "| first result, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (model, batch, protocol, engine), by_cores in rows.items():
        one, two = by_cores.get(1), by_cores.get(2)
        ours = engine == "tfpriv" and protocol == "aby3"
        aim = aims.get((model, batch)) if ours else None
        lines.append(
            f"| {model} | {batch} | {protocol} | {engine} "
            f"| {'' if one is None else format(one['seconds'], '.4f')} "
            f"| {'' if one is None else format(one['units'], '.2f')} "
            f"| {'' if aim is None else f'at most {aim}'} "
            f"| {'' if two is None else format(two['seconds'], '.4f')} "
            f"| {(one or two)['first_seconds']:.1f} |"
        )
    units = [r["unit_seconds"] for r in results["measured"] if "unit_seconds" in r]
    lines += [
        "",
        "A unit is one stock `tf.matmul` of int64 [6272, 800] x [800, 64] in the same process: "
        f"{min(units):.3f} to {max(units):.3f} s. On {machine.sentence_end(results)}",
    ]
    return "\n".join(lines)
