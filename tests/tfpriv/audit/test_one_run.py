import json
import types

import numpy as np
import pytest

from tfpriv import runs
from tfpriv.audit import one_run
from tfpriv.audit.target import Target, outputs
from tfpriv.errors import UserError

_FROZEN = """
import tensorflow as tf

def build(element_shape, num_classes):
    return tf.keras.Sequential([
        tf.keras.layers.Input(tuple(element_shape)),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(30, activation="relu", trainable=False),
        tf.keras.layers.Dense(num_classes),
    ])
"""


def _content(run):
    return json.loads((run.path / "audit.json").read_text())


def test_run_without_privacy_is_proved_to_leak(open_run, attack):
    run, is_broken = attack(open_run, attack="one_run")
    # It claims nothing that could be broken.
    assert not is_broken
    content = _content(run)
    assert content["epsilon_lower_bound"] > 1
    assert content["accounted_epsilon"] is None and content["delta"] == 0
    assert content["verdict"].endswith("; the run claims no privacy")
    assert content["canaries"] == 400 and content["unit"] == "example"
    assert [one["attack"] for one in content["results"]] == ["trajectory", "final_model"]
    best = max(one["epsilon"] for one in content["results"])
    assert content["epsilon_lower_bound"] == best
    for one in content["results"]:
        assert one["threat_model"] == one_run.THREAT_MODELS[one["attack"]]
        assert one["members"] + one["others"] == 400
        assert 0 <= one["correct"] <= one["guesses"] <= 400
        for figure in ("auc", "advantage", "tpr_at_fpr_0.001", "tpr_at_fpr_0.01"):
            assert one[figure]["low"] <= one[figure]["value"] <= one[figure]["high"]
    trajectory = content["results"][0]
    assert content["threat_model"] == trajectory["threat_model"]
    assert trajectory["auc"]["low"] > 0.7
    assert run.summary["trajectory_epsilon"] == trajectory["epsilon"]
    assert (run.plots_path / "roc.png").exists()


def test_private_run_keeps_its_promise(private_run, attack):
    run, is_broken = attack(private_run, attack="one_run")
    content = _content(run)
    assert not is_broken
    assert content["epsilon_lower_bound"] <= content["accounted_epsilon"]
    assert content["accounted_epsilon"] == private_run.summary["epsilon"]
    assert content["delta"] == 1e-5
    assert "<= accounted" in content["verdict"] and content["broken"] is False


def test_audit_is_the_same_again(open_run, attack, tmp_path):
    first, _ = attack(open_run, attack="one_run")
    second, _ = attack(open_run, attack="one_run", output_dir=str(tmp_path / "again"))
    one, other = (run.summary["epsilon_lower_bound"] for run in (first, second))
    assert one == pytest.approx(other, abs=1e-3)


def test_residuals_leave_nothing_of_what_is_explained():
    generator = np.random.default_rng(0)
    explaining, noise = generator.normal(size=(2, 300))
    left = one_run._residuals(5 + 3 * explaining, explaining)
    np.testing.assert_allclose(left, 0, atol=1e-9)
    left = one_run._residuals(5 + 3 * explaining + noise, explaining)
    assert abs(np.corrcoef(left, explaining)[0, 1]) < 1e-9
    assert np.corrcoef(left, noise)[0, 1] > 0.99
    np.testing.assert_allclose(one_run._residuals(noise, np.zeros(300)), noise - noise.mean())


def test_copy_has_the_frozen_weights_too(train, tmp_path):
    file = tmp_path / "frozen.py"
    file.write_text(_FROZEN)
    run = train(
        dataset="digits", model=f"{file}:build", mechanism="none", epochs=1, audit_canaries=50
    )
    opened = Target(str(run.path))
    canaries, _ = one_run.planted(opened)
    copied = outputs(one_run._copy(opened), canaries.features)
    np.testing.assert_allclose(copied, opened.outputs(canaries), rtol=1e-5, atol=1e-5)


# What is refused.


def test_run_without_canaries_is_refused(overfitted, attack):
    with pytest.raises(UserError, match="has no canaries; train with --audit_canaries"):
        attack(overfitted, attack="one_run")


def test_too_few_canaries_are_refused(train, attack):
    run = train(dataset="digits", model="logistic", mechanism="none", epochs=1, audit_canaries=19)
    with pytest.raises(UserError, match="has 19 canaries, which can prove nothing"):
        attack(run, attack="one_run")


def test_missing_coins_are_refused(open_run, attack, copied):
    run = copied(open_run)
    runs.coins.path_of(run.path).unlink()
    with pytest.raises(UserError, match=r"run\.coins\.json is not there"):
        attack(run, attack="one_run")


def test_coins_of_another_run_are_refused(open_run, private_run, attack, copied):
    run = copied(open_run)
    others = runs.coins.path_of(private_run.path).read_bytes()
    runs.coins.path_of(run.path).write_bytes(others)
    with pytest.raises(UserError, match="does not hold the coins that were flipped for this run"):
        attack(run, attack="one_run")


def test_lost_models_are_refused(open_run, attack, copied):
    run = copied(open_run)
    for path in sorted(run.trajectory_path.iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match="was altered or removed"):
        attack(run, attack="one_run")
    runs.seal.write(run)
    with pytest.raises(UserError, match="holds 1 models, too few to follow the training"):
        attack(run, attack="one_run")


def test_damaged_models_are_refused(open_run, attack, copied):
    run = copied(open_run)
    path = sorted(run.trajectory_path.iterdir())[3]
    path.write_bytes(path.read_bytes()[:200])
    runs.seal.write(run)
    with pytest.raises(UserError, match=rf"{path.name} is damaged"):
        attack(run, attack="one_run")


def test_federated_run_is_refused():
    federated = types.SimpleNamespace(program="federated")
    with pytest.raises(UserError, match="use --attack=canary_clients"):
        one_run.planted(federated)


def test_canaries_are_read_as_they_were_planted(open_run):
    target = Target(str(open_run.path))
    canaries, coins = one_run.planted(target)
    assert len(canaries) == len(coins) == 400
    assert abs(coins.mean() - 0.5) < 0.15
    rows = np.array(target.recorded["canaries"])
    assert np.all(canaries.labels != target.dataset.train_labels[rows])
