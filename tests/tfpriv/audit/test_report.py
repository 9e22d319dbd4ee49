import json
import math

import numpy as np
import pytest

from tfpriv.audit import report, statistics
from tfpriv.audit.report import Finding
from tfpriv.runs import RunDirectory

_HEAD = {"attack": "one_run", "run": "runs/x", "confidence": 0.95, "delta": 1e-5}


def _finding(bound, **more):
    return Finding(
        threat_model="black box",
        unit="example",
        epsilon_lower_bound=bound,
        figures={"canaries": 3},
        summary={"auc": 0.5},
        **more,
    )


@pytest.mark.parametrize(
    ("bound", "epsilon", "sentence", "is_broken"),
    [
        (0.25, 1.0, "audited lower bound 0.25 <= accounted 1", False),
        (1.0, 1.0, "audited lower bound 1 <= accounted 1", False),
        (0.0, 1.0, "audited lower bound 0 <= accounted 1", False),
        (
            1.25,
            1.0,
            "the privacy claim is broken: audited lower bound 1.25 > accounted 1",
            True,
        ),
        (
            2.00004,
            2.0,
            "the privacy claim is broken: audited lower bound 2.00004 > accounted 2",
            True,
        ),
        # An accounted epsilon is rounded up, and a proved bound down.
        (0.99996, 1.00045, "audited lower bound 0.9999 <= accounted 1.001", False),
        (1.23456, None, "audited lower bound 1.234; the run claims no privacy", False),
        (3.5, None, "audited lower bound 3.5; the run claims no privacy", False),
        (None, 1.0, "no lower bound on epsilon, as it rains; accounted 1", False),
        (None, None, "no lower bound on epsilon, as it rains; the run claims no privacy", False),
    ],
)
def test_verdict_compares_the_bound_with_the_claim(bound, epsilon, sentence, is_broken):
    finding = _finding(bound, no_bound_because="it rains")
    assert report.judge(finding, epsilon) == (sentence, is_broken)


def test_report_is_written_with_its_pictures(tmp_path):
    scores = np.linspace(0, 1, 50)
    curves = {"threshold": (scores + 0.2, scores), "flat": (scores, scores)}
    finding = _finding(2.0, bound_rests_on="a fair coin", curves=curves)
    with RunDirectory.create(tmp_path / "audit", {}, program="audit") as run:
        assert report.write(run, finding, _HEAD, 1.0) is True
    found = json.loads((run.path / "audit.json").read_text())
    assert found == {
        **_HEAD,
        "unit": "example",
        "threat_model": "black box",
        "epsilon_lower_bound": 2.0,
        "error_probability": 0.05,
        "several_audits": found["several_audits"],
        "bound_rests_on": "a fair coin",
        "accounted_epsilon": 1.0,
        "verdict": "the privacy claim is broken: audited lower bound 2 > accounted 1",
        "broken": True,
        "canaries": 3,
    }
    assert run.summary["verdict"] == found["verdict"] and run.summary["auc"] == 0.5
    assert (run.plots_path / "roc.png").stat().st_size > 1000


def test_report_says_that_each_audit_of_a_run_errs_on_its_own(tmp_path):
    with RunDirectory.create(tmp_path / "audit", {}, program="audit") as run:
        report.write(run, _finding(0.5), _HEAD | {"confidence": 0.9}, 1.0)
    found = json.loads((run.path / "audit.json").read_text())
    assert found["error_probability"] == 0.1
    assert "wrong with a probability of at most 0.1;" in found["several_audits"]
    assert "of several audits the best bound is wrong more often" in found["several_audits"]


def test_report_without_a_bound_says_nothing_of_its_error(tmp_path):
    finding = _finding(None, no_bound_because="it rains")
    with RunDirectory.create(tmp_path / "audit", {}, program="audit") as run:
        report.write(run, finding, _HEAD, 1.0)
    found = json.loads((run.path / "audit.json").read_text())
    assert not found.keys() & {"error_probability", "several_audits", "bound_rests_on"}


def test_report_without_scores_has_no_picture(tmp_path):
    with RunDirectory.create(tmp_path / "audit", {}, program="audit") as run:
        assert report.write(run, _finding(0.5), _HEAD, None) is False
    assert not run.plots_path.exists()


@pytest.mark.parametrize("size", [7, 10, 3000])
def test_curves_of_any_size_are_drawn(size, tmp_path):
    scores = np.random.default_rng(0).normal(size=(2, size))
    curves = {f"attack {number}": tuple(scores) for number in range(8)}
    report.draw_roc(tmp_path / "roc.png", curves)
    assert (tmp_path / "roc.png").stat().st_size > 1000


def test_rates_are_those_of_the_statistics_with_their_intervals():
    generator = np.random.default_rng(0)
    members, others = generator.normal(1, 1, 400), generator.normal(0, 1, 400)
    found = report.rates(members, others, 0.9)
    assert (found["members"], found["others"]) == (400, 400)
    area = statistics.area_under_curve(members, others, 0.9)
    assert found["auc"] == {"value": area.value, "low": area.low, "high": area.high}
    assert list(found) == [
        "members", "others", "auc", "advantage", "tpr_at_fpr_0.001", "tpr_at_fpr_0.01"
    ]  # fmt: skip
    flat = report.flat("x", found)
    assert flat["x_auc"] == area.value and len(flat) == 4
    assert all(math.isfinite(value) for value in flat.values())
