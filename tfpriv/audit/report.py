"""audit.json: what an attack measured, what that proves, and whether the claim stands."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfpriv import rounding, runs
from tfpriv.audit import statistics
from tfpriv.audit.claims import Claim
from tfpriv.audit.config import AuditConfig
from tfpriv.audit.guesses import guess_pairs
from tfpriv.audit.statistics import Estimate
from tfpriv.audit.target import Target
from tfpriv.runs import json_files

FILE = "audit.json"
_EACH_ON_ITS_OWN = (
    "the bound is wrong with a probability of at most {error:.2g}; each audit of a run has this "
    "probability of its own, so of several audits the best bound is wrong more often"
)
_DRAW = (
    "the random draw by --train_fraction: each member is paired at random with an example that the "
    "draw left out, which of the two took part is a fair coin, and the attack guessed {correct} of "
    "{guesses} such coins right, each of which replaces an example {theorem}"
)
_LINES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "linestyle": "-"},
    {"color": "#D55E00", "linestyle": "--"},
    {"color": "#009E73", "linestyle": "-."},
    {"color": "#CC79A7", "linestyle": ":"},
    {"color": "#E69F00", "linestyle": "-"},
    {"color": "#56B4E9", "linestyle": "--"},
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What an attack found.

    Attributes:
        threat_model: In words, what the attacker sees.
        unit: Whose privacy is attacked: "example", "client" or "secret".
        epsilon_lower_bound: Proved at the confidence, or None where the attack proves none.
        no_bound_because: A clause, where there is none.
        bound_rests_on: In words, what the bound takes for granted, where there is one.
        figures: What audit.json holds besides, fit for JSON.
        summary: The most important figures, flat.
        curves: Scores of members and of non-members by the attack's name, for the picture.
    """

    threat_model: str
    unit: str
    epsilon_lower_bound: float | None
    figures: Mapping
    summary: Mapping
    no_bound_because: str = ""
    bound_rests_on: str = ""
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)


def judge(finding: Finding, epsilon: float | None) -> tuple[str, bool]:
    """Returns the verdict as a sentence, and whether the claim is broken.

    Args:
        finding: What was found.
        epsilon: What the run accounts for; None if it claims no privacy.
    """
    bound = finding.epsilon_lower_bound
    claim = "the run claims no privacy"
    if epsilon is not None:
        claim = f"accounted {rounding.up(epsilon)}"
    if bound is None:
        return f"no lower bound on epsilon, as {finding.no_bound_because}; {claim}", False
    if epsilon is None:
        return f"audited lower bound {rounding.down(bound)}; {claim}", False
    audited, accounted = _told_apart(bound, epsilon)
    if bound > epsilon:
        return (
            f"the privacy claim is broken: audited lower bound {audited} > accounted {accounted}",
            True,
        )
    return f"audited lower bound {audited} <= accounted {accounted}", False


def _told_apart(bound, epsilon):
    """Returns both with 4 digits, or as many as it takes to show which is larger.

    The bound is rounded down and the accounted epsilon up, so that neither says too much.
    """
    for digits in range(4, 18):
        shown = rounding.down(bound, digits), rounding.up(epsilon, digits)
        if (bound > epsilon) == (float(shown[0]) > float(shown[1])):
            break
    return shown


def bound_of_draw(
    target: Target, config: AuditConfig, members: np.ndarray, non_members: np.ndarray
) -> dict:
    """Returns the fields of a Finding on what scores of members and of non-members prove.

    Args:
        target: The run; that its draw decided who took part is what the bound rests on.
        config: Of the audit.
        members: [n] scores of members, higher where the attacker believes in membership.
        non_members: [n] scores of non-members.
    """
    if not target.is_random:
        return {
            "epsilon_lower_bound": None,
            "no_bound_because": "a test set may differ from the training set in more ways than by "
            "chance",
        }
    guessed = guess_pairs(members, non_members, target.claim, config.confidence, config.seed)
    words = _DRAW.format(**guessed, theorem=by_theorem(target.claim))
    return {"epsilon_lower_bound": guessed["epsilon"], "bound_rests_on": words}


def by_theorem(claim: Claim | None) -> str:
    """Returns in words how right guesses become a bound."""
    if claim is None:
        return "(Steinke, Nasr and Jagielski 2023, Theorem 5.2)"
    return (
        "(Mahloujifar, Melis and Chaudhuri 2024, with a number of guesses that the accounted noise "
        "decided beforehand; a bound above the accounted epsilon refutes the accounting whatever "
        "the mechanism is, and the size of a bound takes it for the accounted mechanism with "
        "another amount of noise)"
    )


def write(run: runs.RunDirectory, finding: Finding, head: Mapping, epsilon: float | None) -> bool:
    """Writes audit.json, summary.json and the pictures; returns whether the claim is broken.

    Args:
        run: The audit's directory.
        finding: What was found.
        head: What audit.json begins with.
        epsilon: What the audited run accounts for.
    """
    verdict, is_broken = judge(finding, epsilon)
    of_bound = {}
    if finding.epsilon_lower_bound is not None:
        error = round(1 - head["confidence"], 12)
        of_bound = {
            "error_probability": error,
            "several_audits": _EACH_ON_ITS_OWN.format(error=error),
            "bound_rests_on": finding.bound_rests_on,
        }
    json_files.write(
        run.path / FILE,
        {
            **head,
            "unit": finding.unit,
            "threat_model": finding.threat_model,
            "epsilon_lower_bound": finding.epsilon_lower_bound,
            **of_bound,
            "accounted_epsilon": epsilon,
            "verdict": verdict,
            "broken": is_broken,
            **finding.figures,
        },
    )
    if finding.curves:
        draw_roc(run.plots_path / "roc.png", finding.curves)
    run.write_summary(
        {
            **{name: head[name] for name in ("attack", "run", "delta", "confidence")},
            **finding.summary,
            "epsilon_lower_bound": finding.epsilon_lower_bound,
            "accounted_epsilon": epsilon,
            "verdict": verdict,
            "wall_seconds": runs.seconds_since_process_start(),
        }
    )
    return is_broken


def as_text(report: Mapping) -> str:
    """Returns the figures over all examples and the verdict of audit.json, as lines."""
    lines = []
    for result in report.get("results", ()):
        if result.get("slice", "all") != "all":
            continue
        if "repetitions" in result:
            exposure = _shown(result["median_exposure"], "{:.2f}")
            lines.append(f"planted {result['repetitions']} times: median exposure {exposure} bits")
            continue
        rate = result.get("tpr_at_fpr_0.01")
        if rate is None:  # of an attack that is not ours
            numbers = {k: v for k, v in result.items() if isinstance(v, int | float)}
            lines.append(", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
            continue
        line = (
            f"{result['attack']}: AUC {_shown(result['auc'], '{:.3f}')}, at 1% false positives "
            f"{_shown(rate, '{:.1%}')} true ones"
        )
        if "epsilon" in result:
            line += f"; epsilon at least {rounding.down(result['epsilon'], 3)}"
        lines.append(line)
    for name, result in report.get("estimates", {}).items():
        if result["epsilon_estimate"] is None:
            lines.append(f"{name}: no estimate of epsilon, as {result['no_estimate_because']}")
            continue
        estimate = _shown(result["epsilon_estimate"], "{:.3g}")
        rough = " and with so few canaries likely too large" if report["estimate_is_rough"] else ""
        lines.append(f"{name}: epsilon estimated at {estimate}, which is no bound{rough}")
    if "several_audits" in report:
        lines.append(f"{report['several_audits']}.")
    return "\n".join([*lines, report["verdict"]])


def _shown(estimate, form):
    value, low, high = (form.format(estimate[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def rates(members: np.ndarray, non_members: np.ndarray, confidence: float) -> dict:
    """Returns AUC, advantage and TPR at low FPR of scores, each in its interval; for JSON."""
    return {
        "members": len(members),
        "others": len(non_members),
        "auc": plain(statistics.area_under_curve(members, non_members, confidence)),
        "advantage": plain(statistics.advantage(members, non_members, confidence)),
        **{
            f"tpr_at_fpr_{rate:g}": plain(
                statistics.true_positive_rate(members, non_members, rate, confidence)
            )
            for rate in statistics.FALSE_POSITIVE_RATES
        },
    }


def plain(estimate: Estimate) -> dict[str, float]:
    """Returns an estimate as a mapping, for JSON."""
    return dataclasses.asdict(estimate)


def flat(name: str, figures: Mapping) -> dict[str, float]:
    """Returns the values of `rates` without their intervals, each under `name` and its own."""
    return {
        f"{name}_{key}": value["value"] for key, value in figures.items() if isinstance(value, dict)
    }


def draw_roc(path: str | os.PathLike, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draws ROC curves with both axes logarithmic, beside the line of chance.

    Args:
        path: The picture.
        curves: Scores of members and of non-members, by the name of the attack.
    """
    least = 1 / max(len(part) for pair in curves.values() for part in pair)
    least = 10 ** math.floor(math.log10(least))
    with runs.drawing(path, height=3.6) as (axes,):
        for (name, (members, non_members)), line in zip(curves.items(), _LINES, strict=False):
            false, true = statistics.roc(members, non_members)
            area = statistics.area_under_curve(members, non_members).value
            axes.plot(
                np.maximum(false, least),
                np.maximum(true, least),
                drawstyle="steps-post",
                label=f"{name} (AUC {area:.3f})",
                **line,
            )
        axes.plot([least, 1], [least, 1], color="#999999", linewidth=0.8, label="chance")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(least, 1)
        axes.set_ylim(least, 1)
        axes.set_xlabel("False positive rate")
        axes.set_ylabel("True positive rate")
        axes.legend(loc="lower right", fontsize=7)
