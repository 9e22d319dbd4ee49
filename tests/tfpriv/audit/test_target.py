"""Tests of tfpriv.audit.target: what may be attacked, and what is read of it."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import datasets, models, runs
from tfpriv.audit import target
from tfpriv.audit.target import Target
from tfpriv.errors import UserError


@pytest.fixture(scope="module")
def opened(overfitted):
    return Target(str(overfitted.path), trust_code=True)


@pytest.fixture(scope="module")
def opened_whole(whole):
    return Target(str(whole.path), trust_code=True)


def test_members_are_those_that_took_part(opened, opened_whole):
    rows = datasets.rows.subset_rows(600, 0.5, 1)
    np.testing.assert_array_equal(opened.member_rows, rows)
    np.testing.assert_array_equal(opened_whole.member_rows, np.arange(600))
    assert opened.is_random and not opened_whole.is_random


def test_canaries_are_no_certain_members(open_run):
    opened = Target(str(open_run.path))
    canaries = opened.recorded["canaries"]
    assert len(opened.member_rows) == 1437 - 400
    assert np.intersect1d(opened.member_rows, canaries).size == 0


def _rows_in(features, examples):
    """Returns the row of each example in `features`."""
    where = {feature.tobytes(): row for row, feature in enumerate(features)}
    return np.array([where.get(feature.tobytes(), -1) for feature in examples.features])


@pytest.mark.parametrize("most", [10, 100, 5000])
def test_split_is_members_as_many_left_out_and_the_rest(opened, most):
    members, others, rest = opened.split(most, 0)
    count = min(most, 300)
    assert (len(members), len(others), len(rest)) == (count, count, 300 - count)
    features = opened.dataset.train_features
    inside = np.concatenate([_rows_in(features, part) for part in (members, rest)])
    assert sorted(inside) == opened.member_rows.tolist()
    outside = _rows_in(features, others)
    assert outside.min() >= 0 and len(set(outside)) == count
    assert np.intersect1d(outside, opened.member_rows).size == 0
    np.testing.assert_array_equal(others.labels, opened.dataset.train_labels[outside])


def test_split_without_a_draw_is_against_test_examples(opened_whole):
    members, others, rest = opened_whole.split(5000, 0)
    # There are 400 test examples.
    assert (len(members), len(others), len(rest)) == (400, 400, 200)
    assert sorted(_rows_in(opened_whole.dataset.test_features, others)) == list(range(400))


def test_split_is_the_seeds(opened):
    one, same, other = (opened.split(100, seed)[0].features for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("fewest", [301, 1000])
def test_too_few_members_or_others_are_refused(opened, fewest):
    with pytest.raises(UserError, match=r"has 300 members to attack and 300 non-members, and") as e:
        opened.split(5000, 0, fewest)
    assert f"at least {fewest} of each; train with another --train_fraction" in str(e.value)


def test_model_is_the_runs(opened, overfitted):
    members, others, _ = opened.split(200, 0)
    model = tf.keras.models.load_model(overfitted.model_path, compile=False)
    expected = model.predict(members.features, verbose=0)
    np.testing.assert_allclose(opened.outputs(members), expected, rtol=1e-5, atol=1e-5)
    assert opened.losses(members).shape == (200,)
    assert opened.losses(members).mean() < opened.losses(others).mean()


def test_claim_is_the_runs(opened, private_run):
    assert opened.epsilon is None and opened.delta == 0
    private = Target(str(private_run.path))
    assert private.epsilon == private_run.privacy["epsilon"] > 0
    assert private.delta == 1e-5


def test_outputs_are_those_of_one_batch():
    model = models.build("logistic", (4,), 3, seed=0)
    features = np.random.default_rng(0).normal(size=(2500, 4)).astype(np.float32)
    expected = model(features).numpy()
    np.testing.assert_allclose(target.outputs(model, features), expected, rtol=1e-5, atol=1e-6)


def test_log_odds_are_those_of_the_right_class():
    answers = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    labels = np.arange(50) % 6
    shares = tf.nn.softmax(answers.astype(np.float64)).numpy()
    own = shares[np.arange(50), labels]
    expected = np.log(own / (1 - own))
    for answer, from_logits in ((answers, True), (shares, False)):
        objective = models.Objective(task="classification", from_logits=from_logits)
        found = target.log_odds(objective, labels, answer)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_log_odds_of_certain_answers_are_finite():
    logits = np.array([[500.0, 0.0, 0.0], [500.0, 0.0, 0.0]], np.float32)
    objective = models.Objective(task="classification", from_logits=True)
    found = target.log_odds(objective, np.array([0, 1]), logits)
    np.testing.assert_allclose(found, [500 - np.log(2), -500], rtol=1e-6)
    objective = models.Objective(task="classification", from_logits=False)
    shares = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32)
    assert np.all(np.isfinite(target.log_odds(objective, np.array([0, 0]), shares)))


def test_log_odds_of_text_are_the_mean_over_positions():
    answers = np.random.default_rng(0).normal(size=(5, 7, 4)).astype(np.float32)
    labels = np.random.default_rng(1).integers(4, size=(5, 7))
    objective = models.Objective(task="classification", from_logits=True)
    by_position = target.log_odds(objective, labels.ravel(), answers.reshape(35, 4))
    np.testing.assert_allclose(
        target.log_odds(objective, labels, answers), by_position.reshape(5, 7).mean(axis=1)
    )


@pytest.mark.parametrize(("given", "folder"), [(None, "of_run"), ("given", "given")])
def test_features_are_kept_where_the_data_are(overfitted, monkeypatch, given, folder):
    taken = []
    load, with_features = datasets.load, datasets.with_features
    monkeypatch.setattr(
        datasets, "load", lambda name, where, **how: taken.append(where) or load(name, **how)
    )
    monkeypatch.setattr(
        datasets,
        "with_features",
        lambda dataset, name, where: taken.append(where) or with_features(dataset, name),
    )
    config = {**overfitted.config, "flags": {**overfitted.config["flags"], "data_dir": "of_run"}}
    monkeypatch.setattr(runs.RunDirectory, "config", config)
    Target(str(overfitted.path), given, trust_code=True)
    assert taken == [folder, folder]


# What is refused.


def _append(path):
    path.write_bytes(path.read_bytes() + b"\0")


def _change_flag(path):
    config = json.loads(path.read_text())
    config["flags"]["epochs"] = 99
    path.write_text(json.dumps(config))


def _claim_less(path):
    privacy = json.loads(path.read_text())
    privacy["epsilon"] = 100.0
    path.write_text(json.dumps(privacy))


def _forget_a_canary(path):
    members = json.loads(path.read_text())
    members["canaries"].pop()
    path.write_text(json.dumps(members))


@pytest.mark.parametrize(
    ("name", "alter"),
    [
        ("model.keras", _append),
        ("config.json", _change_flag),
        ("privacy.json", _claim_less),
        ("members.json", _forget_a_canary),
    ],
)
def test_altered_run_is_refused(open_run, copied, name, alter):
    run = copied(open_run)
    alter(run.path / name)
    with pytest.raises(UserError, match=rf"{name} was altered or removed"):
        Target(str(run.path))


def test_run_without_members_is_refused(open_run, copied):
    run = copied(open_run)
    (run.path / "members.json").unlink()
    with pytest.raises(UserError, match=r"there is no members\.json"):
        Target(str(run.path))


def test_unfinished_run_is_refused(open_run, copied):
    run = copied(open_run)
    (run.path / "seal.json").unlink()
    with pytest.raises(UserError, match="has not ended"):
        Target(str(run.path))


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        Target(str(tmp_path / "nowhere"))


def test_run_of_another_program_is_refused(tmp_path):
    runs.RunDirectory.create(tmp_path / "run", {}, program="secure_inference").close()
    with pytest.raises(UserError, match="is a run of the program secure_inference"):
        Target(str(tmp_path / "run"))


def test_other_data_are_refused(overfitted, monkeypatch):
    load = datasets.load

    def altered(*arguments, **how):
        dataset = load(*arguments, **how)
        features = dataset.train_features.copy()
        features[0, 0] += 1
        return dataclasses.replace(dataset, train_features=features)

    monkeypatch.setattr(datasets, "load", altered)
    with pytest.raises(UserError, match=r"is not what .* was trained on"):
        Target(str(overfitted.path), trust_code=True)


def test_canaries_of_another_seed_are_refused(open_run, copied):
    """Even where the seal was made anew."""
    run = copied(open_run)
    path = run.path / "members.json"
    members = json.loads(path.read_text())
    members["canaries"] = list(range(400))
    path.write_text(json.dumps(members))
    runs.seal.write(run)
    with pytest.raises(UserError, match="its canaries are not its seed's"):
        Target(str(run.path)).with_canaries()
