"""Who takes part in a private federated run is a secret; what is counted is counted beforehand."""

import json

import numpy as np
import pytest

from tfpriv import federated, runs
from tfpriv.federated import batches, population, trainer

_SMALL = {
    "dataset": "digits",
    "num_clients": 40,
    "clients_per_round": 10,
    "model": "logistic",
    "rounds": 2,
    "batch_size": 50,
}
_CLIENT = {"privacy_unit": "client", "noise_multiplier": 1.0, "delta": 1e-3}
_EXAMPLE = {"privacy_unit": "example", "noise_multiplier": 1.0, "delta": 1e-3}


def _run(path, **flags):
    return federated.run(federated.FederatedConfig(**{**_SMALL, "output_dir": str(path), **flags}))


@pytest.fixture(name="seen")
def _seen(monkeypatch):
    """The cohorts of the rounds, and the Poisson batches that their clients drew."""
    found = {"cohorts": [], "batches": []}
    true_cohort, true_poisson = population.Population.cohort, batches.poisson

    def cohort(self, round_number, segment=0):
        drawn = true_cohort(self, round_number, segment)
        found["cohorts"].append(drawn.tolist())
        return drawn

    def poisson(*arguments, **settings):
        drawn = true_poisson(*arguments, **settings)
        found["batches"].append(drawn.tolist())
        return drawn

    monkeypatch.setattr(population.Population, "cohort", cohort)
    monkeypatch.setattr(batches, "poisson", poisson)
    return found


@pytest.mark.parametrize(
    "flags",
    [
        {"sampler": "poisson"},
        {"sampler": "fixed_size"},
        {"sampler": "shuffled"},
        {"mechanism": "banded", "bands": 2},
    ],
    ids=str,
)
def test_the_seed_tells_nothing_of_which_clients_took_part(seen, tmp_path, flags):
    for name in ("0", "1"):
        run = _run(tmp_path / name, **flags, rounds=1, **_CLIENT)
        assert runs.sampling_key.path_of(run.path).exists()
    first, second = seen["cohorts"]
    assert first != second


def test_the_seed_tells_nothing_of_the_batches_inside_a_client(seen, tmp_path):
    for name in ("0", "1"):
        _run(tmp_path / name, rounds=1, batch_size=10, **_EXAMPLE)
    half = len(seen["batches"]) // 2
    assert half and seen["batches"][:half] != seen["batches"][half:]


def test_without_privacy_the_seed_decides_all(tmp_path):
    first, second = (_run(tmp_path / name).summary["test_loss"] for name in ("0", "1"))
    assert first == second


def test_insecure_seed_repeats_the_cohorts_and_voids_epsilon(seen, tmp_path):
    flags = {**_CLIENT, "rounds": 1, "insecure_sampling_seed": 3}
    run, _ = (_run(tmp_path / name, **flags) for name in ("0", "1"))
    assert seen["cohorts"][0] == seen["cohorts"][1]
    words = " ".join((run.path / "privacy.txt").read_text().split())
    assert "does not hold for whoever knows this number" in words


def test_round_is_counted_before_it_runs(monkeypatch, tmp_path):
    """A kill while a round runs may come after its result is known."""
    counted = []
    true_batches = population.Population.batches

    def watched(self, *arguments):
        counted.append((tmp_path / "run" / "rounds.json").exists())
        return true_batches(self, *arguments)

    monkeypatch.setattr(population.Population, "batches", watched)

    class _KilledError(Exception):
        pass

    def killed(*_):
        raise _KilledError

    monkeypatch.setattr(trainer.tf.data.Dataset, "from_tensors", killed)
    with pytest.raises(_KilledError):
        _run(tmp_path / "run", sampler="fixed_size", **_CLIENT)
    assert counted[0]
    assert json.loads((tmp_path / "run" / "rounds.json").read_text()) == [[0, 1]]


def test_run_that_its_accuracy_ended_reports_the_epsilon_of_all_rounds(tmp_path):
    flags = {**_CLIENT, "noise_multiplier": 0.5, "rounds": 6}
    whole = _run(tmp_path / "whole", **flags)
    stopped = _run(tmp_path / "stopped", **flags, target_accuracy=0.0)
    assert stopped.summary["rounds"] == 1 and stopped.privacy["stopped_early_after"] == 1
    assert stopped.summary["epsilon"] == pytest.approx(whole.summary["epsilon"])
    words = " ".join((stopped.path / "privacy.txt").read_text().split())
    assert "ended after 1 of the steps" in words and "In each of 6 steps" in words


@pytest.mark.parametrize("flags", [_CLIENT, _EXAMPLE], ids=["client", "example"])
def test_delta_of_one_over_the_population_is_noted_in_federated_runs(tmp_path, capfd, flags):
    run = _run(tmp_path / "run", **{**flags, "rounds": 1, "delta": 0.1})
    note = "publishes one member outright would pass"
    assert note in capfd.readouterr().err
    assert note in " ".join((run.path / "privacy.txt").read_text().split())


def test_partition_is_drawn_on_request_and_then_not_covered(tmp_path):
    flags = {**_CLIENT, "rounds": 1}
    run = _run(tmp_path / "0", **flags)
    asked = _run(tmp_path / "1", **flags, plot_partition=True)
    picture, item = "partition.png", "picture of the partition"
    assert picture not in {path.name for path in run.files()}
    assert item not in (run.path / "privacy.txt").read_text()
    assert picture in {path.name for path in asked.files()}
    assert item in " ".join((asked.path / "privacy.txt").read_text().split())


def test_silos_that_take_part_are_public_and_their_rounds_counted(tmp_path):
    run = _run(tmp_path / "run", **_EXAMPLE)
    assert run.privacy["silo"] in range(40)
    assert np.isfinite(run.summary["epsilon"])
