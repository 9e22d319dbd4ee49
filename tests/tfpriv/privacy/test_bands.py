"""The choice of bands and separation, by the error of prefix sums under the plan's accounting."""

import dataclasses

import pytest

from tfpriv.errors import UserError
from tfpriv.privacy import (
    Banded,
    CyclicPoissonSampler,
    Gaussian,
    PoissonSampler,
    PrivacyPlan,
    fit_bands,
)

STEPS = 300


def open_plan(expected_size=50, **settings):
    settings = {"factorization": "optimized", "bands": 1, "horizon": STEPS, **settings}
    return PrivacyPlan(
        unit="example",
        sampler=CyclicPoissonSampler(population=2000, expected_size=expected_size, separation=1),
        mechanism=Banded(clip_norm=0.5, **settings),
        delta=1e-5,
    )


def error(plan):
    return plan.mechanism.noise_multiplier * plan.mechanism.prefix_error(STEPS)


@pytest.mark.parametrize(("target", "least", "most"), [(0.5, 1, 2), (2.0, 3, 6), (8.0, 13, 28)])
def test_chosen_bands_have_less_error_than_any_others_and_than_dp_sgd(target, least, most):
    chosen = fit_bands(open_plan(), STEPS, target_epsilon=target)
    # More epsilon has more bands.
    assert least <= chosen.mechanism.bands <= most
    assert chosen.sampler.separation == chosen.mechanism.bands
    assert 0.98 * target < chosen.epsilon([STEPS]).value <= target
    dp_sgd = PrivacyPlan(
        unit="example",
        sampler=PoissonSampler(population=2000, expected_size=50),
        mechanism=Gaussian(clip_norm=0.5),
        delta=1e-5,
    ).calibrate(target, STEPS)
    # The error of a prefix sum of t steps is the root of t.
    plain = dp_sgd.mechanism.noise_multiplier * ((STEPS + 1) / 2) ** 0.5
    assert error(chosen) <= plain * 1.001
    for bands in (3, 10, 40):
        other = fit_bands(open_plan(), STEPS, bands=bands, target_epsilon=target)
        assert (other.mechanism.bands, other.sampler.separation) == (bands, bands)
        assert error(chosen) <= error(other) * 1.01


def test_of_bands_with_the_same_noise_those_with_the_least_error_are_chosen(monkeypatch):
    plan = open_plan(noise_multiplier=1.0)
    monkeypatch.setattr(PrivacyPlan, "calibrate", lambda self, *_, **__: self)
    assert fit_bands(plan, STEPS, target_epsilon=2.0).mechanism.bands == 40


class Calibrated:
    """Stands in for a plan's calibration, so that the errors of each number of bands are known."""

    def __init__(self, monkeypatch, roughly, exactly):
        self.errors = {True: roughly, False: exactly}
        self.tried = {True: [], False: []}
        monkeypatch.setattr(PrivacyPlan, "calibrate", lambda *args, **kw: self(*args, **kw))

    def __call__(self, plan, target_epsilon, steps, *, roughly=False):
        bands = plan.mechanism.bands
        assert (target_epsilon, plan.sampler.separation) == (2.0, bands)
        self.tried[roughly].append(bands)
        noise = self.errors[roughly](bands) / plan.mechanism.prefix_error(steps)
        mechanism = dataclasses.replace(plan.mechanism, noise_multiplier=noise)
        return dataclasses.replace(plan, mechanism=mechanism)


@pytest.mark.parametrize(
    ("expected_size", "steps", "tried"),
    [
        (50, 300, [1, 2, 3, 4, 6, 9, 13, 19, 28, 40]),
        (49.5, 300, [1, 2, 3, 4, 6, 9, 13, 19, 28, 40]),
        (220, 300, [1, 2, 3, 4, 6, 9]),
        (50, 5, [1, 2, 3, 4, 5]),
        (1001, 300, [1]),
    ],
)
def test_bands_are_tried_that_grow_by_a_half_up_to_a_pass_or_the_run(
    monkeypatch, expected_size, steps, tried
):
    calibrated = Calibrated(monkeypatch, lambda bands: 1 + abs(bands - 4), lambda bands: 1 / bands)
    chosen = fit_bands(open_plan(expected_size), steps, target_epsilon=2.0)
    assert calibrated.tried[True] == tried
    assert chosen.mechanism.bands == min(4, tried[-1])
    # The best is compared once more with one band, by all of the accounting.
    assert calibrated.tried[False] == [1, 4][: len(tried)]


def test_bands_that_are_best_only_roughly_give_way_to_one(monkeypatch):
    Calibrated(monkeypatch, lambda bands: 1 / bands, lambda bands: 1.0 * bands)
    assert fit_bands(open_plan(), STEPS, target_epsilon=2.0).mechanism.bands == 1


def test_where_all_take_part_in_each_step_there_is_one_band():
    plan = fit_bands(open_plan(expected_size=2000), STEPS, target_epsilon=4.0)
    assert (plan.mechanism.bands, plan.sampler.separation) == (1, 1)


def test_what_is_given_stays():
    mechanism = {"noise_multiplier": 2.0}
    both = fit_bands(open_plan(**mechanism), STEPS, bands=3, separation=7)
    assert (both.mechanism.bands, both.sampler.separation) == (3, 7)
    assert both.mechanism.noise_multiplier == 2.0
    one = fit_bands(open_plan(**mechanism), STEPS, separation=7)
    assert (one.mechanism.bands, one.sampler.separation) == (7, 7)


def test_banded_inverse_is_not_amplified_so_members_take_turns():
    plan = fit_bands(open_plan(factorization="inverse_sqrt", noise_multiplier=1.0), STEPS)
    assert (plan.mechanism.bands, plan.sampler.separation) == (16, 40)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give bands too, or a target epsilon instead"),
        ({"bands": 41}, "choose a separation from 1 to 40"),
        ({"bands": 8, "separation": 4}, "8 bands reach beyond a separation of 4"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        fit_bands(open_plan(noise_multiplier=1.0), STEPS, **settings)
