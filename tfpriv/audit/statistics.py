"""What attack scores prove: error rates with intervals, and lower bounds on epsilon.

Scores are higher where the attacker believes in membership. Intervals are two-sided, bounds on
epsilon one-sided. All hold at least as often as their confidence says, whatever the scores'
distributions, but for two: that of the area under the curve is DeLong's where there is much to
estimate his variance from, and near to its confidence; those of a normal sample are of normal
scores.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special, stats

CONFIDENCE = 0.95
FALSE_POSITIVE_RATES = (0.001, 0.01)

# With fewer scores on a side, or fewer of as many pairs in the rarer order, DeLong's variance is
# too uncertain.
_ENOUGH_SCORES, _ENOUGH_PAIRS = 30, 10


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A measured value in its confidence interval."""

    value: float
    low: float
    high: float


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Estimate:
    """Returns a fraction in its exact interval (Clopper and Pearson 1934).

    Args:
        successes: From 0 to `trials`.
        trials: At least 1.
        confidence: In (0, 1).
    """
    tail = (1 - confidence) / 2
    low = stats.beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = 1.0
    if successes < trials:
        high = stats.beta.ppf(1 - tail, successes + 1, trials - successes)
    return Estimate(successes / trials, float(low), float(high))


def median(
    values: np.ndarray, least: float, largest: float, confidence: float = CONFIDENCE
) -> Estimate:
    """Returns the median in the interval of order statistics, which holds for any distribution.

    Args:
        values: [n], n >= 1.
        least: The least that a value can be, the interval's end where there are too few values.
        largest: The largest.
        confidence: In (0, 1).
    """
    ordered = np.concatenate([[least], np.sort(values), [largest]])
    # Fewer than k values lie below the distribution's median, or above it, each no more often than
    # half of the error probability.
    k = int(stats.binom.ppf((1 - confidence) / 2, len(values), 0.5))
    return Estimate(float(np.median(values)), float(ordered[k]), float(ordered[-1 - k]))


def area_under_curve(
    members: np.ndarray, non_members: np.ndarray, confidence: float = CONFIDENCE
) -> Estimate:
    """Returns the area under the ROC curve, with DeLong's interval on the logit scale.

    DeLong, DeLong and Clarke-Pearson 1988. Where that rests on too little, the interval also takes
    in Clopper and Pearson's for the fraction of ordered pairs among as many as the smaller sample
    has: with fewer than 30 scores on a side, or fewer than 10 of those pairs in the rarer order.

    Args:
        members: [n] scores of members, n >= 1.
        non_members: [m] scores of non-members, m >= 1.
        confidence: In (0, 1).
    """
    n, m = len(members), len(non_members)
    ranks = stats.rankdata(np.concatenate([members, non_members]))
    above = (ranks[:n] - stats.rankdata(members)) / m
    below = 1 - (ranks[n:] - stats.rankdata(non_members)) / n
    area = float(above.mean())
    variance = sum(np.var(part, ddof=1) / len(part) for part in (above, below) if len(part) > 1)
    low = high = area
    has_delong = variance > 0 and 0 < area < 1
    if has_delong:
        width = stats.norm.isf((1 - confidence) / 2) * math.sqrt(variance) / (area * (1 - area))
        logit = math.log(area / (1 - area))
        low, high = (1 / (1 + math.exp(-(logit + side * width))) for side in (-1, 1))
    trials = min(n, m)
    rarer = trials * min(area, 1 - area)
    if not has_delong or trials < _ENOUGH_SCORES or rarer < _ENOUGH_PAIRS:
        exact = clopper_pearson(round(area * trials), trials, confidence)
        low, high = min(low, exact.low), max(high, exact.high)
    return Estimate(area, low, high)


def advantage(
    members: np.ndarray, non_members: np.ndarray, confidence: float = CONFIDENCE
) -> Estimate:
    """Returns the largest TPR - FPR over all thresholds (Yeom et al. 2018).

    The interval is that of Dvoretzky, Kiefer and Wolfowitz (with Massart's constant) for both
    distributions, so it holds for the largest too.
    """
    curve = roc(members, non_members)
    value = float(np.max(curve[1] - curve[0]))
    width = sum(
        math.sqrt(math.log(4 / (1 - confidence)) / (2 * len(part)))
        for part in (members, non_members)
    )
    return Estimate(value, max(0.0, value - width), min(1.0, value + width))


def true_positive_rate(
    members: np.ndarray,
    non_members: np.ndarray,
    false_positive_rate: float,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Returns the fraction of members above the threshold that so few non-members are above.

    The threshold is the least at which the fraction of non-members above it is at most
    `false_positive_rate`. The interval is of the rate at the threshold above which that fraction of
    the distribution of non-members lies: this threshold is between two order statistics of theirs,
    by the binomial distribution of how many lie above it, and at each of the two the interval of
    Clopper and Pearson has its end, so that both errors share the error probability.
    """
    m = len(non_members)
    # A score counts as positive when it is above that of the first non-member who must not be.
    descending = np.concatenate([np.sort(non_members)[::-1], [-np.inf]])

    def above(threshold):
        return int(np.sum(members > threshold))

    value = above(descending[math.floor(false_positive_rate * m + 1e-9)]) / len(members)
    tail = (1 - confidence) / 4
    # So many at least, and so many at most, lie above the distribution's threshold.
    least, most = (int(stats.binom.ppf(at, m, false_positive_rate)) for at in (tail, 1 - tail))
    strict = descending[least - 1] if least else np.inf
    at_strict, at_loose = (
        clopper_pearson(above(threshold), len(members), 1 - 2 * tail)
        for threshold in (strict, descending[most])
    )
    return Estimate(value, min(value, at_strict.low), max(value, at_loose.high))


def roc(members: np.ndarray, non_members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the false and the true positive rates of all thresholds, ascending, from 0 to 1."""
    thresholds = np.unique(np.concatenate([members, non_members]))[::-1]
    rates = (
        np.searchsorted(np.sort(-scores), -thresholds, side="right") / len(scores)
        for scores in (non_members, members)
    )
    false, true = (np.concatenate([[0.0], rate]) for rate in rates)
    return false, true


def epsilon_from_rates(
    members: np.ndarray,
    non_members: np.ndarray,
    delta: float,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> float:
    """Returns a lower bound on epsilon from independent runs in two neighbouring worlds.

    Many examples of one run are no such trials, as one event may betray all of them.

    (epsilon, delta)-DP implies TPR <= e^epsilon FPR + delta and, for the guesses turned around,
    TNR <= e^epsilon FNR + delta (Kairouz, Oh and Viswanath 2015). Thresholds come from one half of
    the scores, rates and their Clopper and Pearson bounds from the other; the confidence is split
    among all that is tried.

    Args:
        members: [n] scores of runs with the canary, n >= 2.
        non_members: [m] scores of runs without it, m >= 2.
        delta: Of the guarantee.
        confidence: Of the bound.
        seed: Decides the halves.
    """
    generator = np.random.default_rng(seed)
    (chosen_in, judged_in), (chosen_out, judged_out) = (
        np.array_split(generator.permutation(scores), 2) for scores in (members, non_members)
    )
    pooled = np.concatenate([chosen_in, chosen_out])
    thresholds = np.unique(np.quantile(pooled, _QUANTILES))
    # Two directions, and two rates in each.
    interval_confidence = 1 - (1 - confidence) / (len(thresholds) * 2)
    best = 0.0
    for threshold in thresholds:
        for hits, alarms in (
            (judged_in > threshold, judged_out > threshold),
            (judged_out <= threshold, judged_in <= threshold),
        ):
            low = clopper_pearson(int(hits.sum()), len(hits), interval_confidence).low
            high = clopper_pearson(int(alarms.sum()), len(alarms), interval_confidence).high
            if low > delta:
                best = max(best, math.log((low - delta) / high))
    return best


def normal_parameters(
    values: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[Estimate, Estimate]:
    """Returns mean and standard deviation of a normal sample, by Student's t and chi-squared.

    Args:
        values: [n], n >= 2, not all alike.
        confidence: Of each interval.
    """
    n, mean, stddev = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    tail = (1 - confidence) / 2
    half = stats.t.isf(tail, n - 1) * stddev / math.sqrt(n)
    low, high = (stddev * math.sqrt((n - 1) / stats.chi2.isf(at, n - 1)) for at in (tail, 1 - tail))
    return Estimate(mean, mean - half, mean + half), Estimate(stddev, low, high)


def epsilon_between_normals(
    first: tuple[float, float], second: tuple[float, float], delta: float
) -> float:
    """Returns the least epsilon >= 0 at which two normal distributions are (epsilon, delta)-close.

    That is, both hockey-stick divergences are at most delta. Of equal variances it is the analytic
    Gaussian mechanism's (Balle and Wang 2018). Where one density exceeds e^epsilon times the other
    is an interval or the outside of one, so both divergences are exact.

    Args:
        first: Mean and standard deviation, which is positive.
        second: As `first`.
        delta: In (0, 1).
    """

    def excess(epsilon):
        pairs = ((first, second), (second, first))
        return max(_hockey_stick(p, q, epsilon) for p, q in pairs) - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-6))


def _hockey_stick(p, q, epsilon):
    """Returns the integral of max(0, p - e^epsilon q) for two normal densities."""
    (p_mean, p_stddev), (q_mean, q_stddev) = p, q
    # log p - log q - epsilon = a x^2 + b x + c, with x in standard deviations of p from its mean.
    shift, ratio = (p_mean - q_mean) / q_stddev, p_stddev / q_stddev
    a = (ratio**2 - 1) / 2
    b = ratio * shift
    c = shift**2 / 2 - math.log(ratio) - epsilon

    def below(x):
        """The logarithms of the probabilities of less than x, under p and q."""
        return special.log_ndtr(x), special.log_ndtr(ratio * x + shift)

    def above(x):
        return special.log_ndtr(-x), special.log_ndtr(-(ratio * x + shift))

    def part(logs):
        return math.exp(logs[0]) - math.exp(min(epsilon + logs[1], 700.0))

    if abs(a) < 1e-12:
        if abs(b) < 1e-12:
            return 0.0
        return max(0.0, part(above(-c / b) if b > 0 else below(-c / b)))
    discriminant = b * b - 4 * a * c
    if discriminant <= 0:
        # No root: p is above nowhere, as it cannot be everywhere.
        return 0.0
    # The stable form of the roots.
    half = -(b + math.copysign(math.sqrt(discriminant), b)) / 2
    low, high = sorted((half / a, c / half))
    if a > 0:
        return max(0.0, part(below(low)) + part(above(high)))
    # Inside; from the side where the tails are small, or nothing would be left of their difference.
    side = above if low + high > 0 else below
    ends = (low, high) if low + high > 0 else (high, low)
    p_larger, q_larger = side(ends[0])
    p_smaller, q_smaller = side(ends[1])
    return max(
        0.0, part((_log_difference(p_larger, p_smaller), _log_difference(q_larger, q_smaller)))
    )


def _log_difference(larger, smaller):
    """Returns log(e^larger - e^smaller)."""
    return larger + math.log(-math.expm1(smaller - larger)) if smaller < larger else -math.inf


_QUANTILES: Sequence[float] = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
