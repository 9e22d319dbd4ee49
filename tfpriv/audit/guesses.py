"""Guesses about which canaries took part, from an attacker's scores, and what they prove.

How many guesses there are must not depend on which of them are right. Against a `Claim` their
number is chosen beforehand, from what is accounted for. Without one there is nothing to choose by:
several numbers are tried, which share the error probability.
"""

import numpy as np

from tfpriv.audit.claims import Claim
from tfpriv.audit.one_run_bounds import one_run_epsilon
from tfpriv.audit.statistics import CONFIDENCE

# The numbers of guesses that are tried without a claim, as fractions of the canaries.
_GUESSED_FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
_PAIRS_STREAM = 0x9A12
# What stands for infinity where scores are subtracted.
_FAR = 1e300


def guess_canaries(
    scores: np.ndarray,
    coins: np.ndarray,
    claim: Claim | None = None,
    confidence: float = CONFIDENCE,
) -> dict[str, float]:
    """Returns the bound on epsilon from guessing the extreme scores, and how it came about.

    The half of the guesses with the highest scores is guessed in and the half with the lowest out,
    or as many of the highest in and none out, which is better where a canary that took part may
    never have been drawn.

    Args:
        scores: [m] of canaries; NaN counts as 0.
        coins: [m] bool, which of them took part.
        claim: What the run accounts for; None if it claims nothing.
        confidence: Of the bound reported.

    Returns:
        `epsilon`, `guesses`, `correct`.
    """
    m = len(scores)
    order = np.argsort(np.nan_to_num(scores, nan=0.0, posinf=np.inf, neginf=-np.inf), kind="stable")

    def guessed(out, inside):
        right = np.sum(~coins[order[:out]]) + np.sum(coins[order[m - inside :]])
        return out + inside, int(right)

    if claim is not None:
        guesses, correct = guessed(*claim.guesses(m, 1 - confidence))
        epsilon = claim.bound(m, guesses, correct, 1 - confidence)
        return {"epsilon": epsilon, "guesses": guesses, "correct": correct}
    numbers = sorted({max(2, 2 * round(fraction * m / 2)) for fraction in _GUESSED_FRACTIONS})
    numbers = [number for number in numbers if number <= m]
    choices = [(number // 2, number // 2) for number in numbers]
    choices += [(0, number) for number in numbers if number <= m // 2]
    return _best_bound(m, [guessed(*choice) for choice in choices], confidence)


def guess_pairs(
    members: np.ndarray,
    non_members: np.ndarray,
    claim: Claim | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, float]:
    """Returns the bound on epsilon from guessing which of two examples took part.

    Where the training set was drawn at random from a larger one, and members and non-members are
    paired at random, which of a pair took part is a fair coin, independent of all other pairs': to
    exchange the two gives a draw that was as probable. So the theorems hold, and to turn a coin
    replaces an example. Of each pair the higher score is guessed, for the pairs whose scores differ
    the most.

    Args:
        members: [m] scores of members that were picked at random, m >= 1; NaN counts as 0.
        non_members: [m] scores of examples that the draw left out, picked at random.
        claim: What the run accounts for; None if it claims nothing.
        confidence: Of the bound.
        seed: Decides the pairs.

    Returns:
        `epsilon`, `guesses`, `correct`.
    """
    m = len(members)
    generator = np.random.default_rng((seed, _PAIRS_STREAM))
    inside, outside = (
        np.clip(np.nan_to_num(generator.permutation(part)), -_FAR, _FAR)
        for part in (members, non_members)
    )
    order = np.argsort(-np.abs(inside - outside), kind="stable")
    is_correct = (inside > outside)[order]
    if claim is not None:
        guesses = sum(claim.guesses(m, 1 - confidence, replaces=True))
        correct = int(is_correct[:guesses].sum())
        epsilon = claim.bound(m, guesses, correct, 1 - confidence, replaces=True)
        return {"epsilon": epsilon, "guesses": guesses, "correct": correct}
    numbers = sorted({max(1, round(fraction * m)) for fraction in _GUESSED_FRACTIONS})
    guessed = [(number, int(is_correct[:number].sum())) for number in numbers]
    return _best_bound(m, guessed, confidence, replaces=True)


def _best_bound(canaries, guessed, confidence, *, replaces=False):
    """Returns the best of the bounds by (guesses, correct), which share the error probability."""
    bound_confidence = 1 - (1 - confidence) / len(guessed)
    bounds = [
        {
            "epsilon": one_run_epsilon(
                canaries, guesses, correct, 0.0, bound_confidence, replaces=replaces
            ),
            "guesses": guesses,
            "correct": correct,
        }
        for guesses, correct in guessed
    ]
    return max(bounds, key=lambda one: one["epsilon"])
