"""Tests of tfpriv.models.schedules."""

import math

import pytest

from tfpriv.errors import UserError
from tfpriv.models.schedules import build_schedule


def _factors(name, rounds, upto=None):
    factor = build_schedule(name, rounds, "--client_schedule")
    return [float(factor(r)) for r in range(upto or rounds)]


def test_constant_is_one():
    assert _factors("constant", 3) == [1.0, 1.0, 1.0]


def test_linear_falls_in_equal_steps_and_stays_above_zero():
    assert _factors("linear", 4) == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_linear_falls_to_an_end_over_a_share_of_the_rounds_and_stays_there():
    assert _factors("linear:0.5:0.4", 10) == pytest.approx([1, 0.875, 0.75, 0.625] + [0.5] * 6)
    assert _factors("linear:0.52:1", 4) == _factors("linear:0.52", 4)
    assert _factors("linear:0.6", 4, upto=7) == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.6, 0.6])
    assert _factors("linear:0.5:0.001", 4) == pytest.approx([1, 0.5, 0.5, 0.5])


def test_cosine_follows_half_a_cosine():
    expected = [(1 + math.cos(math.pi * r / 4)) / 2 for r in range(4)]
    assert _factors("cosine", 4) == pytest.approx(expected, abs=1e-6)


def test_exponential_multiplies_each_round():
    assert _factors("exponential:0.5", 4) == pytest.approx([1.0, 0.5, 0.25, 0.125])


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_rounds_past_the_last_keep_the_last_rate(name):
    factors = _factors(name, 4, upto=7)
    assert factors[4:] == factors[3:4] * 3
    assert min(factors) > 0


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential:1"])
def test_a_run_of_one_round_has_the_full_rate(name):
    assert _factors(name, 1) == [1.0]


@pytest.mark.parametrize("name", ["step", "", "cosine:3", "constant:1"])
def test_an_unknown_schedule_is_refused_with_the_flag_and_the_choices(name):
    with pytest.raises(UserError, match=f"--server_schedule={name} is not known; .*cosine"):
        build_schedule(name, 3, "--server_schedule")


@pytest.mark.parametrize("factor", ["", "0", "1.1", "-1", "nan", "x"])
def test_a_factor_out_of_range_is_refused(factor):
    with pytest.raises(UserError, match="above 0 and at most 1"):
        build_schedule(f"exponential:{factor}", 3, "--client_schedule")


@pytest.mark.parametrize("rest", ["", "0", "3", "x", "0.5:", "0.5:0", "0.5:2", "0.5:1:1", "nan"])
def test_an_end_or_share_out_of_range_is_refused(rest):
    with pytest.raises(UserError, match=f"--schedule=linear:{rest}: END and FRACTION are to be"):
        build_schedule(f"linear:{rest}", 3, "--schedule")
