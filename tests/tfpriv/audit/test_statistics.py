"""Tests of tfpriv.audit.statistics: against other packages, brute force, and known truths."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from statsmodels.stats import proportion

from tfpriv.audit import statistics

_DELTA = 1e-5


def _at_least(share, expected, repetitions):
    """Whether a simulated share is at least what is expected, within 3 standard errors."""
    return share >= expected - 3 * math.sqrt(expected * (1 - expected) / repetitions)


def _at_most(share, expected, repetitions):
    return share <= expected + 3 * math.sqrt(expected * (1 - expected) / repetitions)


def _with_ties(seed, members=80, others=120):
    generator = np.random.default_rng(seed)
    return (
        generator.integers(0, 12, members).astype(float) + 1.0,
        generator.integers(0, 12, others).astype(float),
    )


# The bound from error rates.


def _gaussian_delta(epsilon, shift):
    """Returns the delta of the Gaussian mechanism (Balle and Wang 2018, Theorem 8)."""
    return stats.norm.cdf(shift / 2 - epsilon / shift) - math.exp(epsilon) * stats.norm.cdf(
        -shift / 2 - epsilon / shift
    )


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_rates_exceed_the_true_epsilon_as_seldom_as_the_confidence_says(epsilon, shift):
    generator = np.random.default_rng(5)
    delta = _gaussian_delta(epsilon, shift)
    repetitions = 150
    bounds = np.array(
        [
            statistics.epsilon_from_rates(
                generator.normal(shift, 1, 500), generator.normal(0, 1, 500), delta, seed=number
            )
            for number in range(repetitions)
        ]
    )
    assert _at_most(np.mean(bounds > epsilon), 0.05, repetitions)


def test_rates_come_close_to_pure_randomized_response():
    generator = np.random.default_rng(8)
    told = [generator.random(20000) < share for share in (0.75, 0.25)]
    bound = statistics.epsilon_from_rates(*(part.astype(float) for part in told), 0.0)
    assert 0.8 * math.log(3) < bound <= math.log(3)


def test_rates_of_equal_worlds_prove_nothing_as_often_as_the_confidence_says():
    generator = np.random.default_rng(9)
    repetitions = 200
    bounds = [
        statistics.epsilon_from_rates(*generator.normal(size=(2, 300)), 0.0, 0.8, seed=number)
        for number in range(repetitions)
    ]
    assert _at_most(np.mean(np.array(bounds) > 0), 0.2, repetitions)


def test_rates_of_separated_worlds_prove_much_and_more_with_more_trials():
    bounds = [
        statistics.epsilon_from_rates(np.linspace(5, 6, n), np.linspace(0, 1, n), _DELTA)
        for n in (50, 500, 5000)
    ]
    assert np.all(np.diff(bounds) > 1) and bounds[-1] > 5


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_rates_take_scores_that_are_not_finite(bad):
    members = np.full(100, bad)
    bound = statistics.epsilon_from_rates(members, np.linspace(0, 1, 100), 0.0)
    assert 0 <= bound < math.inf


# Intervals.


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("p", "n"), [(0.01, 50), (0.1, 20), (0.5, 7), (0.5, 300), (0.93, 100)])
def test_clopper_pearson_covers_as_often_as_it_says(p, n, confidence):
    repetitions = 4000
    counts = np.random.default_rng(n).binomial(n, p, repetitions)
    intervals = {k: statistics.clopper_pearson(k, n, confidence) for k in np.unique(counts)}
    covered = np.mean([intervals[k].low <= p <= intervals[k].high for k in counts])
    assert _at_least(covered, confidence, repetitions)


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 40), (40, 40), (13, 40)])
def test_clopper_pearson_is_other_packages(successes, trials):
    found = statistics.clopper_pearson(successes, trials, 0.9)
    assert found.value == successes / trials
    theirs = proportion.proportion_confint(successes, trials, 0.1, "beta")
    assert (found.low, found.high) == pytest.approx(theirs, abs=1e-9)
    theirs = stats.binomtest(successes, trials).proportion_ci(0.9, "exact")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


# Areas, advantages and rates of curves.


def _truth(members, others):
    labels = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    return labels, np.concatenate([members, others])


@pytest.mark.parametrize("seed", range(5))
def test_area_is_sklearns_with_ties(seed):
    members, others = _with_ties(seed)
    found = statistics.area_under_curve(members, others)
    assert found.value == pytest.approx(metrics.roc_auc_score(*_truth(members, others)))
    assert found.low < found.value < found.high


def test_area_of_equal_distributions_is_a_half_as_often_as_the_interval_says():
    generator = np.random.default_rng(1)
    repetitions = 600
    found = [
        statistics.area_under_curve(*generator.normal(size=(2, 80))) for _ in range(repetitions)
    ]
    covered = np.mean([one.low <= 0.5 <= one.high for one in found])
    assert _at_least(covered, 0.95, repetitions)
    assert covered < 0.99
    assert np.mean([one.value for one in found]) == pytest.approx(0.5, abs=0.01)


def test_interval_of_the_area_covers_the_true_one():
    generator = np.random.default_rng(2)
    repetitions = 600
    true = stats.norm.cdf(1.5 / math.sqrt(2))
    covered = 0
    for _ in range(repetitions):
        found = statistics.area_under_curve(generator.normal(1.5, 1, 60), generator.normal(size=90))
        covered += found.low <= true <= found.high
    assert _at_least(covered / repetitions, 0.95, repetitions)


@pytest.mark.parametrize(("n", "m"), [(10, 1000), (1000, 10), (30, 1000), (60, 60)])
@pytest.mark.parametrize("shift", [2.0, 3.0, 4.0])
def test_interval_of_the_area_covers_the_true_one_of_few_scores_too(n, m, shift):
    generator = np.random.default_rng(3)
    repetitions = 200
    true = stats.norm.cdf(shift / math.sqrt(2))
    covered = 0
    for _ in range(repetitions):
        found = statistics.area_under_curve(generator.normal(shift, 1, n), generator.normal(size=m))
        covered += found.low <= true <= found.high
    assert _at_least(covered / repetitions, 0.95, repetitions)


@pytest.mark.parametrize("n", [1, 5, 100])
def test_area_of_separated_scores_is_1_and_its_interval_is_not_empty(n):
    found = statistics.area_under_curve(np.arange(n) + 1000.0, np.arange(2 * n) * 1.0)
    assert found.value == found.high == 1
    assert found.low == pytest.approx(statistics.clopper_pearson(n, n).low)
    turned = statistics.area_under_curve(np.arange(n) * 1.0, np.arange(n) + 1000.0)
    assert turned.value == turned.low == 0 and 0 < turned.high < 1


def test_area_of_equal_scores_is_a_half():
    found = statistics.area_under_curve(np.ones(10), np.ones(20))
    assert found.value == 0.5 and found.low < 0.5 < found.high


@pytest.mark.parametrize("seed", range(5))
def test_advantage_is_the_best_thresholds(seed):
    members, others = _with_ties(seed)
    thresholds = [*np.unique([*members, *others]), np.inf]
    best = max(np.mean(members >= t) - np.mean(others >= t) for t in thresholds)
    found = statistics.advantage(members, others)
    assert found.value == pytest.approx(best)
    assert found.low <= found.value <= found.high


def test_interval_of_the_advantage_covers_the_true_one():
    generator = np.random.default_rng(4)
    true = 2 * stats.norm.cdf(0.5) - 1
    repetitions = 300
    found = [
        statistics.advantage(generator.normal(1, 1, 100), generator.normal(0, 1, 100))
        for _ in range(repetitions)
    ]
    assert _at_least(np.mean([one.low <= true <= one.high for one in found]), 0.95, repetitions)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.05, 0.5, 1.0])
def test_true_positive_rate_is_sklearns_best_with_no_more_false_positives(seed, rate):
    members, others = _with_ties(seed)
    false, true, _ = metrics.roc_curve(*_truth(members, others), drop_intermediate=False)
    found = statistics.true_positive_rate(members, others, rate)
    assert found.value == pytest.approx(true[false <= rate + 1e-12].max())
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("shift", [0.0, 2.0, 3.0])
@pytest.mark.parametrize("n", [50, 1000])
@pytest.mark.parametrize("rate", [0.001, 0.01])
def test_interval_of_the_true_positive_rate_covers_that_at_the_true_threshold(shift, n, rate):
    generator = np.random.default_rng(5)
    repetitions = 200
    true = stats.norm.sf(stats.norm.isf(rate) - shift)
    covered = 0
    for _ in range(repetitions):
        scores = generator.normal(shift, 1, n), generator.normal(0, 1, n)
        found = statistics.true_positive_rate(*scores, rate)
        covered += found.low <= true <= found.high
    assert _at_least(covered / repetitions, 0.95, repetitions)


def test_true_positive_rate_is_within_narrow_ends_if_scores_are_many():
    generator = np.random.default_rng(6)
    scores = generator.normal(2, 1, 20000), generator.normal(0, 1, 20000)
    found = statistics.true_positive_rate(*scores, 0.01)
    assert found.high - found.low < 0.1


def test_too_few_others_for_the_threshold_leave_the_low_end_at_0():
    found = statistics.true_positive_rate(np.ones(100), np.zeros(100), 0.01)
    assert (found.value, found.low, found.high) == (1, 0, 1)


def test_false_positives_among_ties_are_never_more_than_asked():
    others = np.array([3.0] * 5 + [0.0] * 95)
    members = np.array([4.0] + [3.0] * 9)
    assert statistics.true_positive_rate(members, others, 0.04).value == 0.1
    assert statistics.true_positive_rate(members, others, 0.05).value == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_roc_is_sklearns_and_ascends_from_0_to_1(seed):
    members, others = _with_ties(seed)
    false, true = statistics.roc(members, others)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(false) >= 0) and np.all(np.diff(true) >= 0)
    theirs = metrics.roc_curve(*_truth(members, others), drop_intermediate=False)
    np.testing.assert_allclose(false, theirs[0])
    np.testing.assert_allclose(true, theirs[1])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_rates_of_curves_take_scores_that_are_not_finite(bad):
    members, others = _with_ties(0)
    members[:3] = bad
    others[:3] = bad
    for found in (
        statistics.area_under_curve(members, others),
        statistics.advantage(members, others),
        statistics.true_positive_rate(members, others, 0.01),
    ):
        assert 0 <= found.low <= found.value <= found.high <= 1
