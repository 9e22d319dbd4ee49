"""What attackers' scores of canaries prove, whatever a canary is."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfpriv import runs
from tfpriv.audit import report
from tfpriv.audit.claims import Claim
from tfpriv.audit.guesses import guess_canaries
from tfpriv.audit.report import Finding
from tfpriv.audit.target import Target
from tfpriv.errors import UserError

FEWEST_CANARIES = 20


def finding(
    scores: Mapping[str, np.ndarray],
    coins: np.ndarray,
    threat_models: Mapping[str, str],
    unit: str,
    claim: Claim | None,
    confidence: float,
    counted: str | None = None,
    figures: Mapping[str, object] | None = None,
) -> Finding:
    """Returns what several attackers' scores of canaries prove together.

    Args:
        scores: [m] by attacker, higher where the canary is believed to have taken part.
        coins: [m] bool.
        threat_models: In words, by attacker.
        unit: What a canary is.
        claim: What the run accounts for; None if it claims nothing.
        confidence: Of the bound.
        counted: The attacker whose bound counts, chosen beforehand; each attacker's own bound then
            holds with the confidence. None if the best counts: they share the error probability.
        figures: What else audit.json is to hold.
    """
    bound_confidence = confidence if counted else 1 - (1 - confidence) / len(scores)
    results: dict[str, dict[str, Any]] = {}
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    summary: dict[str, float] = {"canaries": len(coins)}
    for name, values in scores.items():
        guessed = guess_canaries(values, coins, claim, bound_confidence)
        curves[name] = (values[coins], values[~coins])
        measured = report.rates(*curves[name], confidence)
        described = {"attack": name, "threat_model": threat_models[name]}
        results[name] = {**described, **guessed, "bound_confidence": bound_confidence, **measured}
        summary |= {f"{name}_epsilon": guessed["epsilon"], f"{name}_auc": measured["auc"]["value"]}
    best = counted or max(results, key=lambda name: results[name]["epsilon"])
    result = results[best]
    return Finding(
        threat_model=threat_models[best],
        unit=unit,
        epsilon_lower_bound=result["epsilon"],
        bound_rests_on=(
            f"a fair coin for each of {len(coins)} canaries, of which the attack guessed "
            f"{result['correct']} of {result['guesses']} right {report.by_theorem(claim)}"
        ),
        figures={"canaries": len(coins), **(figures or {}), "results": list(results.values())},
        summary=summary | {"guesses": result["guesses"], "correct": result["correct"]},
        curves=curves,
    )


def coins_of(target: Target, count: int) -> np.ndarray:
    """Returns the coins of a run's canaries, [count] bool.

    Raises:
        UserError: if there are too few canaries, their coins are not there, or all are alike.
    """
    if not count:
        raise UserError(
            f"{target.run.path} has no canaries; train with --audit_canaries, of 1000 for example."
        )
    if count < FEWEST_CANARIES:
        raise UserError(
            f"{target.run.path} has {count} canaries, which can prove nothing; train with at least "
            f"--audit_canaries={FEWEST_CANARIES}."
        )
    return runs.coins.read(target.run.path, target.recorded["coins_sha256"])
