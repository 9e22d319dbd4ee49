"""Tests of tfpriv.audit.canary_clients: on numbers, and on whole federated runs on digits."""

import itertools
import json

import dp_accounting
import numpy as np
import pytest
from scipy import integrate, stats

from tfpriv import audit, central, federated, runs
from tfpriv.audit import canary_clients, membership, report, statistics
from tfpriv.audit.target import Target
from tfpriv.errors import UserError

_RUN = {
    "dataset": "digits",
    "num_clients": 20,
    "model": "2nn",
    "batch_size": 50,
    "client_learning_rate": 0.01,
    "audit_canaries": 100,
    "rounds": 4,
}
_WEIGHTS = 64 * 200 + 200 + 200 * 200 + 200 + 200 * 10 + 10
_PRIVATE = {"privacy_unit": "client", "delta": 1e-3}


@pytest.mark.parametrize(("shift", "stddev"), [(1.0, 1.0), (0.3, 0.2), (-2.0, 0.7)])
@pytest.mark.parametrize("delta", [1e-5, 1e-2])
def test_epsilon_of_equal_variances_is_the_gaussian_mechanism_s(shift, stddev, delta):
    accountant = dp_accounting.pld.PLDAccountant(value_discretization_interval=1e-4)
    accountant.compose(dp_accounting.GaussianDpEvent(stddev / abs(shift)))
    found = statistics.epsilon_between_normals((0.5, stddev), (0.5 + shift, stddev), delta)
    assert found == pytest.approx(accountant.get_epsilon(delta), abs=1e-2)


@pytest.mark.parametrize(
    ("first", "second"),
    [((0, 1), (1, 1.5)), ((0, 1), (1, 0.6)), ((0, 0.1), (-0.2, 0.11)), ((0, 1), (0, 2))],
    ids=str,
)
def test_epsilon_of_unequal_variances_is_where_both_divergences_are_delta(first, second):
    delta = 1e-3
    epsilon = statistics.epsilon_between_normals(first, second, delta)

    def divergence(p, q):
        grid = np.linspace(-20, 20, 2_000_001)
        above = stats.norm.pdf(grid, *p) - np.exp(epsilon) * stats.norm.pdf(grid, *q)
        return integrate.trapezoid(np.maximum(above, 0), grid)

    assert max(divergence(first, second), divergence(second, first)) == pytest.approx(
        delta, rel=1e-3
    )
    assert epsilon == pytest.approx(statistics.epsilon_between_normals(second, first, delta))


def test_epsilon_between_normals_at_its_ends():
    assert statistics.epsilon_between_normals((0, 1), (0, 1), 1e-5) == 0
    assert statistics.epsilon_between_normals((0, 1), (1e-4, 1), 1e-3) == 0
    assert 1e4 < statistics.epsilon_between_normals((0, 0.01), (2, 0.01), 1e-5) < 1e5
    nearly = statistics.epsilon_between_normals((0, 1), (1, 1 + 1e-9), 1e-5)
    assert nearly == pytest.approx(statistics.epsilon_between_normals((0, 1), (1, 1), 1e-5))


def test_the_parameters_of_a_normal_sample_are_in_their_intervals_as_often_as_said():
    generator = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(1000):
        mean, stddev = statistics.normal_parameters(generator.normal(3, 2, 15), 0.9)
        held += [mean.low <= 3 <= mean.high, stddev.low <= 2 <= stddev.high]
    assert np.all(np.abs(held / 1000 - 0.9) < 0.03)


@pytest.mark.parametrize("known", [(0.0, 0.05), None])
def test_the_estimate_from_normal_scores_is_close_to_the_truth(known):
    generator = np.random.default_rng(1)
    members, others = generator.normal(0.1, 0.05, 1000), generator.normal(0, 0.05, 1000)
    truth = statistics.epsilon_between_normals((0, 0.05), (0.1, 0.05), 1e-5)
    found = canary_clients.estimate(members, others, known, 1e-5, 0.95, 0)
    epsilon = found["epsilon_estimate"]
    assert epsilon["value"] == pytest.approx(truth, rel=0.1)
    assert epsilon["low"] < truth < epsilon["high"]
    assert epsilon["high"] - epsilon["low"] < 0.4 * truth
    assert found["took_part"]["mean"]["value"] == pytest.approx(members.mean())
    assert ("known_stddev" in found["left_out"]) == (known is not None)
    again = canary_clients.estimate(members, others, known, 1e-5, 0.95, 0)
    assert again == found


def test_scores_that_are_all_alike_give_no_error():
    alike = np.zeros(40)
    found = canary_clients.estimate(alike, alike, None, 1e-5, 0.95, 0)
    assert found["epsilon_estimate"]["value"] == 0


@pytest.mark.parametrize(("members", "others"), [(29, 500), (500, 29)])
def test_few_canaries_give_no_estimate_and_the_reason(members, others):
    generator = np.random.default_rng(2)
    scores = generator.normal(1, 1, members), generator.normal(0, 1, others)
    found = canary_clients.estimate(*scores, None, 1e-5, 0.95, 0)
    assert found["epsilon_estimate"] is None
    assert found["no_estimate_because"].startswith("29 canaries on one side are too few")
    assert found["took_part"]["mean"]["low"] > found["left_out"]["mean"]["value"]
    content = {"estimates": {"final_model": found}, "verdict": "v"}
    assert "final_model: no estimate of epsilon, as 29 canaries" in report.as_text(content)


def _train(path, **flags):
    config = federated.FederatedConfig(**{**_RUN, **flags, "output_dir": str(path)})
    return federated.run(config)


def _audit(run, path, **flags):
    config = audit.AuditConfig(run=str(run.path), output_dir=str(path), **flags)
    found, is_broken = audit.run(config)
    return json.loads((found.path / "audit.json").read_text()), found.summary, is_broken


@pytest.fixture(scope="module")
def without_noise(tmp_path_factory):
    """A run that clips and adds no noise, in whose rounds everybody takes part."""
    path = tmp_path_factory.mktemp("without_noise") / "run"
    return _train(path, **_PRIVATE, noise_multiplier=0.0, clients_per_round=120)


def test_without_noise_the_bound_and_the_estimates_are_large(without_noise, tmp_path):
    found, summary, is_broken = _audit(without_noise, tmp_path / "a", attack="canary_clients")
    assert found["epsilon_lower_bound"] > 1
    assert found["accounted_epsilon"] is None
    assert not is_broken
    assert found["unit"] == "client"
    assert (found["canaries"], found["weights"]) == (100, _WEIGHTS)
    assert "no delta" in found["epsilon_estimate_is"]
    assert "canaries on one side, too few to trust it" in found["epsilon_estimate_is"]
    assert found["estimate_is_rough"] is True
    assert found["estimate_delta"] == 1e-5
    assert {one["attack"] for one in found["results"]} == {"final_model", "all_iterates"}
    for name, estimates in found["estimates"].items():
        epsilon = estimates["epsilon_estimate"]
        assert epsilon["low"] <= epsilon["value"] <= epsilon["high"]
        assert epsilon["value"] > 5
        assert summary[f"{name}_epsilon_estimate"] == epsilon["value"]
        assert estimates["took_part"]["mean"]["low"] > estimates["left_out"]["mean"]["high"]
    # What the theory says of a canary that was left out is what is measured.
    null = found["estimates"]["final_model"]["left_out"]
    assert null["known_stddev"] == pytest.approx(_WEIGHTS**-0.5)
    assert abs(null["mean"]["value"]) < 0.003
    assert 0.6 < null["stddev"]["value"] / null["known_stddev"] < 1.5


def test_membership_is_attacked_in_a_federated_run(without_noise, tmp_path, monkeypatch):
    # The threshold attack alone: the others read the same and take most of a minute.
    monkeypatch.setattr(membership, "_trained", lambda data: ())
    found, summary, is_broken = _audit(without_noise, tmp_path / "a", max_examples=100)
    assert found["epsilon_lower_bound"] is None
    assert 0.3 < summary["threshold_auc"] < 0.7
    assert not is_broken


def test_the_bound_of_a_private_run_is_not_above_what_it_accounts_for(tmp_path):
    run = _train(tmp_path / "run", **_PRIVATE, noise_multiplier=1.5, clients_per_round=40, rounds=3)
    assert 1 < run.summary["epsilon"] < 4
    found, _, is_broken = _audit(run, tmp_path / "a", attack="canary_clients")
    assert found["epsilon_lower_bound"] <= found["accounted_epsilon"]
    assert found["delta"] == found["estimate_delta"] == 1e-3
    assert not is_broken


def test_what_cannot_be_audited_so_is_refused_with_what_can(without_noise, tmp_path):
    numbers = itertools.count()

    def refusal(run, **flags):
        with pytest.raises(UserError) as refused:
            _audit(run, tmp_path / f"refused-{next(numbers)}", **flags)
        return str(refused.value)

    assert "--attack=canary_clients" in refusal(without_noise, attack="one_run")
    plain = central.run(
        central.CentralConfig(
            dataset="digits", model="logistic", mechanism="none", epochs=1,
            output_dir=str(tmp_path / "central"),
        )
    )  # fmt: skip
    assert "--attack=one_run" in refusal(plain, attack="canary_clients")
    few = _train(tmp_path / "few", audit_canaries=4, rounds=1)
    assert "has 4 canaries" in refusal(few, attack="canary_clients")

    coins = runs.coins.path_of(without_noise.path)
    text = coins.read_text()
    coins.unlink()
    try:
        assert "which says what took part" in refusal(without_noise, attack="canary_clients")
    finally:
        coins.write_text(text)


def test_coins_that_fall_nearly_all_alike_are_refused(without_noise, monkeypatch):
    one_sided = np.arange(100) < 98
    monkeypatch.setattr(canary_clients.canaries, "coins_of", lambda target, count: one_sided)
    with pytest.raises(UserError, match="2 canaries on one side"):
        canary_clients.attack(
            Target(str(without_noise.path)), audit.AuditConfig(run=str(without_noise.path))
        )
