"""Runs with canaries, which take part by a coin each, and runs on a part of the data."""

import json

import numpy as np
import pytest

from tfpriv import central, datasets, runs
from tfpriv.central import trainer
from tfpriv.central.config import CentralConfig
from tfpriv.central.step import PlainStep, PrivateStep
from tfpriv.errors import UserError

# A batch of a third: in two epochs, six steps, most canaries are drawn.
SMALL = {
    "dataset": "digits",
    "model": "logistic",
    "expected_batch_size": 479,
    "epochs": 2,
    "learning_rate": 0.5,
    "seed": 3,
}
PRIVATE = {**SMALL, "noise_multiplier": 0.0}
OPEN = {**SMALL, "mechanism": "none"}
CANARIES = {"audit_canaries": 100, "audit_canary_kind": "out_of_distribution"}


def _run(path, **settings):
    return central.run(CentralConfig(output_dir=str(path), **settings))


def _members(run):
    return json.loads((run.path / "members.json").read_text())


def _canaries(run):
    """Returns the planted data, the canaries' rows and their coins."""
    flags, members = run.config["flags"], _members(run)
    planted, rows = datasets.canaries.plant(
        datasets.load("digits"), flags["audit_canaries"], flags["audit_canary_kind"], flags["seed"]
    )
    assert members["canaries"] == rows.tolist()
    return planted, rows, runs.coins.read(run.path, members["coins_sha256"])


def _bytes(features, labels):
    return {
        feature.tobytes() + bytes([label]) for feature, label in zip(features, labels, strict=True)
    }


@pytest.fixture(name="trained_on")
def _trained_on(monkeypatch):
    """What the steps are given, as a set, in runs that follow."""
    seen = set()
    private, plain = PrivateStep.__call__, PlainStep.__call__

    def private_step(step, chunks):
        for features, labels, present in chunks:
            seen.update(_bytes(features[present > 0], labels[present > 0]))
        return private(step, chunks)

    def plain_step(step, features, labels):
        seen.update(_bytes(features, labels))
        return plain(step, features, labels)

    monkeypatch.setattr(PrivateStep, "__call__", private_step)
    monkeypatch.setattr(PlainStep, "__call__", plain_step)
    return seen


@pytest.mark.parametrize(
    "settings",
    [
        PRIVATE,
        OPEN,
        {**PRIVATE, "audit_canary_kind": "mislabelled"},
        {**PRIVATE, "sampler": "shuffled"},
        {**PRIVATE, "mechanism": "tree"},
        {**PRIVATE, "accumulate_steps": 2},
    ],
    ids=str,
)
def test_canary_takes_part_if_its_coin_says_heads(settings, tmp_path, trained_on):
    run = _run(tmp_path / "run", **{**CANARIES, **settings})
    planted, rows, coins = _canaries(run)
    heads, tails = (
        _bytes(planted.train_features[part], planted.train_labels[part])
        for part in (rows[coins], rows[~coins])
    )
    assert len(heads) + len(tails) == 100 and len(tails) > 20
    assert tails.isdisjoint(trained_on)
    # An example is in none of six steps of a third with probability 0.09.
    assert len(heads & trained_on) > 0.7 * len(heads)
    # Nor does what the canaries were before.
    original = datasets.load("digits")
    before = _bytes(original.train_features[rows], original.train_labels[rows])
    assert before.isdisjoint(trained_on)


def test_canaries_change_neither_the_plan_nor_the_steps(tmp_path):
    settings = {**SMALL, "noise_multiplier": 1.0}
    without = _run(tmp_path / "without", **settings)
    run = _run(tmp_path / "with", **settings, **CANARIES)
    for name in ("epsilon", "steps", "noise_multiplier"):
        assert run.summary[name] == without.summary[name]
    assert run.privacy == without.privacy


def test_plan_counts_all_canaries(tmp_path, monkeypatch):
    populations = []
    build = trainer.build_plan

    def recording(config, population):
        populations.append(population)
        return build(config, population)

    monkeypatch.setattr(trainer, "build_plan", recording)
    _run(tmp_path / "run", **PRIVATE, **CANARIES)
    assert populations == [len(datasets.load("digits").train_labels)]


def test_run_without_canaries_keeps_neither_coins_nor_models(tmp_path):
    run = _run(tmp_path / "run", **PRIVATE)
    assert not runs.coins.path_of(run.path).exists() and not run.trajectory_path.exists()
    assert set(_members(run)) == {"data_sha256", "train_examples"}
    runs.seal.check(run)


def test_members_are_recorded_without_the_coins(tmp_path):
    run = _run(tmp_path / "run", **PRIVATE, **CANARIES)
    members = _members(run)
    assert set(members) == {"data_sha256", "train_examples", "canaries", "coins_sha256"}
    assert members["train_examples"] == 1437
    assert members["data_sha256"] == datasets.rows.fingerprint(datasets.load("digits"))
    kept = json.loads(runs.coins.path_of(run.path).read_text())
    for path in run.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert kept["coins"].encode() not in content and kept["salt"].encode() not in content
    runs.seal.check(run)


def test_trajectory_holds_the_first_model_and_that_of_each_evaluation(tmp_path):
    settings = {**PRIVATE, "epochs": 5, "eval_every": 2}
    run = _run(tmp_path / "run", **settings, **CANARIES)
    # An epoch has three steps; evaluated are epochs 2, 4 and 5.
    names = [path.name for path in sorted(run.trajectory_path.iterdir())]
    assert names == [f"step_{step:08d}.npz" for step in (0, 6, 12, 15)]
    import tensorflow as tf

    from tfpriv import models

    first = models.build("logistic", (8, 8, 1), 10, seed=3)
    last = tf.keras.models.load_model(run.model_path)
    for name, model in ((names[0], first), (names[-1], last)):
        with np.load(run.trajectory_path / name) as content:
            for number, weights in enumerate(model.trainable_weights):
                np.testing.assert_array_equal(content[f"arr_{number}"], weights.numpy())


def _interrupt(path, settings, monkeypatch, at):
    take = trainer._Session._take_step

    def failing(session, step):
        if step > at:
            raise KeyboardInterrupt
        take(session, step)

    with monkeypatch.context() as patched:
        patched.setattr(trainer._Session, "_take_step", failing)
        with pytest.raises(KeyboardInterrupt):
            _run(path, **settings)


def test_resumed_run_keeps_its_coins(tmp_path, monkeypatch, trained_on):
    settings = {**PRIVATE, **CANARIES, "epochs": 4}
    _interrupt(tmp_path / "run", settings, monkeypatch, 7)
    path = runs.coins.path_of(tmp_path / "run")
    kept = path.read_bytes()
    run = _run(tmp_path / "run", **settings, resume=True)
    assert path.read_bytes() == kept
    planted, rows, coins = _canaries(run)
    out = _bytes(planted.train_features[rows[~coins]], planted.train_labels[rows[~coins]])
    assert out.isdisjoint(trained_on)
    steps = [int(path.stem.partition("_")[2]) for path in sorted(run.trajectory_path.iterdir())]
    assert steps[:3] == [0, 3, 6] and steps[-1] == run.summary["steps"] == 12
    runs.seal.check(run)


def test_run_whose_coins_are_lost_does_not_go_on(tmp_path, monkeypatch):
    settings = {**PRIVATE, **CANARIES, "epochs": 4}
    _interrupt(tmp_path / "run", settings, monkeypatch, 7)
    runs.coins.path_of(tmp_path / "run").unlink()
    with pytest.raises(UserError, match=r"run\.coins\.json is not there"):
        _run(tmp_path / "run", **settings, resume=True)


def test_coins_of_a_run_that_is_gone_are_not_written_over(tmp_path):
    runs.coins.flip(tmp_path / "run", 100)
    with pytest.raises(UserError, match="holds the coin flips of another run"):
        _run(tmp_path / "run", **PRIVATE, **CANARIES)


def test_train_fraction_takes_so_many_and_no_others(tmp_path, trained_on):
    run = _run(tmp_path / "run", **{**OPEN, "expected_batch_size": 200}, train_fraction=0.3)
    assert _members(run)["train_examples"] == 431
    whole = datasets.load("digits")
    rows = datasets.rows.subset_rows(1437, 0.3, 3)
    assert trained_on <= _bytes(whole.train_features[rows], whole.train_labels[rows])
    assert len(trained_on) > 300


def test_train_fraction_is_the_plans_population(tmp_path):
    settings = {**SMALL, "expected_batch_size": 100, "noise_multiplier": 1.0}
    whole = _run(tmp_path / "whole", **settings)
    part = _run(tmp_path / "part", **settings, train_fraction=0.3)
    # A pass over fewer takes fewer steps, each of which takes more of them.
    assert (whole.summary["steps"], part.summary["steps"]) == (29, 9)
    assert part.summary["epsilon"] > whole.summary["epsilon"]


def test_canaries_are_among_the_part_that_is_taken(tmp_path, trained_on):
    settings = {**OPEN, "expected_batch_size": 200, "train_fraction": 0.5}
    run = _run(tmp_path / "run", **settings, **CANARIES)
    members = _members(run)
    assert members["train_examples"] == 718 and max(members["canaries"]) < 718
    whole = datasets.load("digits")
    others = np.delete(np.arange(1437), datasets.rows.subset_rows(1437, 0.5, 3))
    outside = _bytes(whole.train_features[others], whole.train_labels[others])
    assert outside.isdisjoint(trained_on)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"audit_canary_kind": "mislabelled"}, "has no meaning without canaries"),
        ({"audit_canaries": 5, "audit_canary_kind": "loud"}, "--audit_canary_kind=loud"),
        ({"audit_canaries": -1}, "--audit_canaries=-1 is too small"),
        (
            {"audit_canaries": 50, "features": "dp_pca", "pca_noise_multiplier": 7.0},
            "--audit_canaries=50 and --features=dp_pca do not go together",
        ),
        ({"train_fraction": 0.0}, "--train_fraction=0.0 must be a number above 0 and at most 1"),
        ({"train_fraction": -0.5}, "--train_fraction=-0.5 must be"),
        ({"train_fraction": 1.01}, "--train_fraction=1.01 must be"),
        ({"train_fraction": float("nan")}, "--train_fraction=nan must be"),
        ({"audit_canaries": 719}, "is more than half of the 1437 training examples"),
        ({"audit_canaries": 500, "train_fraction": 0.5}, "more than half of the 718"),
        (
            {"audit_canaries": 50, "dataset": "diabetes", "model": "mlp"},
            "needs a data set with one class an example",
        ),
    ],
)
def test_canaries_and_parts_that_cannot_be_are_refused(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        _run(tmp_path / "run", **{**PRIVATE, **settings})
    assert list(tmp_path.iterdir()) == []


def test_kind_is_mislabelled_unless_it_is_given():
    config = CentralConfig(**PRIVATE, audit_canaries=5).complete()
    assert config.audit_canary_kind == "mislabelled"
    assert CentralConfig(**PRIVATE).complete().audit_canary_kind is None
