import itertools
import math
import time

import dp_accounting
import numpy as np
import pytest
from scipy import integrate, optimize, stats

from tfpriv.privacy import FixedSizeSampler, Gaussian, PrivacyPlan, accounting, subsets


def plan_of(population, size, noise_multiplier, delta, release=None):
    return PrivacyPlan(
        unit="client",
        sampler=FixedSizeSampler(population=population, size=size),
        mechanism=Gaussian(clip_norm=1.0, noise_multiplier=noise_multiplier),
        delta=delta,
        release_noise_multiplier=release,
    )


def density(values, size, noise):
    """The density of the sum of a random subset of these values, with Gaussian noise."""
    sums = [sum(subset) for subset in itertools.combinations(values, size)]
    return lambda y: np.mean([stats.norm.pdf(y, total, noise) for total in sums], axis=0)


def exact_delta(before, after, epsilon, steps, reach):
    """The hockey-stick divergence of independent equal steps, by sums over a fine grid."""
    y = np.linspace(-reach, reach, 20_001 if steps == 1 else 801)
    p, q = before(y), after(y)
    for _ in range(steps - 1):
        p, q = np.multiply.outer(p, before(y)), np.multiply.outer(q, after(y))
    return np.maximum(p - math.exp(epsilon) * q, 0).sum() * (y[1] - y[0]) ** steps


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(("size", "noise"), [(1, 1.0), (2, 2.0), (4, 3.0)])
def test_no_population_of_four_is_told_apart_by_more(size, noise, steps):
    rng = np.random.default_rng(size)
    populations = [np.array([-1.0, -1, -1, -1]), np.array([-1.0, -1, 1, 1])]
    populations += list(rng.uniform(-1, 1, [4, 4]))
    plan = plan_of(4, size, noise, 1e-5)
    loss = subsets.compose([plan.event([steps])], 1e-3)
    ratios = []
    for before in populations:
        after = before.copy()
        after[0] = 1.0 if before[0] == -1 else -before[0]
        pair = [density(values, size, noise) for values in (before, after)]
        for one, other in (pair, pair[::-1]):
            for epsilon in (0.0, 0.3, 1.0):
                exact = exact_delta(one, other, epsilon, steps, size + 8 * noise)
                bound = loss.get_delta_for_epsilon(epsilon)
                # The sums are this exact.
                assert bound >= exact * (1 - 1e-4)
                ratios.append(exact / bound)
    # The bound is that of a member seen among equals, which is one of these populations.
    assert max(ratios) > 0.995 if steps == 1 or size == 4 else max(ratios) > 0.9


@pytest.mark.parametrize("probability", [0.01, 0.5, 1.0])
def test_divergence_is_that_of_the_mixture_above_one_and_of_its_reverse_below(probability):
    noise = 0.8

    def mixed(y):
        at_0, at_1 = stats.norm.pdf(y, 0, noise), stats.norm.pdf(y, 1, noise)
        return (1 - probability) * at_0 + probability * at_1

    def by_quadrature(epsilon):
        one, other = (mixed, lambda y: stats.norm.pdf(y, 0, noise))[:: 1 if epsilon >= 0 else -1]
        return integrate.quad(
            lambda y: max(one(y) - math.exp(epsilon) * other(y), 0), -12, 12, limit=500
        )[0]

    for epsilon in (-2.0, -0.1, 0.0, 0.1, 2.0):
        computed = subsets.divergence(np.array(epsilon), noise, probability)
        assert computed == pytest.approx(by_quadrature(epsilon), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("noise", [0.1, 10.0, 100.0])
def test_divergence_is_a_probability(noise):
    for probability in (0.01, 1.0):
        found = subsets.divergence(np.linspace(-1, 1, 2001) * 15 / noise, noise, probability)
        assert found.min() >= 0 and found.max() <= 1


def test_grid_reaches_beyond_the_losses_of_little_noise():
    # Losses are normal around 200 with a deviation of 20, so 400 is but 10 deviations off.
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(0.05), 1)
    assert subsets.compose([event], 1.0).get_delta_for_epsilon(500.0) < 1e-13


@pytest.mark.parametrize(
    ("population", "size", "noise", "steps", "delta", "by_rdp", "by_pld"),
    [
        (1000, 100, 4.0, 100, 1e-3, 3.98, 1.73),
        (3383, 120, 1.2, 100, 1e-5, 14.09, 9.39),
        (1000, 50, 2.0, 500, 1e-5, 16.00, 8.93),
    ],
)
def test_fixed_size_epsilon_is_far_below_that_by_rdp(
    population, size, noise, steps, delta, by_rdp, by_pld
):
    epsilon = plan_of(population, size, noise, delta).epsilon([steps])
    assert epsilon.rdp == pytest.approx(by_rdp, abs=0.01)
    assert epsilon.value == epsilon.pld == pytest.approx(by_pld, abs=0.01)


@pytest.mark.parametrize("release", [None, 5.0])
@pytest.mark.parametrize("size", [1, 30, 100])
@pytest.mark.parametrize("noise", [0.5, 1.0, 8.0])
def test_pld_is_never_above_rdp(size, noise, release):
    plan = plan_of(100, size, noise, 1e-4, release)
    for steps in (1, 1000):
        epsilon = plan.epsilon([steps])
        assert 0 < epsilon.pld <= epsilon.rdp


@pytest.mark.parametrize("delta", [1e-5, 1e-8, 1e-10, 1e-12])
def test_rounding_over_many_steps_does_not_pass_for_privacy(delta):
    # All but one of the members are taken, so that the exact answer is known.
    step = dp_accounting.SampledWithoutReplacementDpEvent(
        10**12, 10**12 - 1, dp_accounting.GaussianDpEvent(300.0)
    )
    moved = math.sqrt(100_000) / 300

    def excess(epsilon):
        below, above = (sign * moved / 2 - epsilon / moved for sign in (1, -1))
        return stats.norm.cdf(below) - math.exp(epsilon + stats.norm.logcdf(above)) - delta

    exact = optimize.brentq(excess, 0, 100)
    event = dp_accounting.SelfComposedDpEvent(step, 100_000)
    by_pld = accounting.epsilon_pld(event, delta, exact)
    assert by_pld is None or exact <= by_pld < exact * 1.01
    assert by_pld is not None or delta < 1e-9


def test_release_and_interruptions_are_composed_with_the_steps():
    plan = plan_of(1000, 100, 4.0, 1e-5)
    released = plan_of(1000, 100, 4.0, 1e-5, release=5.0)
    assert plan.epsilon([60, 0, 40]) == plan.epsilon([100])
    alone = released.epsilon([]).pld
    together = released.epsilon([100]).pld
    assert max(alone, plan.epsilon([100]).pld) < together < alone + plan.epsilon([100]).pld


def test_subsets_of_everybody_are_the_gaussian_mechanism():
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(2.0), 100)
    by_curve = subsets.compose([event], 1e-3).get_epsilon_for_delta(1e-5)
    assert by_curve == pytest.approx(accounting.epsilon_pld(event, 1e-5, 30.0), rel=1e-3)


def test_noise_for_subsets_is_calibrated_by_pld_in_seconds():
    start = time.process_time()
    plan = plan_of(3383, 120, None, 1e-5).calibrate(2.0, 1000)
    assert time.process_time() - start < 10
    assert 1.99 < plan.epsilon([1000]).pld <= 2.0
