import dataclasses
import math
from unittest import mock

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld
from dp_accounting.pld import privacy_loss_mechanism
from scipy import optimize, stats

from tfpriv.errors import UserError
from tfpriv.privacy import Epsilon, accounting


def gaussian_delta(sensitivity, epsilon):
    """Balle and Wang 2018, Theorem 8: delta of one Gaussian release of standard deviation 1."""
    below, above = (sign * sensitivity / 2 - epsilon / sensitivity for sign in (1, -1))
    return stats.norm.cdf(below) - math.exp(epsilon + stats.norm.logcdf(above))


def gaussian_epsilon(sensitivity, delta):
    return optimize.brentq(lambda e: gaussian_delta(sensitivity, e) - delta, 0, 1000)


def poisson(probability, noise_multiplier, steps):
    return dp_accounting.SelfComposedDpEvent(
        dp_accounting.PoissonSampledDpEvent(
            probability, dp_accounting.GaussianDpEvent(noise_multiplier)
        ),
        steps,
    )


def test_lesser_bound_is_reported_with_its_accountant():
    assert Epsilon(pld=1.0, rdp=2.0).value == 1
    assert Epsilon(pld=1.0, rdp=2.0).accountant == "PLD"
    assert Epsilon(pld=3.0, rdp=2.0).value == 2
    assert Epsilon(pld=3.0, rdp=2.0).accountant == "RDP"
    assert Epsilon(pld=None, rdp=2.0).value == 2
    assert Epsilon(pld=None, rdp=2.0).accountant == "RDP"
    assert Epsilon(pld=2.0, rdp=2.0).accountant == "PLD"


def test_epsilon_stays_as_it_was_found_and_names_its_accountants():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Epsilon(pld=1.0, rdp=2.0).pld = 0.5
    with pytest.raises(TypeError):
        Epsilon(1.0, 2.0)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8, 1e-11])
@pytest.mark.parametrize("noise_multiplier", [0.7, 3.0, 20.0])
def test_both_accountants_are_just_above_the_exact_gaussian_epsilon(noise_multiplier, delta):
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(noise_multiplier), 9)
    exact = gaussian_epsilon(3 / noise_multiplier, delta)
    by_rdp = accounting.epsilon_rdp(event, accounting.ADD_OR_REMOVE, delta)
    assert exact <= accounting.epsilon_pld(event, delta, by_rdp) <= exact * 1.001 + 1e-4
    assert exact <= by_rdp <= exact * 1.3


@pytest.mark.parametrize("delta", [1e-5, 1e-8, 1e-10, 1e-12, 1e-14, 1e-20])
def test_rounding_over_many_steps_does_not_pass_for_privacy(delta):
    # Sampled with a probability of all but 1, so that the exact answer is known.
    event = poisson(1 - 1e-9, 300.0, 100_000)
    exact = gaussian_epsilon(math.sqrt(100_000) / 300, delta)
    by_rdp = accounting.epsilon_rdp(event, accounting.ADD_OR_REMOVE, delta)
    by_pld = accounting.epsilon_pld(event, delta, by_rdp)
    assert by_rdp >= exact
    assert by_pld is None or by_pld >= exact
    assert by_pld is not None or delta < 1e-9


def test_rdp_of_rare_sampling_is_not_rounded_to_nothing():
    # The total variation of these steps, about 1.26e-5 by the central limit, is above delta.
    event = poisson(1e-6, 10.0, 100_000)
    assert accounting.epsilon_rdp(event, accounting.ADD_OR_REMOVE, 1e-5) > 1e-4


@pytest.mark.parametrize("noise_multiplier", [1.0, 100.0, 1e4])
def test_negative_divergence_by_rounding_raises_nothing(noise_multiplier):
    event = poisson(1e-6, noise_multiplier, 1000)
    assert accounting.epsilon_rdp(event, accounting.ADD_OR_REMOVE, 1e-7) >= 0


@pytest.mark.parametrize("order", [1.5, 2.0, 9.0])
def test_allowance_for_rounding_is_two_and_a_half_times_what_was_measured(order):
    # 4e-13 / (order - 1) a step was; of these steps themselves no divergence is left.
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(1e9), 10**9)
    found = accounting.epsilon_rdp(event, accounting.ADD_OR_REMOVE, 0.01, (order,))
    allowed = 2.5 * 4e-13 / (order - 1) * 10**9 + 1e9 * order / 2e18
    # Canonne, Kamath and Steinke 2020, Proposition 12.
    converted = math.log1p(-1 / order) - math.log(0.01 * order) / (order - 1)
    assert found - converted == pytest.approx(allowed, rel=1e-6)


def test_pld_is_used_up_to_the_ends_of_what_it_can_bound():
    few = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(0.5), 3)
    assert accounting.epsilon_pld(few, 1e-5, 1e6) is not None
    assert accounting.epsilon_pld(few, 1e-5, 1.0001e6) is None
    many = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(3000.0), 10**6)
    rounding = 10**6 * 2.0**-52
    assert accounting.epsilon_pld(many, 2 * rounding, 0.5) is None
    exact = gaussian_epsilon(1 / 3, 2.01 * rounding)
    # The delta that is left is about half of the one that was asked for.
    half = gaussian_epsilon(1 / 3, 1.01 * rounding)
    assert exact < accounting.epsilon_pld(many, 2.01 * rounding, 0.5) <= half * 1.001


@pytest.mark.parametrize(("scale", "interval"), [(0.3, 1e-4), (1.0, 1e-4), (3.0, 2e-4)])
def test_grid_of_losses_is_as_fine_as_it_is_said_to_be(scale, interval):
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(1.0), 1)
    accountant = pld.PLDAccountant(value_discretization_interval=interval).compose(event)
    found = accounting.epsilon_pld(event, 1e-5, scale)
    assert found == pytest.approx(accountant.get_epsilon(1e-5), abs=1e-9)


def test_delta_below_what_pld_cuts_off_is_left_to_rdp():
    event = poisson(0.5, 1.0, 2)
    assert pld.PLDAccountant().compose(event).get_epsilon(1e-15) == math.inf
    assert accounting.epsilon_pld(event, 1e-15, 10.0) is None


def test_astronomic_epsilon_is_left_to_rdp():
    event = poisson(0.5, 0.01, 100_000)
    by_rdp = accounting.epsilon_rdp(event, accounting.ADD_OR_REMOVE, 1e-5)
    assert math.isfinite(by_rdp)
    assert accounting.epsilon_pld(event, 1e-5, by_rdp) is None


@pytest.mark.parametrize("target", [0.02, 1.0, 40.0])
@pytest.mark.parametrize("start", [0.05, 1.0, 900.0])
def test_calibration_finds_the_least_noise_from_either_side(target, start):
    noise = accounting.calibrate(lambda z: 3 / z, target, start)
    assert 3 / target <= noise <= 3 / target * 1.001


@pytest.mark.parametrize("root", np.geomspace(0.02, 9e4, 30))
def test_calibration_is_as_exact_where_epsilon_falls_all_at_once(root):
    noise = accounting.calibrate(lambda z: 40.0 if z < root else 0.5, 1.0, 1.0)
    assert root <= noise <= root * 1.001


@pytest.mark.parametrize(
    ("epsilon_of", "most"),
    [(lambda z: 3 / z, 5), (lambda z: 3 / z + 0.5 / z**2, 7), (lambda z: 3 * z**-0.2, 6)],
)
def test_calibration_asks_for_few_epsilons_as_each_takes_seconds(epsilon_of, most):
    for start in (0.05, 0.3, 1.0, 30.0, 900.0):
        for target in (0.5, 1.0, 2.5, 5.0):
            counted = mock.Mock(side_effect=epsilon_of)
            accounting.calibrate(counted, target, start)
            assert counted.call_count <= most, (start, target)


@pytest.mark.parametrize("root", [3.0, 3.0 * (1 - 1e-5), 3.0 * (1 + 1e-5)])
def test_calibration_may_start_where_it_will_end(root):
    assert root <= accounting.calibrate(lambda z: root / z, 1.0, 3.0) <= root * 1.001
    noise = accounting.calibrate(lambda z: 1.0 if z >= 1 else 2.0, 1.0, 1.0)
    assert 1 <= noise <= 1.001


def test_calibration_goes_to_the_ends_of_the_noise_it_tries():
    for root in (0.0101, 0.99e5, 1e5):
        noise = accounting.calibrate(lambda z, root=root: root / z, 1.0, 1.0)
        assert root <= noise <= min(root * 1.001, 1e5)
    for root, message in ((0.0099, "next to no noise"), (1.01e5, "no noise multiplier up to 1000")):
        with pytest.raises(UserError, match=message):
            accounting.calibrate(lambda z, root=root: root / z, 1.0, 1.0)


def test_calibration_stops_with_a_sentence_when_noise_is_not_enough_or_not_needed():
    with pytest.raises(
        UserError, match=r"no noise multiplier up to 100000 .* raise target_epsilon"
    ):
        accounting.calibrate(lambda z: 2.0, 1.0, 1.0)
    with pytest.raises(UserError, match="needs next to no noise; set noise_multiplier"):
        accounting.calibrate(lambda z: 0.0, 1.0, 1.0)


@pytest.mark.parametrize("target", [0, -1, math.nan, math.inf, -math.inf, 0.99e-3, 1.01e5])
def test_impossible_target_is_refused(target):
    with pytest.raises(UserError, match=r"is .* it must be a number from 0\.001 to 100000\."):
        accounting.check_target(target)


def test_targets_at_the_ends_are_possible():
    for target in (1e-3, 1e5):
        accounting.check_target(target)


@pytest.mark.parametrize("delta", [None, 0, 1, -1e-5, 2, math.nan])
def test_impossible_delta_is_refused(delta):
    with pytest.raises(UserError, match="it must be above 0 and below 1"):
        accounting.check_delta(delta, 100)


def test_delta_of_one_over_the_population_draws_a_warning():
    assert "not below 1/1000" in accounting.check_delta(1e-3, 1000)
    assert accounting.check_delta(0.99e-3, 1000) is None


# Events, as an audit reads them again and turns their noise.

_GAUSSIAN = dp_accounting.GaussianDpEvent(2.0)
_EVENTS = [
    dp_accounting.SelfComposedDpEvent(_GAUSSIAN, 3),
    dp_accounting.SelfComposedDpEvent(dp_accounting.PoissonSampledDpEvent(0.1, _GAUSSIAN), 3),
    dp_accounting.SelfComposedDpEvent(
        dp_accounting.SampledWithoutReplacementDpEvent(50, 5, _GAUSSIAN), 3
    ),
]
_EVENTS.append(dp_accounting.ComposedDpEvent(_EVENTS[:2]))


@pytest.mark.parametrize("event", _EVENTS)
def test_event_is_read_as_it_is_written(event):
    assert accounting.read_event(repr(event)) == event


@pytest.mark.parametrize(
    "text",
    [
        "print(1)",
        "__import__('os')",
        "NonPrivateDpEvent()",
        "GaussianDpEvent(2.0)",
        "GaussianDpEvent(noise_multiplier='2')",
        "GaussianDpEvent(noise=2)",
        "GaussianDpEvent(",
        "",
    ],
)
def test_text_that_is_no_event_is_refused(text):
    with pytest.raises(ValueError, match="no event of tfpriv"):
        accounting.read_event(text)


@pytest.mark.parametrize("event", _EVENTS)
def test_all_the_noise_of_an_event_is_scaled(event):
    scaled = accounting.with_scaled_noise(event, 1.5)
    assert repr(scaled) == repr(event).replace("noise_multiplier=2.0", "noise_multiplier=3.0")


def test_sampling_probability_is_a_members():
    found = [accounting.sampling_probability(event) for event in _EVENTS[:3]]
    assert found == [1.0, 0.1, 0.1]


@pytest.mark.parametrize("noise_multiplier", [0.5, 2.0])
def test_deltas_are_just_above_the_exact_gaussian_ones(noise_multiplier):
    epsilons = np.array([0.0, 0.5, 2.0, 5.0])
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(noise_multiplier), 4)
    exact = np.array([gaussian_delta(2 / noise_multiplier, epsilon) for epsilon in epsilons])
    found = accounting.deltas(event, epsilons, 1e-4)
    assert np.all(found >= exact)
    np.testing.assert_allclose(found, exact, rtol=2e-3, atol=1e-9)


def test_no_delta_is_above_one():
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(0.01), 4)
    assert accounting.deltas(event, np.array([0.0]), 1.0) == 1


@pytest.mark.parametrize("event", _EVENTS)
def test_deltas_are_those_of_the_reported_epsilon(event):
    epsilon = accounting.epsilon_pld(event, 1e-5, 1.0)
    assert accounting.deltas(event, np.array([epsilon]), 1e-4)[0] == pytest.approx(1e-5, rel=1e-2)


@pytest.mark.parametrize("event", [_EVENTS[0], _EVENTS[1], _EVENTS[3]])
@pytest.mark.parametrize("orders", [None, accounting.FEW_ORDERS])
def test_divergences_that_are_kept_compose_as_dp_accountings_own(event, orders):
    accountant = dp_accounting.rdp.RdpAccountant(orders, accounting.ADD_OR_REMOVE).compose(event)
    # Twice, as the second time they are not computed again.
    for _ in range(2):
        found = accounting.epsilon_rdp(event, accounting.ADD_OR_REMOVE, 1e-5, orders)
        assert found == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-9)


@pytest.mark.parametrize("adjacency", privacy_loss_mechanism.AdjacencyType)
@pytest.mark.parametrize("probability", [1e-4, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("noise_multiplier", [0.05, 1.0, 100.0])
def test_divergences_of_all_losses_at_once_are_those_of_dp_accounting(
    noise_multiplier, probability, adjacency
):
    if probability == 1:
        adjacency = privacy_loss_mechanism.AdjacencyType.REMOVE  # Both are alike.
    release = privacy_loss_mechanism.GaussianPrivacyLoss(
        noise_multiplier, sampling_prob=probability, adjacency_type=adjacency
    )
    ends = release.connect_dots_bounds()
    epsilons = np.linspace(1.1 * ends.epsilon_lower, 1.1 * ends.epsilon_upper, 101)
    expected = np.asarray(release.get_delta_for_epsilon(epsilons))
    np.testing.assert_allclose(
        accounting.gaussian_deltas(release, epsilons), expected, rtol=1e-11, atol=1e-15
    )


@pytest.mark.parametrize("count", [1, 7, 1000])
@pytest.mark.parametrize("probability", [0.004, 1.0])
def test_epsilon_is_that_of_dp_accountings_own_accountant(probability, count):
    step = dp_accounting.GaussianDpEvent(30.0)
    if probability < 1:
        step = dp_accounting.PoissonSampledDpEvent(probability, dp_accounting.GaussianDpEvent(1.3))
    event = dp_accounting.ComposedDpEvent(
        [
            dp_accounting.SelfComposedDpEvent(step, count),
            dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(9.0), 2),
        ]
    )
    accountant = pld.PLDAccountant(value_discretization_interval=1e-4)
    accountant.compose(event)
    found = accounting.epsilon_pld(event, 1e-5, 1.0)
    assert found == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-6)
