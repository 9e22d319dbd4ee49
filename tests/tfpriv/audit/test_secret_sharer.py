"""Planting secrets, what their ranks say, and a whole run that memorizes."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import special

from tfpriv import audit, central, datasets, models
from tfpriv.audit import secret_sharer, statistics
from tfpriv.central import CentralConfig
from tfpriv.datasets import secrets
from tfpriv.errors import UserError

OWN = """
import numpy as np, tensorflow as tf
from tfpriv.datasets import Dataset

def text():
    generator = np.random.default_rng(0)
    starts, steps = generator.integers(0, 11, (400, 1)), generator.integers(1, 4, (400, 13))
    windows = ((starts + np.cumsum(steps, axis=1)) % 11 + 1).astype(np.int32)
    return Dataset(
        name="text", task="classification", num_classes=12,
        train_features=windows[:300, :-1], train_labels=windows[:300, 1:],
        test_features=windows[300:, :-1], test_labels=windows[300:, 1:])

def model(shape, classes):
    return tf.keras.Sequential([
        tf.keras.layers.InputLayer(shape, dtype="int32"),
        tf.keras.layers.Embedding(classes, 16),
        tf.keras.layers.Conv1D(96, 6, padding="causal", activation="relu"),
        tf.keras.layers.Dense(classes)])
"""


@pytest.fixture(name="own", scope="module")
def _own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(OWN)
    return path


@pytest.fixture(name="text")
def _text(own):
    return datasets.load(f"{own}:text")


def _train(own, path, **settings):
    return central.run(
        CentralConfig(
            dataset=f"{own}:text",
            model=f"{own}:model",
            optimizer="adam",
            learning_rate=0.01,
            expected_batch_size=32,
            epochs=5,
            eval_every=5,
            checkpoint_every=5,
            audit_secrets=12,
            output_dir=str(path),
            **settings,
        )
    )


def _audit(run, path):
    config = audit.AuditConfig(
        run=str(run.path), attack="secret_sharer", trust_code=True, output_dir=str(path)
    )
    run, is_broken = audit.run(config)
    assert not is_broken
    return run, json.loads((run.path / "audit.json").read_text())


@pytest.fixture(name="trained", scope="module")
def _trained(own, tmp_path_factory):
    return _train(own, tmp_path_factory.mktemp("runs") / "trained", mechanism="none")


def test_each_secret_is_planted_as_often_as_it_says(text):
    drawn = secrets.draw(text, 3, seed=7)
    planted = secrets.plant(text, drawn)
    np.testing.assert_array_equal(planted.train_features[:300], text.train_features)
    np.testing.assert_array_equal(planted.train_labels[:300], text.train_labels)
    features, labels = planted.train_features[300:], planted.train_labels[300:]
    assert len(features) == len(labels) == 3 * (1 + 4 + 16)
    np.testing.assert_array_equal(features[:, 1:], labels[:, :-1])
    windows = np.concatenate([features, labels[:, -1:]], axis=1)
    rows, counts = np.unique(windows, axis=0, return_counts=True)
    assert sorted(counts) == [1] * 3 + [4] * 3 + [16] * 3
    for times, parts in drawn.planted.items():
        for window in drawn.windows(parts):
            assert counts[(rows == window).all(axis=1)] == [times]
    datasets.check(planted)


def test_a_secret_is_a_test_example_but_for_its_middle(text):
    drawn = secrets.draw(text, 3, seed=7)
    middle = slice(drawn.start, drawn.start + secrets.LENGTH)
    original = np.append(text.test_features[drawn.example], text.test_labels[drawn.example, -1])
    parts = drawn.planted[16]
    windows = drawn.windows(parts)
    np.testing.assert_array_equal(windows[:, middle], parts)
    np.testing.assert_array_equal(
        np.delete(windows, np.r_[middle], axis=1),
        np.tile(np.delete(original, np.r_[middle]), (3, 1)),
    )


def test_secrets_follow_from_the_seed(text):
    first, again, other = (secrets.draw(text, 3, seed).record() for seed in (7, 7, 8))
    assert first == again == json.loads(json.dumps(first))
    assert first["planted"] != other["planted"]


def test_references_are_new_and_of_the_secrets_distribution(text):
    drawn = secrets.draw(text, 10, seed=7)
    references = drawn.references(1000, seed=1)
    both = np.concatenate([*drawn.planted.values(), references])
    assert len(np.unique(both, axis=0)) == len(both) == 1030
    counts = np.bincount(references.reshape(-1), minlength=12)
    assert counts[0] == 0
    # 8000 / 11 in the mean; its standard deviation is 26.
    assert np.all(np.abs(counts[1:] - 8000 / 11) < 4.5 * 26)


@pytest.mark.parametrize("side", ["before", "after"])
def test_padding_stays_padding(text, side):
    pads = np.zeros((len(text.test_labels), 5), np.int32)

    def padded(features, labels):
        windows = np.concatenate([features, labels[:, -1:]], axis=1)
        windows = np.concatenate([pads, windows] if side == "before" else [windows, pads], axis=1)
        return windows[:, :-1], windows[:, 1:]

    features, labels = padded(text.test_features, text.test_labels)
    data = datasets.Dataset(
        name="padded", task="classification", num_classes=12,
        train_features=features, train_labels=labels, test_features=features, test_labels=labels,
    )  # fmt: skip
    drawn = secrets.draw(data, 1, seed=0)
    windows = drawn.windows(drawn.planted[1])
    where = np.arange(18)
    np.testing.assert_array_equal(windows[0] == 0, where < 5 if side == "before" else where >= 13)


def test_secrets_before_all_references_have_the_largest_exposure():
    references = np.random.default_rng(0).normal(30, 2, 1024)
    found = secret_sharer.finding({1: np.full(10, 5.0), 4: np.full(10, 99.0)}, references, 40, 0.95)
    first, last = found.figures["results"]
    assert first["median_exposure"]["value"] == first["median_exposure"]["high"] == 10.0
    assert first["before_all_references"] == {
        "value": 1.0,
        "low": pytest.approx(0.025**0.1),
        "high": 1.0,
    }
    assert first["median_extrapolated_exposure"]["value"] == 40
    assert last["median_exposure"]["value"] == pytest.approx(math.log2(1024 / 1025))
    assert last["before_all_references"]["value"] == 0.0
    assert found.epsilon_lower_bound is None


def test_secrets_that_were_not_memorized_have_an_exposure_of_one():
    generator = np.random.default_rng(0)
    found = secret_sharer.finding(
        {1: generator.normal(30, 2, 401)}, generator.normal(30, 2, 1000), 40, 0.95
    )
    (result,) = found.figures["results"]
    for kind in ("median_exposure", "median_extrapolated_exposure"):
        assert result[kind]["value"] == pytest.approx(1, abs=0.25)
        assert result[kind]["low"] < 1.1 and result[kind]["high"] > 0.9
    # P[log2 R / rank >= e] = 2^-e.
    assert np.mean(np.array(result["exposures"]) >= 3) == pytest.approx(1 / 8, abs=0.05)
    assert result["auc"]["low"] < 0.5 < result["auc"]["high"]


def test_interval_of_a_median_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    for count in (3, 12, 40):
        estimates = [
            statistics.median(generator.exponential(size=count), 0, math.inf, 0.9)
            for _ in range(1000)
        ]
        covered = np.mean([one.low <= math.log(2) <= one.high for one in estimates])
        assert covered > 0.88
        assert covered < 0.97 or count == 3
    alone = statistics.median(np.array([2.0]), 0.0, 9.0)
    assert (alone.value, alone.low, alone.high) == (2.0, 0.0, 9.0)


@pytest.mark.parametrize("from_logits", [True, False])
def test_log_perplexity_is_of_the_random_part_alone(from_logits):
    generator = np.random.default_rng(0)
    outputs = generator.normal(size=(4, 12, 5))
    labels = generator.integers(0, 5, (4, 12))
    probabilities = special.softmax(outputs, axis=-1)
    wanted = [
        -sum(math.log2(probabilities[row, i - 1, labels[row, i - 1]]) for i in range(3, 11))
        for row in range(4)
    ]
    found = secret_sharer.log_perplexities(
        outputs if from_logits else probabilities,
        labels,
        3,
        models.Objective(task="classification", from_logits=from_logits),
    )
    np.testing.assert_allclose(found, wanted)


def test_a_run_memorizes_what_is_repeated(trained, tmp_path):
    members = json.loads((trained.path / "members.json").read_text())
    assert members["train_examples"] == 300
    assert {n: len(parts) for n, parts in members["secrets"]["planted"].items()} == {
        "1": 12,
        "4": 12,
        "16": 12,
    }
    run, found = _audit(trained, tmp_path / "audit")
    once, _, often = found["results"]
    assert (once["repetitions"], often["repetitions"]) == (1, 16)
    assert often["median_exposure"]["low"] > once["median_exposure"]["high"]
    assert often["before_all_references"]["value"] > once["before_all_references"]["value"]
    assert found["largest_exposure"] == math.log2(1000)
    assert found["unit"] == "secret" and found["epsilon_lower_bound"] is None
    assert "planted for certain" in found["verdict"]
    for picture in ("exposure.png", "roc.png"):
        assert (run.plots_path / picture).stat().st_size > 5000
    assert run.summary["median_exposure_16"] == often["median_exposure"]["value"]


def test_privacy_keeps_secrets_from_being_memorized(own, tmp_path):
    private = _train(own, tmp_path / "run", noise_multiplier=1.0, delta=1e-3)
    # Each planting is an example like the others, in the batches and in the account.
    assert private.summary["steps"] == round(5 * (300 + 12 * 21) / 32)
    _, found = _audit(private, tmp_path / "audit")
    assert found["accounted_epsilon"] == private.summary["epsilon"] < 3
    # Open runs rank all of these before all references.
    often = found["results"][-1]
    assert often["before_all_references"]["value"] < 0.7
    assert often["median_exposure"]["value"] < 7


def test_a_run_without_secrets_cannot_be_ranked(tmp_path):
    run = central.run(
        CentralConfig(
            dataset="digits",
            model="logistic",
            mechanism="none",
            epochs=1,
            output_dir=str(tmp_path / "run"),
        )
    )
    config = audit.AuditConfig(
        run=str(run.path), attack="secret_sharer", output_dir=str(tmp_path / "audit")
    )
    with pytest.raises(UserError, match="has no secrets; train with --audit_secrets"):
        audit.run(config)


def test_only_text_can_have_secrets(tmp_path):
    config = CentralConfig(
        dataset="digits",
        model="logistic",
        mechanism="none",
        audit_secrets=2,
        output_dir=str(tmp_path / "run"),
    )
    with pytest.raises(UserError, match="needs text, int32 tokens with a label at each position"):
        central.run(config)
    assert not (tmp_path / "run").exists()


def test_negative_counts_are_refused():
    with pytest.raises(UserError, match="--audit_secrets=-1 is too small"):
        CentralConfig(mechanism="none", audit_secrets=-1).complete()


def _text_of(windows):
    return datasets.Dataset(
        name="text", task="classification", num_classes=12,
        train_features=windows[:, :-1], train_labels=windows[:, 1:],
        test_features=windows[:, :-1], test_labels=windows[:, 1:],
    )  # fmt: skip


def test_data_without_place_for_secrets_are_refused(text):
    with pytest.raises(UserError, match="would plant 315 examples beside the 300"):
        secrets.draw(text, 15, 0)
    short = np.ones((30, 8), np.int32)
    with pytest.raises(UserError, match="have 8 tokens at most"):
        secrets.draw(_text_of(short), 1, 0)
    binary = np.tile(np.array([1, 2], np.int32), (30, 8))
    with pytest.raises(UserError, match="more different tokens than the 2"):
        secrets.draw(_text_of(binary), 1, 0)
    tagged = dataclasses.replace(text, train_labels=text.train_features)
    with pytest.raises(UserError, match="labels are the next tokens"):
        secrets.draw(tagged, 1, 0)
