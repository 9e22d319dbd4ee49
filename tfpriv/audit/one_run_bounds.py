"""What guesses about the coins of one run prove: by the claim's epsilon, or by its whole curve.

Each canary took part by a fair coin of its own, an attacker guesses some of the coins, and so many
right guesses are improbable under a small epsilon. `one_run_epsilon` is the bound of Steinke, Nasr
and Jagielski 2023 (arXiv 2305.08846), which takes (epsilon, delta)-DP alone.

`refutes` is that of Mahloujifar, Melis and Chaudhuri 2024, "Auditing f-Differential Privacy in One
Run" (arXiv 2410.22235), which takes the mechanism's trade-off curve. Of m coins r are guessed, and
p_j is the probability that j guesses are right.
Turning one coin at random makes a right guess wrong and a wrong one right, so f-DP says, for every
i, with g(x) = 1 - f(x), the largest true positive rate at a false positive rate of x,

  sum over j > i of (j / m) p_j  <=  g(sum over j >= i of ((r - j) / m) p_j),

where the concavity of g has taken it from each coin to their mean. With P_i the probability of at
least i right guesses and S_i = P_{i+1} + ... + P_r, that is

  (r - i) P_i - S_i  >=  m g^-1(((i + 1) P_{i+1} + S_{i+1}) / m).

Each P_i is at least what the later ones make it, and grows with each of them, so from the least
that P_v and S_v can be follows the least that P_0 can be. If it exceeds 1, P_v was impossible.
"""

import dataclasses
import math

import numpy as np
from scipy import optimize, stats

from tfpriv.audit.statistics import CONFIDENCE

_LARGEST_EPSILON = 64.0


@dataclasses.dataclass(frozen=True)
class Curve:
    """A symmetric trade-off curve, as that of all pairs of (epsilon, delta)-DP that hold together.

    Attributes:
        epsilons: [n], each at least 0, n >= 1.
        deltas: [n], each in [0, 1].
    """

    epsilons: np.ndarray
    deltas: np.ndarray

    def least_false_positives(self, true_positives: float) -> float:
        """Returns the least false positive rate at which so many true positives can be had."""
        by_true = np.exp(-self.epsilons) * (true_positives - self.deltas)
        by_false = 1 - self.deltas - np.exp(self.epsilons) * (1 - true_positives)
        return max(0.0, float(np.max(by_true)), float(np.max(by_false)))


def refutes(
    curve: Curve,
    canaries: int,
    guesses: int,
    correct: int,
    error: float,
    *,
    replaces: bool = False,
) -> bool:
    """Returns whether so many right guesses are less probable than `error` under a curve.

    Args:
        curve: Of adding or removing an example.
        canaries: m, the number of fair coins, independent of each other.
        guesses: r <= m, a number that was fixed beforehand.
        correct: v <= r, how many guesses were right.
        error: In (0, 1).
        replaces: Whether a coin puts one example in the place of another, which goes through the
            curve twice (Dong, Roth and Su 2022, group privacy).

    Raises:
        ValueError: if the numbers make no sense.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} of {guesses} guesses about {canaries} canaries make no sense.")
    at_least, later = error, 0.0
    for i in range(correct - 1, -1, -1):
        right = ((i + 1) * at_least + later) / canaries
        wrong = curve.least_false_positives(right)
        if replaces:
            wrong = curve.least_false_positives(wrong)
        later += at_least
        at_least = max(at_least, (canaries * wrong + later) / (guesses - i))
        if at_least > 1:
            return True
    return False


def one_run_epsilon(
    canaries: int,
    guesses: int,
    correct: int,
    delta: float,
    confidence: float = CONFIDENCE,
    *,
    replaces: bool = False,
) -> float:
    """Returns the lower bound on epsilon that the guesses about one run's canaries prove.

    Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846), Theorem 5.2: if training is (epsilon,
    delta)-DP for turning a coin, so many of the guesses are right with a probability of at most
    `beta + 2 canaries delta alpha`. The bound is the least epsilon for which that is not below
    1 - confidence.

    Args:
        canaries: m, the number of fair coins, independent of each other.
        guesses: r <= m, how many of them were guessed about.
        correct: v <= r, how many guesses were right.
        delta: Of the guarantee, in [0, 1).
        confidence: In (0, 1).
        replaces: Whether a coin puts one example in the place of another, which is (2 epsilon, (1 +
            e^epsilon) delta)-DP where adding or removing one is (epsilon, delta)-DP.

    Returns:
        The bound, at least 0, on the epsilon of adding or removing an example.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} of {guesses} guesses about {canaries} canaries make no sense.")

    def excess(epsilon):
        of_coin = (2 * epsilon, (1 + math.exp(epsilon)) * delta) if replaces else (epsilon, delta)
        return _chance(canaries, guesses, correct, *of_coin) - (1 - confidence)

    if excess(0.0) >= 0:
        return 0.0
    if excess(_LARGEST_EPSILON) < 0:
        return _LARGEST_EPSILON
    return float(optimize.brentq(excess, 0.0, _LARGEST_EPSILON, xtol=1e-7))


def _chance(canaries, guesses, correct, epsilon, delta):
    """Returns the most probable that `correct` or more guesses are right under (epsilon, delta)."""
    right = stats.binom(guesses, 1 / (1 + math.exp(-epsilon)))
    beta = right.sf(correct - 1)
    if not delta or not correct:
        return min(1.0, beta)
    steps = np.arange(1, correct + 1)
    # P[correct - i <= Binomial < correct] / i, for the i that makes the most of it.
    alpha = max(0.0, float(np.max(np.cumsum(right.pmf(correct - steps)) / steps)))
    return min(1.0, beta + 2 * canaries * delta * alpha)
