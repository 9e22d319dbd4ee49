import json

import numpy as np
import pytest

from tests.tfpriv.audit.conftest import OVERFITTED
from tfpriv.audit import membership
from tfpriv.audit.config import AuditConfig
from tfpriv.audit.target import Target
from tfpriv.errors import UserError

_ATTACKS = ["threshold", "logistic regression", "k nearest neighbors", "random forest"]


@pytest.fixture(scope="module")
def found(overfitted):
    """What the attacks find, once, as they take long."""
    config = AuditConfig(run=str(overfitted.path), max_examples=150, seed=2).complete()
    before = np.random.get_state()[1].copy()
    finding = membership.attack(Target(config.run, trust_code=True), config)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    return finding


def _of(finding, **wanted):
    return [
        one
        for one in finding.figures["results"]
        if all(one[name] == value for name, value in wanted.items())
    ]


def test_what_is_remembered_is_found_by_all_attacks(found):
    whole = _of(found, slice="all")
    assert sorted(one["attack"] for one in whole) == sorted(_ATTACKS)
    for one in whole:
        assert (one["members"], one["others"]) == (150, 150)
    (threshold,) = _of(found, slice="all", attack="threshold")
    assert threshold["auc"]["low"] > 0.6
    assert threshold["advantage"]["value"] > 0.2
    assert sorted(found.curves) == sorted(_ATTACKS)


def test_slices_are_by_class_and_by_correctness(found):
    slices = {one["slice"] for one in _of(found, attack="threshold")}
    assert len([name for name in slices if "class=" in name]) == 3
    # Too few members are wrong for a slice of their own.
    assert "correctly_classified=true" in slices
    sizes = [one["members"] for one in _of(found, attack="threshold") if "class=" in one["slice"]]
    assert sum(sizes) == 150
    # The forest takes the whole only.
    assert [one["slice"] for one in _of(found, attack="random forest")] == ["all"]


def test_every_figure_has_its_interval(found):
    for one in found.figures["results"]:
        estimates = {name: value for name, value in one.items() if isinstance(value, dict)}
        assert set(estimates) == {"auc", "advantage", "tpr_at_fpr_0.001", "tpr_at_fpr_0.01"}
        for value in estimates.values():
            assert 0 <= value["low"] <= value["value"] <= value["high"] <= 1


def test_summary_names_attacks_and_figures(found):
    assert {"threshold_auc", "k_nearest_neighbors_advantage", "random_forest_tpr_at_fpr_0.01"} <= {
        *found.summary
    }
    assert found.unit == "example" and found.threat_model == membership.THREAT_MODEL


def test_random_draw_proves_a_bound(found):
    assert found.epsilon_lower_bound > 0
    assert "the random draw by --train_fraction" in found.bound_rests_on


def test_too_few_others_are_refused_and_leave_nothing(train, own, attack, tmp_path):
    run = train(dataset=f"{own}:noise", train_fraction=0.99, **{**OVERFITTED, "epochs": 1})
    for name in ("membership", "lira"):
        with pytest.raises(UserError, match="594 members to attack and 6 non-members"):
            attack(run, attack=name)
    assert not (tmp_path / "audit").exists()


def test_each_slice_is_shown_when_done(regression, attack, capsys):
    attack(regression)
    assert "slice 1/1" in capsys.readouterr().err


def test_test_examples_prove_none(whole, attack, monkeypatch):
    # The threshold attack alone: the others take long.
    monkeypatch.setattr(membership, "_TRAINED", ())
    run, is_broken = attack(whole, max_examples=100)
    assert not is_broken
    content = json.loads((run.path / "audit.json").read_text())
    assert content["epsilon_lower_bound"] is None and content["broken"] is False
    assert content["verdict"] == (
        "no lower bound on epsilon, as a test set may differ from the training set in more ways "
        "than by chance; the run claims no privacy"
    )
    assert {
        "attack",
        "run",
        "delta",
        "confidence",
        "unit",
        "threat_model",
        "accounted_epsilon",
    } <= {*content}
    assert (run.plots_path / "roc.png").exists()
    assert run.config["program"] == "audit"


def test_regression_has_the_threshold_attack_only(regression, attack):
    run, _ = attack(regression)
    content = json.loads((run.path / "audit.json").read_text())
    assert [one["attack"] for one in content["results"]] == ["threshold"]
    assert content["results"][0]["members"] == 50
    assert content["epsilon_lower_bound"] is not None
