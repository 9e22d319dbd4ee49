import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize, stats

from tfpriv.audit import one_run_bounds
from tfpriv.audit.one_run_bounds import Curve


def _gaussian(mu):
    epsilons = np.linspace(0, 12, 400)
    deltas = stats.norm.cdf(mu / 2 - epsilons / mu) - np.exp(epsilons) * stats.norm.cdf(
        -mu / 2 - epsilons / mu
    )
    return Curve(epsilons, np.clip(deltas, 0, 1))


def _by_sums_of_r_and_h(ratio, delta, m, r, v, error):
    """The paper's Algorithm in its own two sums and exact fractions; ratio stands for e^epsilon."""
    right, wrong = [Fraction(0)] * (v + 1), [Fraction(0)] * (v + 1)
    right[v], wrong[v] = error * Fraction(v, m), error * Fraction(r - v, m)
    for i in range(v - 1, -1, -1):
        inverse = max(
            Fraction(0), (right[i + 1] - delta) / ratio, 1 - delta - ratio * (1 - right[i + 1])
        )
        wrong[i] = max(inverse, wrong[i + 1])
        right[i] = right[i + 1] + Fraction(i, r - i) * (wrong[i] - wrong[i + 1])
    return right[0] + wrong[0] > Fraction(r, m)


@pytest.mark.parametrize(("m", "r"), [(12, 12), (60, 20), (300, 40)])
@pytest.mark.parametrize("ratio", [2, 7])
def test_recursion_agrees_with_the_papers_in_exact_fractions(m, r, ratio):
    delta = Fraction(1, 1000)
    curve = Curve(np.array([math.log(ratio)]), np.array([float(delta)]))
    told = [one_run_bounds.refutes(curve, m, r, v, 0.05) for v in range(r + 1)]
    assert told == [
        _by_sums_of_r_and_h(Fraction(ratio), delta, m, r, v, Fraction(1, 20)) for v in range(r + 1)
    ]


def _largest_tail(curve, m, r, v):
    """The most that P[v or more are right] can be, by a linear program over p_0 ... p_r."""
    bounds, rows = [], []
    numbers = np.arange(r + 1)
    for i in range(r):
        right = np.where(numbers > i, numbers / m, 0)
        wrong = np.where(numbers >= i, (r - numbers) / m, 0)
        for epsilon, delta in zip(curve.epsilons, curve.deltas, strict=True):
            rows += [right - math.exp(epsilon) * wrong, right - math.exp(-epsilon) * wrong]
            bounds += [delta, 1 - math.exp(-epsilon) * (1 - delta)]
    found = optimize.linprog(
        -(numbers >= v).astype(float),
        A_ub=np.array(rows),
        b_ub=bounds,
        A_eq=np.ones((1, r + 1)),
        b_eq=[1],
    )
    return -found.fun


@pytest.mark.parametrize(("m", "r"), [(5, 5), (12, 6)])
@pytest.mark.parametrize(
    "curve",
    [
        Curve(np.array([0.7]), np.array([0.02])),
        Curve(np.array([0.2, 1.0, 2.0]), np.array([0.1, 0.01, 1e-4])),
    ],
)
def test_recursion_is_the_linear_programs_optimum(m, r, curve):
    for v in range(1, r + 1):
        largest = _largest_tail(curve, m, r, v)
        if largest < 1 - 1e-6:
            assert one_run_bounds.refutes(curve, m, r, v, largest + 1e-6)
        assert not one_run_bounds.refutes(curve, m, r, v, largest - 1e-6)


@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_true_curve_is_refuted_as_seldom_as_the_error_says(mu):
    generator = np.random.default_rng(4)
    repetitions, m, r, error = 400, 300, 60, 0.2
    curve = _gaussian(mu)
    counts = []
    for _ in range(repetitions):
        coins = generator.random(m) < 0.5
        order = np.argsort(generator.normal(size=m) + mu * coins)
        counts.append(np.sum(~coins[order[: r // 2]]) + np.sum(coins[order[m - r // 2 :]]))
    refuted = {v: one_run_bounds.refutes(curve, m, r, int(v), error) for v in set(counts)}
    wrong = sum(refuted[v] for v in counts)
    assert stats.binom.sf(wrong - 1, repetitions, error) > 1e-3
    # A curve of much more privacy is refuted.
    assert one_run_bounds.refutes(_gaussian(mu / 4), m, r, int(np.median(counts)), error)


def test_replacing_goes_through_the_curve_twice():
    epsilon, delta = 0.6, 1e-4
    curve = Curve(np.array([epsilon]), np.array([delta]))
    twice = Curve(np.array([2 * epsilon]), np.array([(1 + math.exp(epsilon)) * delta]))
    for v in range(41):
        if one_run_bounds.refutes(twice, 100, 40, v, 0.05):
            assert one_run_bounds.refutes(curve, 100, 40, v, 0.05, replaces=True)
    told = [one_run_bounds.refutes(curve, 100, 40, v, 0.05, replaces=True) for v in range(41)]
    assert told[40] and not told[25]


@pytest.mark.parametrize(("guesses", "correct"), [(101, 5), (50, 51), (50, -1)])
def test_counts_that_make_no_sense_are_refused(guesses, correct):
    with pytest.raises(ValueError, match="make no sense"):
        one_run_bounds.refutes(_gaussian(1.0), 100, guesses, correct, 0.05)


# By epsilon and delta alone.


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "epsilon"),
    [
        (1000, 100, 95, 1e-5, 2.1652),
        (1000, 100, 100, 0, 3.4930),
        (1000, 100, 100, 1e-5, 3.4654),
        (1000, 1000, 600, 1e-5, 0.2972),
        (5000, 500, 470, 1e-5, 2.4269),
    ],
)
def test_one_run_bound_is_the_published_procedures(canaries, guesses, correct, delta, epsilon):
    found = one_run_bounds.one_run_epsilon(canaries, guesses, correct, delta)
    assert found == pytest.approx(epsilon, abs=1e-3)


def test_one_run_bound_without_delta_is_the_binomials():
    """All of r right is as probable as 1 - confidence where (e^eps / (1 + e^eps))^r is."""
    share = 0.05 ** (1 / 100)
    expected = math.log(share / (1 - share))
    assert one_run_bounds.one_run_epsilon(1000, 100, 100, 0.0) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("correct", [0, 40, 50, 57])
def test_one_run_bound_is_zero_if_chance_explains_the_guesses(correct):
    assert one_run_bounds.one_run_epsilon(1000, 100, correct, 1e-5) == 0


def test_one_run_bound_grows_with_right_guesses_and_shrinks_with_delta_and_confidence():
    by_correct = [one_run_bounds.one_run_epsilon(500, 100, v, 1e-5) for v in range(101)]
    assert np.all(np.diff(by_correct) >= 0) and by_correct[-1] > by_correct[60] > 0
    by_delta = [one_run_bounds.one_run_epsilon(500, 100, 95, d) for d in (0, 1e-6, 1e-4, 1e-3, 0.1)]
    assert np.all(np.diff(by_delta) <= 0) and by_delta[-1] == 0
    by_confidence = [one_run_bounds.one_run_epsilon(500, 100, 95, 0, c) for c in (0.5, 0.9, 0.99)]
    assert np.all(np.diff(by_confidence) < 0)


@pytest.mark.parametrize(("guesses", "correct"), [(101, 5), (50, 51), (50, -1)])
def test_one_run_bound_refuses_counts_that_make_no_sense(guesses, correct):
    with pytest.raises(ValueError, match="make no sense"):
        one_run_bounds.one_run_epsilon(100, guesses, correct, 0.0)
