"""Tests of tfpriv.audit.lira and shadows. The shadow models train in processes of their own."""

import json
import os
import sys
import types

import numpy as np
import pytest
from scipy import stats

from tfpriv import audit, runs
from tfpriv.audit import lira, shadows
from tfpriv.audit.shadows import Shadows
from tfpriv.errors import UserError

_MODELS, _EXAMPLES = 8, 100


@pytest.mark.parametrize(("models", "size"), [(2, 5), (8, 200), (64, 11)])
def test_each_example_is_in_half_of_the_models_at_random(models, size):
    is_in = shadows.design(models, size, 3)
    assert is_in.shape == (models, size) and is_in.dtype == bool
    assert np.all(is_in.sum(axis=0) == models // 2)
    np.testing.assert_array_equal(is_in, shadows.design(models, size, 3))
    assert not np.array_equal(is_in, shadows.design(models, size, 4))


def test_models_take_about_half_of_the_examples():
    shares = shadows.design(16, 2000, 0).mean(axis=1)
    # Six standard deviations.
    assert np.all(np.abs(shares - 0.5) < 0.067)


def test_each_model_has_a_seed_of_its_own_that_training_takes():
    found = [shadows.seed_of(seed, number) for seed in (0, 1, 2**32 - 1) for number in range(64)]
    assert len({*found}) == len(found)
    assert min(found) >= 0 and max(found) < 2**32


def _gaussian(models, size, seed=0):
    """Shadow models whose log odds are N(2, 1) with an example and N(0, 2^2) without it."""
    generator = np.random.default_rng(seed)
    is_in = shadows.design(models, size, seed)
    inside, outside = generator.normal(2, 1, is_in.shape), generator.normal(0, 2, is_in.shape)
    return Shadows(statistics=np.where(is_in, inside, outside), is_in=is_in)


def test_online_score_is_the_log_likelihood_ratio():
    own = np.linspace(-4, 6, 21)
    found = lira.score(own, _gaussian(20000, 21), "online")
    expected = stats.norm.logpdf(own, 2, 1) - stats.norm.logpdf(own, 0, 2)
    np.testing.assert_allclose(found, expected, atol=0.6)
    # The ratio is best found where it does not change much.
    np.testing.assert_allclose(found[10:15], expected[10:15], atol=0.1)


def test_offline_score_is_in_standard_deviations_of_models_without():
    own = np.linspace(-4, 6, 21)
    found = lira.score(own, _gaussian(20000, 21), "offline")
    np.testing.assert_allclose(found, own / 2, atol=0.1)


def test_offline_scores_far_above_are_told_apart():
    found = lira.score(np.array([50.0, 100.0, 1000.0]), _gaussian(100, 3), "offline")
    assert np.all(np.diff(found) > 1)


def test_offline_score_by_hand():
    statistics = np.array([[1.0, 9.0], [3.0, 9.0], [9.0, 0.0], [9.0, 4.0]])
    is_in = np.array([[0, 1], [0, 1], [1, 0], [1, 0]], bool)
    found = lira.score(np.array([4.0, 1.0]), Shadows(statistics=statistics, is_in=is_in), "offline")
    # Medians 2 and 2; deviations from them of 1, 1, 2, 2, of which few make one for all.
    deviation = np.sqrt((1 + 1 + 4 + 4) / 4)
    np.testing.assert_allclose(found, np.array([2, -1]) / deviation)


@pytest.mark.parametrize("models", [8, 64])
@pytest.mark.parametrize("kind", ["offline", "online"])
def test_scores_tell_members_from_others(models, kind):
    generator = np.random.default_rng(1)
    trained = _gaussian(models, 400)
    own = np.concatenate([generator.normal(2, 1, 200), generator.normal(0, 2, 200)])
    scores = lira.score(own, trained, kind)
    assert np.all(np.isfinite(scores))
    assert np.mean(scores[:200]) > np.mean(scores[200:])


@pytest.mark.parametrize("kind", ["offline", "online"])
def test_models_that_agree_wholly_give_finite_scores(kind):
    trained = Shadows(statistics=np.zeros((8, 5)), is_in=shadows.design(8, 5, 0))
    assert not np.any(np.isnan(lira.score(np.zeros(5), trained, kind)))


@pytest.fixture(scope="module")
def settings(overfitted, tmp_path_factory):
    return {
        "run": str(overfitted.path),
        "attack": "lira",
        "shadow_models": _MODELS,
        "max_examples": _EXAMPLES,
        "trust_code": True,
        "output_dir": str(tmp_path_factory.mktemp("lira") / "audit"),
    }


@pytest.fixture(scope="module")
def attacked(settings):
    run, is_broken = audit.run(audit.AuditConfig(**settings))
    assert not is_broken
    return run


def _content(run):
    return json.loads((run.path / "audit.json").read_text())


def test_lira_finds_what_is_remembered(attacked):
    content = _content(attacked)
    by_name = {one["attack"]: one for one in content["results"]}
    assert set(by_name) == {"lira offline", "lira online", "threshold"}
    for name in ("lira offline", "lira online"):
        assert by_name[name]["auc"]["low"] > 0.5
        assert by_name[name]["members"] == by_name[name]["others"] == _EXAMPLES
        for figure in ("auc", "advantage", "tpr_at_fpr_0.001", "tpr_at_fpr_0.01"):
            assert set(by_name[name][figure]) == {"value", "low", "high"}
    assert by_name["lira online"]["auc"]["value"] > 0.7
    assert content["shadow_models"] == _MODELS
    assert content["threat_model"] == lira.THREAT_MODEL and content["unit"] == "example"
    assert content["accounted_epsilon"] is None and content["epsilon_lower_bound"] >= 0
    assert "the random draw by --train_fraction" in content["bound_rests_on"]
    assert (attacked.plots_path / "roc.png").exists()


def test_pool_is_members_and_others_and_the_background_is_the_rest(attacked, overfitted):
    with np.load(attacked.path / "shadows" / "pool.npz") as pool:
        assert len(pool["labels"]) == 2 * _EXAMPLES
        assert len(pool["background_labels"]) == 300 - _EXAMPLES
        np.testing.assert_array_equal(pool["is_in"], shadows.design(_MODELS, 2 * _EXAMPLES, 0))
    job = json.loads((attacked.path / "shadows" / "job.json").read_text())
    assert job["flags"]["train_fraction"] == 1 and job["flags"]["audit_canaries"] == 0
    assert job["flags"]["learning_rate"] == overfitted.config["flags"]["learning_rate"]


def test_shadow_models_know_what_they_were_trained_on(attacked):
    folder = attacked.path / "shadows"
    is_in = shadows.design(_MODELS, 2 * _EXAMPLES, 0)
    for number in range(_MODELS):
        with np.load(folder / f"shadow_{number:04d}.npz") as content:
            found = content["statistics"]
        assert found[is_in[number]].mean() > found[~is_in[number]].mean() + 0.5


@pytest.mark.slow
def test_only_what_is_missing_or_damaged_is_trained_again(attacked, settings):
    folder = attacked.path / "shadows"
    paths = [folder / f"shadow_{number:04d}.npz" for number in range(_MODELS)]
    before = _content(attacked)
    paths[1].unlink()
    paths[4].write_bytes(paths[4].read_bytes()[:100])
    np.savez(paths[6], statistics=np.zeros(3))
    for path in paths:
        if path.exists():
            os.utime(path, (1e9, 1e9))
    run, _ = audit.run(audit.AuditConfig(**settings, resume=True))
    again = [number for number, path in enumerate(paths) if path.stat().st_mtime != 1e9]
    assert again == [1, 4, 6]
    assert not list(folder.glob("training-*"))
    # A model is its number's, whenever it is trained.
    for one, other in zip(_content(run)["results"], before["results"], strict=True):
        assert one["auc"]["value"] == pytest.approx(other["auc"]["value"], abs=0.01)


@pytest.mark.parametrize(("name", "value"), [("seal_sha256", "0" * 64), ("pool_sha256", None)])
def test_models_of_another_run_or_pool_are_refused(attacked, settings, name, value):
    path = attacked.path / "shadows" / "job.json"
    text = path.read_text()
    path.write_text(json.dumps({**json.loads(text), name: value}))
    with pytest.raises(UserError, match="are not of this run and these examples"):
        audit.run(audit.AuditConfig(**settings, resume=True))
    path.write_text(text)


def test_audit_may_go_on_with_another_number_of_processes(attacked, settings):
    run, _ = audit.run(audit.AuditConfig(**settings, processes=3, resume=True))
    assert len(run.config["resumed"]) >= 1


def _other_python(monkeypatch, tmp_path, script):
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(shadows, "sys", types.SimpleNamespace(executable=str(path), **_SYS))


_SYS = {"argv": sys.argv, "stderr": sys.stderr}


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("echo no memory left >&2; kill -9 $$", "-9"),
        ("echo no memory left; exit 2", "2"),
        ("echo no memory left", "0"),
    ],
)
def test_process_that_dies_is_an_error_that_shows_its_log(
    overfitted, attack, monkeypatch, tmp_path, script, status
):
    _other_python(monkeypatch, tmp_path, script)
    with pytest.raises(UserError, match=rf"\(status {status}\)") as error:
        attack(overfitted, attack="lira", shadow_models=4, max_examples=20, processes=1)
    assert "process_0.log" in str(error.value)
    assert str(error.value).endswith("\n  no memory left")


@pytest.mark.slow
def test_process_that_dies_takes_the_others_with_it(overfitted, attack, monkeypatch, tmp_path):
    """The first dies at once, the second would sleep."""
    _other_python(
        monkeypatch,
        tmp_path,
        'if [ "$5" = 0 ]; then echo gone; exit 1; fi; echo $$ > "$3"/new; '
        'mv "$3"/new "$3"/second; exec sleep 100',
    )
    with pytest.raises(UserError, match=r"\(status 1\)"):
        attack(overfitted, attack="lira", shadow_models=4, max_examples=20, processes=2)
    second = tmp_path / "audit" / "shadows" / "second"
    if second.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(second.read_text()), 0)


def test_shadow_models_have_the_runs_noise_without_calibrating_anew():
    flags = {"mechanism": "dpsgd", "target_epsilon": 2.0, "noise_multiplier": None, "epochs": 3}
    run = types.SimpleNamespace(privacy={"noise_multiplier": 10.0})
    flags = shadows._flags(types.SimpleNamespace(flags=flags, run=run))
    assert flags["noise_multiplier"] == 10 and flags["target_epsilon"] is None
    assert flags["eval_every"] == flags["epochs"]


def test_odd_number_of_models_is_refused(overfitted, attack):
    with pytest.raises(UserError, match="--shadow_models=5 must be even"):
        attack(overfitted, attack="lira", shadow_models=5)


def test_regression_is_refused(regression, attack):
    with pytest.raises(UserError, match="needs classes, and this run is a regression"):
        attack(regression, attack="lira")


def test_federated_run_is_refused(overfitted):
    federated = types.SimpleNamespace(program="federated", run=overfitted)
    with pytest.raises(UserError, match="is a federated one"):
        lira.attack(federated, audit.AuditConfig(attack="lira"), runs.RunDirectory)
