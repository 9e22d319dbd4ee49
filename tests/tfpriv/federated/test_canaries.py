"""Tests of tfpriv.federated.canaries, and of runs with canary clients."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import federated, models, privacy, runs
from tfpriv.datasets import Partition
from tfpriv.errors import UserError
from tfpriv.federated import canaries, process, trainer
from tfpriv.federated.canaries import Canaries
from tfpriv.federated.config import FederatedConfig

_FEATURES = np.random.default_rng(0).normal(size=(12, 20)).astype(np.float32)
_LABELS = np.arange(12, dtype=np.int32) % 5
_ROWS = np.array([[0, 1], [2, 3]], np.int32)
_EMPTY = np.empty((0, 0), np.int32)
_CLIENT = {"privacy_unit": "client", "noise_multiplier": 0.0, "delta": 1e-3}
_SMALL = {
    "dataset": "digits",
    "num_clients": 8,
    "clients_per_round": 12,
    "model": "logistic",
    "rounds": 3,
    "batch_size": 50,
    "audit_canaries": 24,
}


def _population(**flags):
    flags = {"num_clients": 3, "clients_per_round": 4, "audit_canaries": 5, **flags}
    config = FederatedConfig(**flags).complete()
    partition = Partition(indices=np.arange(12), offsets=np.array([0, 6, 9, 12]))
    plan, population = trainer._plan(config, partition, config.seed)
    return config, plan, population


def test_sampler_and_plan_go_over_clients_and_canaries():
    _, plan, population = _population(**_CLIENT)
    assert plan.sampler.population == population.sampler.population == 8
    assert plan.sampler.sampling_probability == 0.5
    _, plan, population = _population()
    assert plan is None
    assert population.sampler.population == 8


def test_a_canary_left_out_is_drawn_and_then_not_there():
    _, _, population = _population()
    without = dataclasses.replace(population, absent=(1, 3))
    seen = set()
    for round_number in range(30):
        drawn = population.cohort(round_number)
        assert len(drawn) == 4
        here = without.cohort(round_number)
        assert here.tolist() == [c for c in drawn if c not in (4, 6)]
        seen |= set(here.tolist())
    assert seen == {0, 1, 2, 3, 5, 7}


def test_a_canary_s_batches_are_its_number_and_no_rows():
    _, _, population = _population()
    assert population.batches(3, 0).tolist() == [[-2]]
    assert population.batches(7, 5).tolist() == [[-6]]
    assert population.batches(7, 5).dtype == np.int32
    assert population.batches(2, 0).min() >= 9


def test_directions_are_the_same_anywhere_and_nearly_orthogonal():
    shapes = [(10, 10), (10, 10), (7,)]

    def flat(seed, number):
        found = models.random_direction(seed, number, shapes, 3.0)
        assert [tuple(f.shape) for f in found] == shapes
        return np.concatenate([f.numpy().reshape(-1) for f in found])

    first = flat(5, 0)
    assert np.linalg.norm(first) == pytest.approx(3.0, abs=1e-5)
    in_graph = tf.function(lambda n: models.random_direction(5, n, shapes, 3.0))(tf.constant(0))
    np.testing.assert_allclose(np.concatenate([np.ravel(f) for f in in_graph]), first, atol=1e-6)
    for other in (flat(5, 1), flat(6, 0)):
        assert abs(first @ other) / 9 < 0.3
    assert abs(first[:100] @ first[100:200]) < 3


def test_canaries_are_as_the_config_says():
    config = FederatedConfig(audit_canaries=5, client_epochs=3, seed=4).complete()
    built = canaries.build_canaries(config, np.array([2, 4]))
    assert (built.count, built.norm, built.examples) == (5, 1.0, 9.0)
    private = FederatedConfig(audit_canaries=5, clip_norm=0.5, **_CLIENT).complete()
    assert canaries.build_canaries(private, np.array([2, 4])).norm == 500
    assert canaries.build_canaries(FederatedConfig().complete(), np.array([2])) is None


class _Rounds:
    """Rounds of a process with canaries over a model of 105 weights."""

    def __init__(self, local_model, plan=None, **flags):
        flags = {"audit_canaries": 5, "client_learning_rate": 0.1, **flags}
        self.canaries = Canaries(count=5, seed=7, norm=2.0, examples=4.0)
        config = FederatedConfig(**flags).complete()
        self._learning = process.build_process(config, local_model, plan, self.canaries)
        self._shapes = [tuple(t.shape) for t in local_model.weights_type.trainable]

    def __call__(self, *cohort):
        """Returns by how much the weights fall in a round, in one vector, and its measurements."""
        data = [tf.data.Dataset.from_tensors(batches) for batches in cohort]
        output = self._learning.next(self._learning.initialize(), data)
        after = output.state.global_model_weights.trainable
        return -np.concatenate([np.ravel(w) for w in after]), output.metrics["client_work"]

    def direction(self, number):
        found = models.random_direction(7, number, self._shapes, 1.0)
        return np.concatenate([np.ravel(f) for f in found])


@pytest.fixture(scope="module")
def model(worker, local_model):
    return local_model(_FEATURES, _LABELS)[0]


@pytest.mark.parametrize(
    ("flags", "weights"), [({}, (4, 4)), ({"weighting": "uniform"}, (1, 1))], ids=str
)
def test_canaries_move_the_model_along_their_directions(model, flags, weights):
    rounds = _Rounds(model, **flags)
    one, measured = rounds(canaries.batches_of(3))
    np.testing.assert_allclose(one, 2 * rounds.direction(3), atol=1e-5)
    assert all(float(value) == 0 for value in measured.values())

    alone, counted = rounds(_ROWS)
    client, canary = weights
    mixed, measured = rounds(_ROWS, canaries.batches_of(1), _EMPTY, canaries.batches_of(2))
    expected = client * alone + 2 * canary * (rounds.direction(1) + rounds.direction(2))
    np.testing.assert_allclose(mixed, expected / (client + 2 * canary), atol=1e-5)
    for name, value in counted.items():
        assert float(measured[name]) == pytest.approx(float(value)), name


def test_a_canary_is_clipped_as_every_client(model):
    plan = privacy.PrivacyPlan(
        unit="client",
        sampler=privacy.PoissonSampler(population=20, expected_size=4),
        mechanism=privacy.Gaussian(clip_norm=0.3, noise_multiplier=0.0),
        delta=1e-3,
    )
    rounds = _Rounds(model, plan, clip_norm=0.3, **_CLIENT)
    one, _ = rounds(canaries.batches_of(0))
    np.testing.assert_allclose(one, 0.3 / 4 * rounds.direction(0), atol=1e-6)
    five, _ = rounds(*(canaries.batches_of(n) for n in range(5)))
    assert 0.3 / 4 < np.linalg.norm(five) <= 5 * 0.3 / 4


def test_ordinary_clients_train_alike_with_and_without_canaries(model, trial):
    found, _ = _Rounds(model, client_learning_rate=0.5)(_ROWS, _EMPTY)
    ordinary = trial(model, client_learning_rate=0.5).round(_ROWS, _EMPTY)
    np.testing.assert_allclose(-found, np.concatenate([np.ravel(w) for w in ordinary]), atol=1e-7)


def test_fedsgd_has_canaries_too(model):
    rounds = _Rounds(model, algorithm="fedsgd", client_learning_rate=None)
    one, _ = rounds(canaries.batches_of(3))
    np.testing.assert_allclose(one, 2 * rounds.direction(3), atol=1e-5)


def _run(path, **flags):
    return federated.run(FederatedConfig(**{**_SMALL, "output_dir": str(path), **flags}))


def _along(run):
    """Returns how far the model has fallen along each canary's direction."""
    members = runs.seal.read_members(run)
    kept = list(runs.trajectory.models(run))
    fallen = np.concatenate([np.ravel(a - b) for a, b in zip(kept[0], kept[-1], strict=True)])
    shapes = [w.shape for w in kept[0]]
    return np.array(
        [
            fallen
            @ np.concatenate(
                [
                    np.ravel(f)
                    for f in models.random_direction(members["canary_seed"], n, shapes, 1.0)
                ]
            )
            for n in range(members["canary_clients"])
        ]
    )


def test_a_run_with_canaries_keeps_its_models_and_its_coins_and_can_go_on(tmp_path):
    # Everybody is drawn in each round, and real clients hardly move the model.
    flags = {"clients_per_round": 32, "client_learning_rate": 1e-6, "eval_every": 2}
    run = _run(tmp_path / "run", **flags)
    members = runs.seal.read_members(run)
    coins = runs.coins.read(run.path, members["coins_sha256"])
    assert len(coins) == members["canary_clients"] == 24
    names = sorted(path.name for path in run.trajectory_path.iterdir())
    assert names == [f"step_{n:08d}.npz" for n in (0, 2, 3)]
    final = tf.keras.models.load_model(run.model_path).trainable_weights
    for kept, weight in zip(list(runs.trajectory.models(run))[-1], final, strict=True):
        np.testing.assert_array_equal(kept, weight)
    along = _along(run)
    assert along[coins].min() > along[~coins].max()
    # Those who were drawn: how many of them took part would tell the coins.
    assert run.read_metrics()["clients"] == [32] * 3

    before = (run.path / "members.json").read_bytes()
    again = _run(tmp_path / "run", **flags, resume=True)
    assert (again.path / "members.json").read_bytes() == before
    assert np.array_equal(runs.coins.read(again.path, members["coins_sha256"]), coins)
    runs.seal.check(again)

    runs.coins.path_of(run.path).unlink()
    with pytest.raises(UserError, match="which says what took part"):
        _run(tmp_path / "run", **flags, resume=True)


def test_the_accounting_is_over_clients_and_canaries(tmp_path):
    run = _run(tmp_path / "run", **{**_CLIENT, "noise_multiplier": 1.0}, clients_per_round=8)
    sampler = privacy.PoissonSampler(population=32, expected_size=8)
    mechanism = privacy.Gaussian(clip_norm=1.0, noise_multiplier=1.0)
    plan = privacy.PrivacyPlan(unit="client", sampler=sampler, mechanism=mechanism, delta=1e-3)
    assert run.summary["epsilon"] == pytest.approx(plan.epsilon([3]).value)
    assert run.summary["num_clients"] == 8
    assert "clients" not in run.read_metrics()


@pytest.mark.parametrize("mechanism", ["adaptive", "tree"])
def test_other_mechanisms_take_canaries(tmp_path, mechanism):
    flags = {**_CLIENT, "noise_multiplier": 0.2, "mechanism": mechanism}
    run = _run(tmp_path / "run", **flags)
    assert len(list(runs.trajectory.models(run))) == 4
    assert run.summary["epsilon"] > 0


def test_a_run_without_canaries_keeps_nothing_for_an_audit(tmp_path):
    run = _run(tmp_path / "run", audit_canaries=0, clients_per_round=3)
    assert not run.trajectory_path.exists()
    assert not runs.coins.path_of(run.path).exists()
    assert set(json.loads((run.path / "members.json").read_text())) == {
        "data_sha256",
        "train_examples",
    }


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"algorithm": "mimelite"}, "--algorithm=mimelite"),
        ({"privacy_unit": "example", "noise_multiplier": 1.0}, "--privacy_unit=example"),
        ({"audit_canaries": -1}, "--audit_canaries=-1"),
        ({"clients_per_round": 33}, "a population of 32"),
    ],
    ids=str,
)
def test_what_cannot_have_canaries_is_refused(tmp_path, flags, says):
    with pytest.raises(UserError) as refused:
        _run(tmp_path / "run", **flags)
    assert says in str(refused.value)
    assert not (tmp_path / "run").exists()
