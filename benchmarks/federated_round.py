"""Times a federated round of tfpriv beside stock TFF and beside a plain Keras loop.

  python -m benchmarks.federated_round
  python -m benchmarks.federated_round --update_page

The second writes the results file's figures into the docs.

Each contender of `benchmarks.contenders` runs in a process of its own on one core. They take turns
round by round, so that whatever else the machine does hits all alike; medians are compared. The
processor time of a round, its worker's included, is given too: other programs disturb it less.
It also measures how long each takes from its start to the end of its first round, what a second
core gives, what our rounds are spent on, and whether memory stays flat over many rounds.
Stock TFF's examples are not shuffled, which spares it work that the others do.

What was tried to make our rounds faster, judged by processor time because the machine was busy:

- As many sessions in the worker as it has cores, where TFF's default is one for each client that
  runs at the same time: kept. The first forty Poisson rounds of the 2NN, where new numbers of
  clients keep coming up, took some 40% less, and the worker less memory.
- The worker without oneDNN: the CNN took twice as long. It is on by default, as in TensorFlow.
- malloc told to keep freed memory: half the time in the kernel, a few hundredths of the CNN's
  round, for a sixth more memory. Kept.
- Updates multiplied by their weights where they are made, and not by a computation of their own as
  in TFF's mean: with malloc's share, the CNN's round went from 1.26 to 1.11 times the plain loop's
  processor time. Kept.
- Computations sent to the worker once, and not at each call: within the noise. Left out.

Of what our rounds take beyond the plain loop, the largest part seen outside the worker is TFF's
Python, which serializes the state out and back; it copies it at each level of nesting.
"""

import contextlib
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import psutil
from absl import app, flags

from benchmarks import machine
from tfpriv import files, launcher

MODELS = ("2nn", "cnn_mcmahan")
CONTENDERS = ("ours", "stock_tff", "plain_keras")
# Ours over the other, at most.
AIMS = {("2nn", "stock_tff"): 0.30, ("cnn_mcmahan", "stock_tff"): 0.65}
_WARM_UP_ROUNDS = 3

_WRITE_TABLE = flags.DEFINE_boolean(
    "update_page", False, "Measure nothing; write --output's figures into the docs."
)
_MODELS = flags.DEFINE_list("models", [*MODELS], "The models: names of tfpriv.models.")
_CONTENDERS = flags.DEFINE_list("contenders", [*CONTENDERS], "The contenders; ours among them.")
_ROUNDS = flags.DEFINE_integer(
    "timed_rounds", 40, "The number of timed rounds of each.", lower_bound=1
)
_CORES = flags.DEFINE_integer(
    "cores", min(2, os.cpu_count()), "Run ours with so many cores as well; 1 leaves that out."
)
_MEMORY_ROUNDS = flags.DEFINE_integer(
    "memory_rounds", 300, "The number of rounds over which memory is watched; 0 leaves that out."
)
_OUTPUT = flags.DEFINE_string(
    "output",
    str(pathlib.Path(__file__).parent / "results" / "federated_round.json"),
    "The file for the results.",
)
flags.register_validator(
    "contenders",
    lambda names: "ours" in names and set(names) <= set(CONTENDERS),
    message=f"name ours and any others of {', '.join(CONTENDERS)}.",
)


class Contender:
    """A running contender, its worker included.

    Attributes:
        start_seconds: From the start of its process to the end of its first round.
    """

    def __init__(self, name: str, *arguments: str, cores: int = 1):
        """Starts it on the last cores that this process may use, and runs round 0."""
        allowed = sorted(os.sched_getaffinity(0))[-cores:]
        self._name = name
        # Not a pipe, which stock TFF's worker would hold open.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            launcher.command(
                [sys.executable, "-m", "benchmarks.contenders", name, *arguments], cores=allowed
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        began = psutil.Process(self._process.pid).create_time()
        self.run_round(0)
        self.start_seconds = datetime.datetime.now().timestamp() - began

    def run_round(self, number: int) -> tuple[float, dict[str, float]]:
        """Runs a round; returns its seconds, and the seconds of its parts."""
        with contextlib.suppress(BrokenPipeError):  # The log says more.
            print(number, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            self._log.seek(0)
            log = self._log.read().decode(errors="replace")
            self.close()
            raise RuntimeError(f"{self._name} ended in round {number}:\n{log[-5000:]}")
        seconds, parts = json.loads(answer)
        return seconds, parts

    def processor_seconds(self) -> float:
        """Returns the processor time spent so far."""
        times = [process.cpu_times() for process in self._family()]
        return sum(t.user + t.system for t in times)

    def resident_megabytes(self) -> float:
        """Returns the memory held now."""
        return sum(process.memory_info().rss for process in self._family()) / 1e6

    def close(self) -> None:
        """Ends its processes; stock TFF would leave its worker behind."""
        family = self._family()
        for process in family:
            process.kill()
        psutil.wait_procs(family)
        self._process.communicate()
        self._log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _family(self):
        if self._process.poll() is not None:
            return []
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]


def compare(model: str, names: list[str], rounds: int, cores: int) -> dict:
    """Times rounds of one model.

    Args:
        model: Its name.
        names: The contenders.
        rounds: How many rounds each runs, after a few that are not timed.
        cores: With how many cores ours runs besides; no more than 1 for one core only.

    Returns:
        By contender `seconds_per_round` and its lower and upper quartile, `processor_seconds`
        and `start_to_first_round_seconds`; `ours_over` the others; `parts` of our round in
        seconds.
    """
    running = {}
    try:
        for name in names:
            running[name] = Contender(name, model)
        if cores > 1:
            running[f"ours_{cores}_cores"] = Contender("ours", model, cores=cores)
        results, parts = _time_in_turns(running, rounds)
    finally:
        for contender in running.values():
            contender.close()
    ours = results["ours"]
    return {
        "contenders": results,
        "ours_over": {
            name: {
                key: ours[key] / other[key]
                for key in ("seconds_per_round", "processor_seconds")
                if other[key]
            }
            for name, other in results.items()
            if name != "ours"
        },
        "parts": parts,
    }


def _time_in_turns(running, rounds):
    for number in range(1, 1 + _WARM_UP_ROUNDS):
        for contender in running.values():
            contender.run_round(number)
    before = {name: contender.processor_seconds() for name, contender in running.items()}
    seconds = {name: [] for name in running}
    parts = []
    for number in range(1 + _WARM_UP_ROUNDS, 1 + _WARM_UP_ROUNDS + rounds):
        for name, contender in running.items():
            took, round_parts = contender.run_round(number)
            seconds[name].append(took)
            if name == "ours":
                parts.append(round_parts)
    results = {}
    for name, contender in running.items():
        low, middle, high = _quartiles(seconds[name])
        results[name] = {
            "seconds_per_round": middle,
            "quartiles": [low, high],
            "processor_seconds": (contender.processor_seconds() - before[name]) / rounds,
            "start_to_first_round_seconds": contender.start_seconds,
        }
    return results, {part: statistics.median(p[part] for p in parts) for part in parts[0]}


def watch_memory(model: str, sampler: str, rounds: int) -> dict:
    """Returns the memory of our trainer and worker over rounds.

    Args:
        model: The model.
        sampler: `fixed_size` or `poisson`, under which the number of clients changes.
        rounds: How many rounds.

    Returns:
        `megabytes` by round (every tenth of the rounds), and `growth_in_last_third`, relative.
    """
    with Contender("ours", model, sampler) as contender:
        held = []
        for number in range(1, rounds + 1):
            contender.run_round(number)
            held.append(contender.resident_megabytes())
    few = max(1, rounds // 30)
    third = statistics.mean(held[rounds * 2 // 3 - few : rounds * 2 // 3] or held[:1])
    end = statistics.mean(held[-few:])
    every = max(1, rounds // 10)
    return {
        "megabytes": {number: held[number - 1] for number in range(every, rounds + 1, every)},
        "growth_in_last_third": end / third - 1,
    }


def _quartiles(values):
    return statistics.quantiles(values, n=4, method="inclusive") if values[1:] else values * 3


def _show(model, result):
    print(f"\n{model:17}{'s/round':>10}{'cpu s':>9}{'start s':>9}{'ours/it':>9}{'by cpu':>8}")
    for name, r in result["contenders"].items():
        over = result["ours_over"].get(name, {})
        print(
            f"{name:17}{r['seconds_per_round']:10.4f}{r['processor_seconds']:9.4f}"
            f"{r['start_to_first_round_seconds']:9.1f}{over.get('seconds_per_round', 1):9.2f}"
            f"{over.get('processor_seconds', 1):8.2f}"
        )
        if (model, name) in AIMS:
            print(f"{'':17}(aim: ours at most {AIMS[model, name]:.2f} of it)")
    print("our round, median seconds:")
    for part, seconds in result["parts"].items():
        print(f"  {part:36}{seconds:9.5f}")


def table(results: dict) -> str:
    """Returns the page's table of a results file."""
    lines = [
        "| model | contender | seconds a round | start to first round, s | ours over it | aim |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for model, result in results["rounds"].items():
        for name, measured in result["contenders"].items():
            ratio = result["ours_over"].get(name, {}).get("seconds_per_round")
            aim = AIMS.get((model, name))
            lines.append(
                f"| {model} | {name.replace('_', ' ')} | {measured['seconds_per_round']:.3f} "
                f"| {measured['start_to_first_round_seconds']:.1f} "
                f"| {'' if ratio is None else f'{ratio:.2f}'} "
                f"| {'' if aim is None else f'at most {aim:.2f}'} |"
            )
    memory = [
        f"{m['growth_in_last_third']:+.1%} with {sampler.replace('_', ' ')} cohorts"
        for sampler, m in results["memory"].items()
    ]
    lines += [
        "",
        f"Medians of {results['timed_rounds']} rounds on {machine.sentence_end(results)}",
    ]
    if memory:
        lines += [f"Memory's growth over the last third of many rounds: {', '.join(memory)}."]
    return "\n".join(lines)


def main(_) -> None:
    """Measures, prints a table a model, and writes the results."""
    if _WRITE_TABLE.value:
        results = json.loads(pathlib.Path(_OUTPUT.value).read_text())
        files.replace_between(
            "docs/benchmarks.md", "<!-- speed -->", "<!-- /speed -->", table(results)
        )
        return
    results = {
        **machine.before(),
        "timed_rounds": _ROUNDS.value,
        "rounds": {},
        "memory": {},
    }
    for model in _MODELS.value:
        result = compare(model, _CONTENDERS.value, _ROUNDS.value, _CORES.value)
        results["rounds"][model] = result
        _show(model, result)
    if _MEMORY_ROUNDS.value:
        for sampler in ("fixed_size", "poisson"):
            memory = watch_memory(_MODELS.value[0], sampler, _MEMORY_ROUNDS.value)
            results["memory"][sampler] = memory
            print(
                f"\nmemory, {sampler}, {_MODELS.value[0]}: "
                + ", ".join(f"{m:.0f} MB" for m in memory["megabytes"].values())
                + f"; growth in the last third {memory['growth_in_last_third']:+.1%}"
            )
    results |= machine.after()
    files.write_text(_OUTPUT.value, json.dumps(results, indent=2) + "\n")
    print(f"\nload average {results['load_average_after'][0]:.1f}; results in {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)
