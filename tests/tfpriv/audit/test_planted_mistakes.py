"""The audits find mistakes that were planted into DP-SGD, and none where there is none."""

import pytest

from tests import planted, planted_leaks

pytestmark = pytest.mark.slow

_FEWER = {"epochs": 8, "checkpoint_every": 8}


@pytest.mark.parametrize(
    "mistake",
    [
        "noise scaled to a tenth of the clip",
        "noise divided by the batch twice",
    ],
)
def test_mistake_in_the_noise_is_found(mistake, tmp_path, monkeypatch):
    for name, value in _FEWER.items():
        monkeypatch.setitem(planted.RUN, name, value)
    found = planted.audited(mistake, tmp_path, seed=0)
    assert found["broken"] and found["verdict"].startswith("the privacy claim is broken")
    assert found["epsilon_lower_bound"] > found["accounted_epsilon"]


def test_mistake_in_the_sampling_is_found(tmp_path):
    found = planted.audited("Poisson claimed, shuffled with canaries in each", tmp_path, seed=0)
    assert found["broken"]


def test_run_without_a_mistake_is_not_blamed(tmp_path, monkeypatch):
    for name, value in _FEWER.items():
        monkeypatch.setitem(planted.RUN, name, value)
    found = planted.audited("none", tmp_path, seed=0)
    assert not found["broken"]
    assert found["epsilon_lower_bound"] <= found["accounted_epsilon"] <= 1


@pytest.mark.parametrize("seed", range(3))
def test_step_that_skips_what_is_empty_is_found_by_repeating_it(seed):
    bound, accounted = planted.audited_step("empty steps skipped", seed)
    assert bound > 2 * accounted


@pytest.mark.parametrize("seed", range(3))
def test_step_without_a_mistake_is_not_blamed(seed):
    bound, accounted = planted.audited_step("none", seed)
    assert bound <= accounted


@pytest.mark.parametrize("leak", ["seed known", "low bits"])
def test_leak_beside_the_noise_is_found_where_it_is_planted_and_nowhere_else(leak):
    bound, accounted = planted_leaks.audited(leak, True, seed=0)
    assert bound > accounted
    bound, accounted = planted_leaks.audited(leak, False, seed=0)
    assert bound <= accounted
