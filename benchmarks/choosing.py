"""Measures what docs/choosing.md says, and writes its tables.

  python -m benchmarks.choosing

It trains on three seeds what each table compares (half an hour on two cores), writes
docs/choosing.json, and puts the tables into docs/choosing.md.
"""

import json
import math
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable

from benchmarks import machine
from tfpriv import central, datasets, environment, federated, files, privacy

DOCS = pathlib.Path(__file__).parents[1] / "docs"
SEEDS = (0, 1, 2)

_FEDERATED = {
    "dataset": "mnist",
    "model": "2nn",
    "rounds": 30,
    "client_learning_rate": 0.1,
    "eval_every": 30,
}
_CLIENTS = _FEDERATED | {"privacy_unit": "client", "clip_norm": 1.0, "target_epsilon": 2.0}
_CENTRAL = {
    "dataset": "mnist",
    "model": "cnn_tanh",
    "epochs": 5,
    "expected_batch_size": 500.0,
    "eval_every": 5,
}
_ADULT = {
    "dataset": "adult",
    "model": "logistic",
    "num_clients": 100,
    "clients_per_round": 20,
    "rounds": 30,
    "eval_every": 30,
}

# By table and row, the fields of a config.
RUNS: dict[str, dict[str, dict]] = {
    "cohort": {
        f"{clients:,} clients, {a_round:,} a round": _CLIENTS
        | {"num_clients": clients, "clients_per_round": a_round}
        for clients, a_round in ((100, 10), (1_000, 100), (6_000, 600), (6_000, 60))
    }
    | {
        "100 clients, 10 a round, without privacy": _FEDERATED
        | {"num_clients": 100, "clients_per_round": 10}
    },
    "weights": {
        model: _CLIENTS | {"model": model, "num_clients": 1_000, "clients_per_round": 100}
        for model in ("logistic", "mlp", "cnn_tanh", "2nn")
    },
    "unit": {
        "one example, central": {
            "dataset": "mnist",
            "model": "2nn",
            "epochs": 10,
            "expected_batch_size": 600.0,
            "learning_rate": 1.0,
            "target_epsilon": 2.0,
            "eval_every": 10,
        },
        "one client of 60 examples": _CLIENTS | {"num_clients": 1_000, "clients_per_round": 100},
    },
    "rate": {
        f"client_learning_rate={rate}": _ADULT | {"client_learning_rate": rate}
        for rate in (0.01, 0.1, 0.3, 1.0)
    },
    "clip": {
        f"clip_norm={clip}, learning_rate={rate}": _CENTRAL
        | {"target_epsilon": 2.0, "clip_norm": clip, "learning_rate": rate}
        for clip in (0.1, 1.0, 10.0)
        for rate in (0.05, 0.5, 5.0)
    },
    "mechanism": {
        name: _CENTRAL | {"target_epsilon": 2.0, "clip_norm": 1.0, "learning_rate": 0.5} | fields
        for name, fields in {
            "dpsgd": {},
            "banded": {"mechanism": "banded"},
            "tree": {"mechanism": "tree"},
        }.items()
    },
}
_STEPS, _POPULATION, _BATCH, _NOISE = 600, 60_000, 500, 1.0


def run(fields: dict, seed: int, folder: str) -> dict:
    """Trains once and returns what the tables show of it."""
    program: Callable = federated.run if "rounds" in fields else central.run
    config = federated.FederatedConfig if "rounds" in fields else central.CentralConfig
    done = program(config(**fields, seed=seed, output_dir=folder))
    summary = done.summary
    return {
        "accuracy": summary["test_accuracy"],
        "noise_multiplier": summary.get("noise_multiplier"),
        "epsilon": summary["epsilon"],
    }


def logistic_regression() -> float:
    """Returns the test accuracy of scikit-learn's on Adult."""
    from sklearn.linear_model import LogisticRegression

    adult = datasets.load("adult")
    model = LogisticRegression(max_iter=1000).fit(adult.train_features, adult.train_labels)
    return float(model.score(adult.test_features, adult.test_labels))


def samplers() -> dict[str, dict]:
    """Returns what samplers cost with the same noise: arithmetic, no training."""
    found = {}
    for name in ("poisson", "fixed_size", "shuffled"):
        plan = privacy.PrivacyPlan(
            unit="example",
            sampler=privacy.build_sampler(name, _POPULATION, _BATCH),
            mechanism=privacy.Gaussian(clip_norm=1.0, noise_multiplier=_NOISE),
            delta=1e-5,
        )
        epsilon = plan.epsilon(plan.segments(_STEPS)).value
        found[name] = {"epsilon": epsilon, "relation": plan.neighboring_relation}
    return found


def measure() -> dict:
    """Runs everything and returns what docs/choosing.json holds."""
    results = {**machine.before(), "seeds": list(SEEDS), "runs": {}}
    for table, rows in RUNS.items():
        for name, fields in rows.items():
            with tempfile.TemporaryDirectory() as folder:
                made = [run(fields, seed, f"{folder}/{seed}") for seed in SEEDS]
            results["runs"].setdefault(table, {})[name] = {
                "accuracies": [one["accuracy"] for one in made],
                "noise_multiplier": made[0]["noise_multiplier"],
                "epsilon": made[0]["epsilon"],
            }
            print(f"{table}: {name}: {made}", file=sys.stderr, flush=True)
    return {
        **results,
        "logistic_regression": logistic_regression(),
        "samplers": samplers(),
        **machine.after(),
    }


def tables(results: dict) -> dict[str, str]:
    """Returns the page's tables, by their marker."""
    made = {}
    for name, rows in results["runs"].items():
        head = _HEADS[name]
        lines = [f"| {head} | noise multiplier | test accuracy |", "| --- | --- | --- |"]
        for row, found in rows.items():
            noise = found["noise_multiplier"]
            lines.append(f"| {row} | {f'{noise:.2f}' if noise else 'none'} | {_accuracy(found)} |")
        made[name] = "\n".join(lines)
    made["clip"] = _grid(results["runs"]["clip"])
    rows = results["runs"]["rate"]
    lines = ["| | test accuracy |", "| --- | --- |"]
    lines += [f"| `{row}` | {_accuracy(found)} |" for row, found in rows.items()]
    best = results["logistic_regression"]
    lines.append(f"| scikit-learn's LogisticRegression | {best:.1%} |")
    made["rate"] = "\n".join(lines)
    lines = ["| sampler | epsilon | against |", "| --- | --- | --- |"]
    for row, found in results["samplers"].items():
        lines.append(f"| `{row}` | {found['epsilon']:.2f} | {found['relation']} |")
    made["sampler"] = "\n".join(lines)
    lines = [
        "| epsilon | a fair coin is guessed right, at most | 1 in 100 becomes, at most |",
        "| --- | --- | --- |",
    ]
    for epsilon in (0.1, 0.5, 1.0, 2.0, 4.0, 8.0):
        lines.append(f"| {epsilon:g} | {guess(epsilon, 0.5):.1%} | {guess(epsilon, 0.01):.1%} |")
    made["epsilon"] = "\n".join(lines)
    return made


def guess(epsilon: float, prior: float) -> float:
    """Returns the largest probability of taking part that an observer can come to; delta is 0.

    Args:
        epsilon: Of the release.
        prior: What the observer takes for the probability before.
    """
    odds = math.exp(epsilon) * prior / (1 - prior)
    return odds / (1 + odds)


_HEADS = {
    "cohort": "clients",
    "weights": "model",
    "unit": "what epsilon protects",
    "rate": "",
    "clip": "",
    "mechanism": "mechanism",
}


def _accuracy(found):
    low, high = min(found["accuracies"]), max(found["accuracies"])
    return f"{statistics.median(found['accuracies']):.1%} ({low:.1%} to {high:.1%})"


def _grid(rows):
    pairs = [dict(part.split("=") for part in row.split(", ")) for row in rows]
    rates = list(dict.fromkeys(pair["learning_rate"] for pair in pairs))
    clips = list(dict.fromkeys(pair["clip_norm"] for pair in pairs))
    lines = [
        f"| | {' | '.join(f'`--learning_rate={rate}`' for rate in rates)} |",
        f"|{' --- |' * (len(rates) + 1)}",
    ]
    for clip in clips:
        found = [rows[f"clip_norm={clip}, learning_rate={rate}"] for rate in rates]
        cells = [f"{statistics.median(cell['accuracies']):.1%}" for cell in found]
        lines.append(f"| `--clip_norm={clip}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page(results: dict) -> None:
    """Puts the tables into docs/choosing.md."""
    for marker, table in tables(results).items():
        files.replace_between(
            DOCS / "choosing.md", f"<!-- {marker} -->", f"<!-- /{marker} -->", table
        )


def main() -> None:
    """Measures all, and writes the results and the tables."""
    environment.quiet_tensorflow()
    results = measure()
    files.write_text(DOCS / "choosing.json", json.dumps(results, indent=1) + "\n")
    write_page(results)


if __name__ == "__main__":
    main()
