"""Draws from a secret key, and from a public seed."""

import numpy as np
import pytest
from scipy import stats

from tfpriv import draws

KEY = bytes(range(32))


def test_draws_of_a_seed_are_those_of_numpy():
    """So that runs without privacy stay what they were."""
    generator = np.random.default_rng((7, 1, 2))
    np.testing.assert_array_equal(draws.bernoulli(7, (1, 2), 0.3, 50), generator.random(50) < 0.3)
    generator = np.random.default_rng((7, 1, 2))
    np.testing.assert_array_equal(draws.permutation(7, (1, 2), 50), generator.permutation(50))


@pytest.mark.parametrize("probability", [0.0, 1e-3, 0.3, 1.0])
def test_key_draws_each_with_its_probability(probability):
    drawn = draws.bernoulli(KEY, (1,), probability, (400, 500))
    assert drawn.shape == (400, 500)
    law = stats.binom(200_000, probability)
    assert law.cdf(drawn.sum()) > 1e-4 and law.sf(drawn.sum() - 1) > 1e-4


def test_key_orders_and_subsets_are_uniform():
    places = np.array([draws.permutation(KEY, (1, n), 20) for n in range(4000)])
    assert (np.sort(places, axis=1) == np.arange(20)).all()
    for place in (0, 7, 19):
        assert stats.chisquare(np.bincount(places[:, place], minlength=20)).pvalue > 1e-4
    members = np.concatenate([draws.subset(KEY, (2, n), 20, 5) for n in range(4000)])
    # Five different ones each time vary less than independent ones.
    statistic = ((np.bincount(members, minlength=20) - 1000) ** 2 / (4000 * 0.25 * 0.75)).sum()
    assert 1e-4 < stats.chi2.cdf(statistic * 19 / 20, 19) < 1 - 1e-4


def test_subset_is_ascending_without_repeats():
    found = draws.subset(KEY, (3,), 50, 10)
    assert found.dtype == np.int64 and len(found) == 10 and (np.diff(found) > 0).all()


@pytest.mark.parametrize("other", [(bytes(32), (1, 2)), (KEY, (1, 3)), (KEY, (2, 1))])
def test_key_and_stream_decide_a_draw_alone(other):
    first, again = (draws.permutation(KEY, (1, 2), 100) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(draws.permutation(*other, 100), first)


def test_keys_of_the_operating_system_differ():
    keys = {draws.new_key() for _ in range(10)}
    assert len(keys) == 10 and all(len(key) == draws.KEY_BYTES for key in keys)
