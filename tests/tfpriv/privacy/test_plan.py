import dataclasses
import math
import subprocess
import sys
import time

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from scipy import optimize, stats

from tfpriv.errors import UserError
from tfpriv.noise import factorization
from tfpriv.privacy import (
    AdaptiveGaussian,
    Banded,
    CyclicPoissonSampler,
    Epsilon,
    FixedSizeSampler,
    Gaussian,
    PoissonSampler,
    PrivacyPlan,
    ShuffledSampler,
    Tree,
)

REPLACE = dp_accounting.NeighboringRelation.REPLACE_ONE
ZERO_OUT = dp_accounting.NeighboringRelation.REPLACE_SPECIAL

POISSON = PoissonSampler(population=3383, expected_size=120)
FIXED = FixedSizeSampler(population=3383, size=120)
ALL = FixedSizeSampler(population=30, size=30)
SHUFFLED = ShuffledSampler(population=3383, size=120)

GAUSSIAN = Gaussian(clip_norm=0.5, noise_multiplier=1.2)
ADAPTIVE = AdaptiveGaussian(
    clip_norm=0.1,
    target_quantile=0.5,
    clip_learning_rate=0.2,
    count_stddev=6.0,
    noise_multiplier=1.2,
)
TREE = Tree(clip_norm=0.5, noise_multiplier=1.2)

PAIRS = [
    (sampler, mechanism)
    for sampler in (POISSON, FIXED, ALL, SHUFFLED)
    for mechanism in (GAUSSIAN, ADAPTIVE, TREE)
    if mechanism is not TREE or sampler is SHUFFLED
]


def for_each(pairs):
    ids = [f"{sampler.name}-{sampler.population}-{mechanism.name}" for sampler, mechanism in pairs]
    return pytest.mark.parametrize(("sampler", "mechanism"), pairs, ids=ids)


every_pair = for_each(PAIRS)
# The adaptive mechanism's event is the Gaussian's, which other tests show.
every_event = for_each([pair for pair in PAIRS if pair[1] is not ADAPTIVE])


def plan_of(sampler, mechanism, delta=1e-5, **changes):
    mechanism = dataclasses.replace(mechanism, **changes)
    return PrivacyPlan(unit="client", sampler=sampler, mechanism=mechanism, delta=delta)


def gaussian_epsilon(sensitivity, delta):
    """Balle and Wang 2018, Theorem 8, solved for epsilon; the standard deviation is 1."""

    def excess(epsilon):
        below, above = (sign * sensitivity / 2 - epsilon / sensitivity for sign in (1, -1))
        return stats.norm.cdf(below) - math.exp(epsilon + stats.norm.logcdf(above)) - delta

    return optimize.brentq(excess, 0, 1000)


def by_hand(event, relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, delta=1e-5):
    by_pld = None
    if relation is dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE:
        by_pld = pld.PLDAccountant().compose(event).get_epsilon(delta)
    accountant = rdp.RdpAccountant(neighboring_relation=relation)
    return by_pld, accountant.compose(event).get_epsilon(delta)


def gaussians(noise_multiplier, count):
    event = dp_accounting.GaussianDpEvent(noise_multiplier)
    return dp_accounting.SelfComposedDpEvent(event, count)


def test_plan_stays_as_it_was_accounted_and_names_its_parts():
    plan = plan_of(POISSON, GAUSSIAN)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.delta = 0.5
    with pytest.raises(TypeError):
        PrivacyPlan("client", POISSON)


def test_steps_in_which_all_take_part_are_no_samples():
    everybody = PoissonSampler(population=30, expected_size=30)
    assert plan_of(everybody, GAUSSIAN).event([3, 2]) == gaussians(1.2, 5)
    in_turn = CyclicPoissonSampler(population=30, expected_size=5, separation=6)
    banded = Banded(clip_norm=0.5, noise_multiplier=1.2, bands=4)
    # Once in each six steps, begun anew with each segment.
    assert plan_of(in_turn, banded).event([13, 5]) == gaussians(1.2, 4)


def test_banded_steps_are_a_sample_for_each_turn_of_a_member():
    cyclic = CyclicPoissonSampler(population=100, expected_size=5, separation=7)
    banded = Banded(clip_norm=0.5, noise_multiplier=1.2, bands=4)
    turn = dp_accounting.PoissonSampledDpEvent(0.35, dp_accounting.GaussianDpEvent(1.2))
    expected = dp_accounting.SelfComposedDpEvent(turn, 5)
    assert plan_of(cyclic, banded).event([15, 0, 8]) == expected


def test_bands_up_to_the_separation_are_possible_and_any_number_of_an_inverse():
    cyclic = CyclicPoissonSampler(population=100, expected_size=5, separation=4)
    bands = Banded(clip_norm=0.5, noise_multiplier=1.2, bands=4)
    plan_of(cyclic, bands)
    with pytest.raises(UserError, match="5 bands reach beyond a separation of 4 steps"):
        plan_of(cyclic, bands, bands=5)
    plan_of(cyclic, bands, bands=5, factorization="inverse_sqrt")


@pytest.mark.parametrize("mechanism", [GAUSSIAN, ADAPTIVE])
def test_poisson_epsilon_is_dp_accountings(mechanism):
    epsilon = plan_of(POISSON, mechanism).epsilon([60, 40])
    step = dp_accounting.PoissonSampledDpEvent(120 / 3383, dp_accounting.GaussianDpEvent(1.2))
    expected = by_hand(dp_accounting.SelfComposedDpEvent(step, 100))
    assert (epsilon.pld, epsilon.rdp) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("mechanism", [GAUSSIAN, ADAPTIVE])
def test_fixed_size_epsilon_is_dp_accountings_at_twice_the_clip(mechanism):
    epsilon = plan_of(FIXED, mechanism).epsilon([60, 40])
    step = dp_accounting.SampledWithoutReplacementDpEvent(
        3383, 120, dp_accounting.GaussianDpEvent(0.6)
    )
    expected = by_hand(dp_accounting.SelfComposedDpEvent(step, 100), REPLACE)[1]
    assert epsilon.rdp == pytest.approx(expected, rel=1e-6)
    assert epsilon.pld < epsilon.rdp


@pytest.mark.parametrize("mechanism", [GAUSSIAN, ADAPTIVE])
def test_shuffled_epsilon_is_that_of_one_release_a_pass(mechanism):
    assert SHUFFLED.steps_per_pass == 28
    epsilon = plan_of(SHUFFLED, mechanism).epsilon([100])
    expected = by_hand(gaussians(1.2, 4))
    assert (epsilon.pld, epsilon.rdp) == pytest.approx(expected, rel=1e-3)


def test_tree_epsilon_is_below_dp_accountings_over_passes():
    plan = plan_of(SHUFFLED, TREE)
    assert plan.segments(70) == [28, 28, 14]
    trees = [dp_accounting.SingleEpochTreeAggregationDpEvent(1.2, n) for n in (28, 28, 14)]
    every_node = by_hand(dp_accounting.ComposedDpEvent(trees), ZERO_OUT)[1]
    epsilon = plan.epsilon(plan.segments(70))
    assert 0.9 * every_node < epsilon.rdp < 0.97 * every_node
    released = math.hypot(*(factorization.tree_sensitivity(n) for n in (28, 28, 14)))
    exact = gaussian_epsilon(released / 1.2, 1e-5)
    assert exact <= epsilon.pld <= exact * 1.001


GOLDENS = [
    # Andrew et al. 2021, 120 clients a round (TARGETS T5).
    (3383, 120, 1.2, 100, 1.99, 1.71),
    # TF-Privacy's tutorial table (T2).
    (60_000, 256, 1.3, 15 * 60_000 / 256, 0.95, 0.87),
    (60_000, 256, 1.1, 60 * 60_000 / 256, 2.60, 2.39),
    (60_000, 256, 0.7, 45 * 60_000 / 256, 6.32, 5.64),
    # Abadi et al. 2016, section 5.2 (T3, whose PLD figures are of a grid ten times as coarse).
    (60_000, 600, 4.0, 100 * 100, 1.04, 0.947),
    (60_000, 600, 4.0, 400 * 100, 2.21, 2.034),
]


@pytest.mark.parametrize(("population", "size", "noise", "steps", "by_rdp", "by_pld"), GOLDENS)
def test_published_settings_have_todays_epsilon(population, size, noise, steps, by_rdp, by_pld):
    sampler = PoissonSampler(population=population, expected_size=size)
    plan = plan_of(sampler, GAUSSIAN, noise_multiplier=noise)
    epsilon = plan.epsilon([int(steps)])
    assert epsilon.rdp == pytest.approx(by_rdp, abs=0.01)
    assert epsilon.pld == pytest.approx(by_pld, abs=0.01)


@pytest.mark.parametrize(("epochs", "coarse"), [(100, 0.96), (400, 2.06)])
def test_finer_grid_is_tighter_than_the_recorded_figures(epochs, coarse):
    sampler = PoissonSampler(population=60_000, expected_size=600)
    plan = plan_of(sampler, GAUSSIAN, noise_multiplier=4.0)
    event = plan.event([epochs * 100])
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3).compose(event)
    assert accountant.get_epsilon(1e-5) == pytest.approx(coarse, abs=0.005)
    # By the central limit theorem of Gaussian DP (Bu et al. 2020) the steps are worth about this.
    limit = gaussian_epsilon(0.01 * math.sqrt(epochs * 100 * math.expm1(1 / 16)), 1e-5)
    assert limit < plan.epsilon([epochs * 100]).pld < coarse


@pytest.mark.parametrize("steps", [1, 10])
def test_taking_everybody_is_the_gaussian_mechanism_at_twice_the_clip(steps):
    # A clipped contribution C u may become -C u: the sum moves by 2 C, in noise of 1.2 C a step.
    exact = gaussian_epsilon(2 / 1.2 * math.sqrt(steps), 1e-5)
    assert exact <= plan_of(ALL, GAUSSIAN).epsilon([steps]).pld <= exact * 1.001


@pytest.mark.parametrize("noise_multiplier", [0.6, 1.2, 4.0])
@pytest.mark.parametrize("steps", [1, 100, 3000])
def test_fixed_size_epsilon_covers_a_replacement_seen_among_equals(noise_multiplier, steps):
    # All contribute -C, and one of them C instead: the sum is m (-C), plus 2 C if that one is in.
    epsilon = plan_of(FIXED, GAUSSIAN, noise_multiplier=noise_multiplier).epsilon([steps]).value
    loss = pld.privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier,
        sensitivity=2,
        pessimistic_estimate=False,
        value_discretization_interval=1e-3,
        sampling_prob=120 / 3383,
        use_connect_dots=False,
    ).self_compose(steps)
    assert epsilon >= loss.get_epsilon_for_delta(1e-5) * 0.999


@every_event
def test_epsilon_grows_with_steps_and_falls_with_noise(sampler, mechanism):
    def epsilon(steps, noise):
        plan = plan_of(sampler, mechanism, noise_multiplier=noise)
        return plan.epsilon(plan.segments(steps)).value

    by_steps = [epsilon(steps, 1.2) for steps in (0, 1, 1000)]
    assert by_steps[0] == 0
    assert by_steps == sorted(set(by_steps))
    by_noise = [epsilon(100, noise) for noise in (0.3, 0.5, 0.55, 5)]
    assert by_noise == sorted(set(by_noise), reverse=True)


@pytest.mark.parametrize("build", [PoissonSampler, FixedSizeSampler])
def test_epsilon_grows_with_the_sample(build):
    field = "expected_size" if build is PoissonSampler else "size"
    epsilons = [
        plan_of(build(population=100, **{field: size}), GAUSSIAN).epsilon([50]).value
        for size in (1, 50, 100)
    ]
    assert epsilons == sorted(epsilons)
    assert epsilons[0] < epsilons[-1]


@every_event
@pytest.mark.parametrize(
    ("whole", "broken"),
    [([28], [14, 14]), ([28], [10, 28]), ([28], [28, 1]), ([28], [28, 0]), ([5], [5, 5])],
)
def test_interruption_never_lowers_epsilon(sampler, mechanism, whole, broken):
    plan = plan_of(sampler, mechanism)
    assert plan.epsilon_rdp(broken) >= plan.epsilon_rdp(whole)


@pytest.mark.parametrize(
    ("segments", "starts"),
    [([6], [0]), ([6, 5], [0, 3]), ([4, 2], [0, 3]), ([2, 2], [0, 2]), ([4, 1, 9], [0, 3, 3])],
)
def test_shuffled_segments_count_the_most_that_one_member_can_be_seen(segments, starts):
    plan = plan_of(ShuffledSampler(population=12, size=3), GAUSSIAN)
    most = 0
    for seed in range(10):
        seen = np.zeros(12, int)
        for length, start in zip(segments, starts, strict=True):
            for step in range(start, start + length):
                seen[plan.sampler.sample(step, seed)] += 1
        most = max(most, seen.max())
    assert plan.event(segments).count >= most


def test_repeated_step_draws_anew_if_private_and_the_same_if_not():
    private = plan_of(POISSON, GAUSSIAN)
    first = private.participants(3, seed=1, segment=0)
    np.testing.assert_array_equal(first, POISSON.sample(3, seed=1))
    assert not np.array_equal(private.participants(3, seed=1, segment=1), first)
    for mechanism in (None, dataclasses.replace(GAUSSIAN, noise_multiplier=0.0)):
        plain = PrivacyPlan(unit="client", sampler=POISSON, mechanism=mechanism, delta=1e-5)
        np.testing.assert_array_equal(plain.participants(3, seed=1, segment=1), first)


def test_same_sample_under_new_noise_would_cost_more_than_accounted():
    accounted = plan_of(POISSON, GAUSSIAN).epsilon_rdp([1, 1])
    shared = dp_accounting.PoissonSampledDpEvent(120 / 3383, gaussians(1.2, 2))
    assert by_hand_rdp(shared) > accounted * 1.1


def by_hand_rdp(event):
    return rdp.RdpAccountant().compose(event).get_epsilon(1e-5)


@every_pair
def test_calibrated_noise_is_enough_and_half_a_percent_less_is_not(sampler, mechanism):
    target = 2.0
    if mechanism is ADAPTIVE:
        mechanism = dataclasses.replace(mechanism, count_stddev=1000.0)
    plan = plan_of(sampler, mechanism, noise_multiplier=None)
    segments = plan.segments(100)
    start = time.process_time()
    calibrated = plan.calibrate(target, 100)
    assert time.process_time() - start < 10
    assert calibrated.epsilon(segments).value <= target
    less = calibrated.mechanism.noise_multiplier * 0.995
    assert plan_of(sampler, mechanism, noise_multiplier=less).epsilon(segments).value > target


@pytest.mark.parametrize("target", [0, -1, math.nan, math.inf, 1e-9, 1e9])
def test_unreachable_target_is_refused(target):
    with pytest.raises(UserError, match=r"target_epsilon is .* it must be a number from"):
        plan_of(POISSON, GAUSSIAN).calibrate(target, 100)


def test_target_that_no_noise_reaches_is_refused():
    plan = dataclasses.replace(plan_of(POISSON, GAUSSIAN), delta=1e-12)
    with pytest.raises(
        UserError, match=r"no noise multiplier up to 100000 .* raise target_epsilon"
    ):
        plan.calibrate(0.001, 10**9)


def test_delta_that_is_not_below_one_over_the_population_is_warned_of():
    plan = plan_of(POISSON, GAUSSIAN)
    assert plan.warnings == ()
    (warning,) = dataclasses.replace(plan, delta=0.01).warnings
    assert "delta = 0.01 is not below 1/" in warning


def test_rough_calibration_is_near_and_by_rdp_alone():
    plan = plan_of(SHUFFLED, GAUSSIAN, noise_multiplier=None)
    roughly = plan.calibrate(2.0, 1, roughly=True)
    assert 1.95 < roughly.epsilon_rdp([1]) <= 2.0
    assert 1.99 < plan.calibrate(2.0, 1).epsilon([1]).pld <= 2.0 < roughly.epsilon([1]).pld * 1.2


def test_calibration_for_no_steps_is_refused():
    with pytest.raises(UserError, match="for 0 steps; run at least one"):
        plan_of(POISSON, GAUSSIAN).calibrate(1.0, 0)


def test_adaptive_with_too_few_clients_is_refused():
    few = PoissonSampler(population=3383, expected_size=10)
    with pytest.raises(UserError, match=r"cannot be reached .* of 0\.5 .* or a fixed clip"):
        plan_of(few, ADAPTIVE, count_stddev=0.5, noise_multiplier=None).calibrate(0.1, 100)


def test_adaptive_noise_just_below_its_limit_is_found():
    # The search starts at 1 and steps beyond 2 s_b on its way; only its end must lie below.
    gaussian = plan_of(POISSON, GAUSSIAN, noise_multiplier=None).calibrate(20.0, 100)
    noise = gaussian.mechanism.noise_multiplier
    plan = plan_of(POISSON, ADAPTIVE, count_stddev=noise * 0.51, noise_multiplier=None)
    assert noise < 1
    assert plan.calibrate(20.0, 100).mechanism.noise_multiplier == noise


@pytest.mark.parametrize("noise_multiplier", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("steps", [1, 5000, 100_000])
@pytest.mark.parametrize("sampler", [POISSON, FIXED, SHUFFLED], ids=lambda s: s.name)
def test_extremes_neither_hang_nor_raise(sampler, noise_multiplier, steps):
    start = time.process_time()
    epsilon = plan_of(sampler, GAUSSIAN, noise_multiplier=noise_multiplier).epsilon([steps])
    assert time.process_time() - start < 5
    assert 0 <= epsilon.value < math.inf
    assert epsilon.pld is None or math.isfinite(epsilon.pld)


def test_many_trees_are_accounted_in_a_moment():
    sampler = ShuffledSampler(population=10, size=5)
    start = time.process_time()
    plan = plan_of(sampler, TREE, noise_multiplier=100.0)
    epsilon = plan.epsilon(plan.segments(100_000))
    assert time.process_time() - start < 2
    # A tree of two: 1 by the leaf, and (2 / 3)^2 / (5 / 9) by the node above.
    released = math.sqrt(1.8 * 50_000)
    assert epsilon.pld == pytest.approx(gaussian_epsilon(released / 100, 1e-5), 1e-3)


def test_tree_is_refused_without_the_shuffled_sampler():
    for sampler in (POISSON, FIXED):
        with pytest.raises(UserError, match=r"no bound for the sampler .* needs the sampler shuff"):
            plan_of(sampler, TREE)


def test_tree_over_two_passes_and_negative_segments_are_errors():
    with pytest.raises(ValueError, match="spans more than one pass"):
        plan_of(SHUFFLED, TREE).event([29])
    with pytest.raises(ValueError, match="negative number of steps"):
        plan_of(POISSON, GAUSSIAN).epsilon([100, -50])
    with pytest.raises(ValueError, match=r"negative number of steps: \[3, -1\]"):
        plan_of(POISSON, GAUSSIAN).event([3, -1])


@pytest.mark.parametrize("delta", [None, 0, 1, math.nan])
def test_private_plan_needs_a_delta(delta):
    with pytest.raises(UserError, match="delta is"):
        plan_of(POISSON, GAUSSIAN, delta=delta)


def test_unknown_unit_is_refused():
    with pytest.raises(UserError, match="unit is 'user'; choose one of client, example"):
        PrivacyPlan(unit="user", sampler=POISSON)


def released(plan, noise_multiplier=7.0):
    return dataclasses.replace(plan, release_noise_multiplier=noise_multiplier)


@pytest.mark.parametrize("noise_multiplier", [1.0, 7.0])
def test_release_before_the_first_step_is_composed_as_dp_accounting_does(noise_multiplier):
    gaussian = dp_accounting.GaussianDpEvent
    step = dp_accounting.PoissonSampledDpEvent(120 / 3383, gaussian(1.2))
    expected = by_hand(
        dp_accounting.ComposedDpEvent(
            [gaussian(noise_multiplier), dp_accounting.SelfComposedDpEvent(step, 100)]
        )
    )
    epsilon = released(plan_of(POISSON, GAUSSIAN), noise_multiplier).epsilon([60, 40])
    assert (epsilon.pld, epsilon.rdp) == pytest.approx(expected, rel=2e-3)


@for_each([(SHUFFLED, GAUSSIAN), (SHUFFLED, TREE), (ALL, GAUSSIAN)])
def test_release_among_unamplified_steps_is_one_gaussian_with_them(sampler, mechanism):
    plan = plan_of(sampler, mechanism)
    segments = plan.segments(70)
    moved = 2 if sampler is ALL else 1
    event = plan.event(segments)
    precision = event.count / event.event.noise_multiplier**2 + (moved / 7) ** 2
    exact = gaussian_epsilon(math.sqrt(precision), 1e-5)
    assert exact <= released(plan).epsilon(segments).pld <= exact * 1.001


def test_release_of_a_banded_run_is_one_gaussian_more():
    sampler = CyclicPoissonSampler(population=100, expected_size=5, separation=20)
    mechanism = Banded(clip_norm=0.5, noise_multiplier=1.2, bands=4, factorization="inverse_sqrt")
    plan = plan_of(sampler, mechanism)
    (step,) = [plan.event([70]).event]
    exact = gaussian_epsilon(math.hypot(1 / step.noise_multiplier, 1 / 7), 1e-5)
    assert exact <= released(plan).epsilon([70]).pld <= exact * 1.001


def test_release_with_fixed_size_samples_is_bounded_at_twice_its_reach():
    plan = released(plan_of(FIXED, GAUSSIAN))
    gaussian = dp_accounting.GaussianDpEvent
    step = dp_accounting.SampledWithoutReplacementDpEvent(3383, 120, gaussian(0.6))
    steps = dp_accounting.SelfComposedDpEvent(step, 100)
    expected = by_hand(dp_accounting.ComposedDpEvent([gaussian(3.5), steps]), REPLACE)[1]
    epsilon = plan.epsilon([100])
    assert epsilon.rdp == pytest.approx(expected, rel=1e-6)
    assert epsilon.pld < epsilon.rdp


@pytest.mark.parametrize("segments", [[], [0], [0, 0]])
@for_each([(POISSON, GAUSSIAN), (FIXED, GAUSSIAN), (SHUFFLED, TREE)])
def test_release_counts_without_steps(sampler, mechanism, segments):
    plan = plan_of(sampler, mechanism)
    assert plan.epsilon(segments) == Epsilon(pld=0.0, rdp=0.0)
    assert plan.epsilon_rdp(segments) == 0
    exact = gaussian_epsilon((2 if sampler is FIXED else 1) / 7, 1e-5)
    epsilon = released(plan).epsilon(segments)
    assert exact <= epsilon.pld <= exact * 1.001
    assert epsilon.rdp == released(plan).epsilon_rdp(segments) > exact


def test_release_is_counted_once_however_often_a_run_is_interrupted():
    plan = released(plan_of(POISSON, GAUSSIAN))
    assert plan.epsilon([60, 0, 40]) == plan.epsilon([100])


@for_each([(POISSON, GAUSSIAN), (FIXED, GAUSSIAN), (SHUFFLED, TREE)])
def test_noise_is_calibrated_beside_a_release(sampler, mechanism):
    plan = released(plan_of(sampler, mechanism, noise_multiplier=None))
    segments = plan.segments(100)
    calibrated = plan.calibrate(2.0, 100)
    assert 1.99 < calibrated.epsilon(segments).value <= 2.0
    without = plan_of(sampler, mechanism, noise_multiplier=None).calibrate(2.0, 100)
    assert calibrated.mechanism.noise_multiplier > without.mechanism.noise_multiplier


def test_target_that_a_release_alone_exceeds_is_refused():
    with pytest.raises(UserError, match=r"noise multiplier of 7, alone costs an epsilon of 0\.50"):
        released(plan_of(POISSON, GAUSSIAN)).calibrate(0.5, 100)
    plan = released(plan_of(POISSON, GAUSSIAN))
    with pytest.raises(UserError, match="alone costs an epsilon of"):
        plan.calibrate(plan.epsilon([]).value, 100)


@pytest.mark.parametrize("noise_multiplier", [0, -1.0, math.nan, math.inf])
def test_release_needs_noise(noise_multiplier):
    with pytest.raises(UserError, match=r"release_noise_multiplier is .* must be a number above 0"):
        released(plan_of(POISSON, GAUSSIAN), noise_multiplier)
    assert released(plan_of(POISSON, GAUSSIAN), 0.01).release_noise_multiplier == 0.01


@pytest.mark.parametrize("mechanism", [None, Gaussian(clip_norm=1.0, noise_multiplier=0.0)])
def test_no_noise_has_no_epsilon(mechanism):
    plan = PrivacyPlan(unit="client", sampler=POISSON, mechanism=mechanism, delta=1e-5)
    assert not plan.is_private
    assert isinstance(plan.event([10]), dp_accounting.NonPrivateDpEvent)
    for epsilon in (plan.epsilon, plan.epsilon_rdp):
        with pytest.raises(ValueError, match="without noise has no epsilon"):
            epsilon([10])


def test_import_loads_no_tensorflow():
    code = "import sys, tfpriv.privacy; print([n for n in sys.modules if 'tensorflow' in n])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
