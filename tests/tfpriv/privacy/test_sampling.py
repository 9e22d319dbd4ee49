import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from tfpriv.errors import UserError
from tfpriv.privacy import (
    CyclicPoissonSampler,
    FixedSizeSampler,
    PoissonSampler,
    ShuffledSampler,
    build_sampler,
)

SAMPLERS = [
    PoissonSampler(population=50, expected_size=10),
    FixedSizeSampler(population=50, size=10),
    ShuffledSampler(population=50, size=10),
]
CYCLIC = CyclicPoissonSampler(population=50, expected_size=5, separation=4)


def poisson_matrix(steps):
    """Returns bool[steps, 50]: who took part in which step, each with probability 0.2."""
    taken = np.zeros((steps, 50), bool)
    for step in range(steps):
        taken[step, SAMPLERS[0].sample(step, seed=1)] = True
    return taken


def test_poisson_counts_are_binomial():
    counts = poisson_matrix(4000).sum(axis=1)
    values = np.arange(4, 18)
    observed = [(counts <= 3).sum(), *((counts == v).sum() for v in values), (counts >= 18).sum()]
    law = stats.binom(50, 0.2)
    expected = [law.cdf(3), *law.pmf(values), law.sf(17)]
    assert stats.chisquare(observed, np.array(expected) * 4000).pvalue > 1e-3


def test_poisson_members_take_part_equally_often():
    observed = poisson_matrix(4000).sum(axis=0)
    statistic = ((observed - 800) ** 2 / (4000 * 0.2 * 0.8)).sum()
    assert 1e-3 < stats.chi2.cdf(statistic, 50) < 1 - 1e-3


@pytest.mark.parametrize("axis", ["steps", "members"])
def test_poisson_draws_are_independent(axis):
    taken = poisson_matrix(4000)
    first, second = (taken[:-1], taken[1:]) if axis == "steps" else (taken[:, :-1], taken[:, 1:])
    table = [[(first & second).sum(), (first & ~second).sum()]]
    table += [[(~first & second).sum(), (~first & ~second).sum()]]
    assert stats.chi2_contingency(table)[1] > 1e-3


def test_poisson_rounds_can_be_empty():
    sampler = PoissonSampler(population=20, expected_size=1)
    empty = sum(len(sampler.sample(step, seed=0)) == 0 for step in range(2000))
    assert empty / 2000 == pytest.approx(0.95**20, abs=0.04)


def test_poisson_with_probability_one_takes_everybody():
    sampler = PoissonSampler(population=7, expected_size=7)
    assert sampler.sampling_probability == 1
    np.testing.assert_array_equal(sampler.sample(3, seed=0), np.arange(7))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
def test_draw_depends_on_seed_and_step_alone(sampler):
    draw = sampler.sample(7, seed=3)
    for other in range(20):
        sampler.sample(other, seed=3)
    np.testing.assert_array_equal(sampler.sample(7, seed=3), draw)
    assert draw.dtype == np.int64
    assert (np.diff(draw) > 0).all()
    assert not np.array_equal(sampler.sample(8, seed=3), draw)
    assert not np.array_equal(sampler.sample(7, seed=4), draw)


@pytest.mark.parametrize(
    ("sampler", "first", "again"),
    [
        (PoissonSampler(population=50, expected_size=5), [5, 11, 31, 36, 40], [6, 26, 35, 41, 49]),
        (FixedSizeSampler(population=50, size=5), [6, 21, 29, 44, 48], [7, 9, 34, 35, 44]),
        (ShuffledSampler(population=50, size=5), [4, 7, 21, 29, 33], [4, 7, 21, 29, 33]),
        (CYCLIC, [6, 7, 22, 44, 46], [7, 22, 32, 40, 44, 46]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_draws_are_those_of_earlier_versions(sampler, first, again):
    # Or a run that is resumed under a newer version would not draw as it began.
    assert sampler.sample(7, 3).tolist() == first
    assert sampler.sample(7, 3, segment=1).tolist() == again


@pytest.mark.parametrize("sampler", [*SAMPLERS, CYCLIC], ids=lambda sampler: sampler.name)
def test_sampler_stays_as_it_was_accounted_and_names_its_numbers(sampler):
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampler.population = 7
    with pytest.raises(TypeError):
        type(sampler)(*dataclasses.astuple(sampler))


@pytest.mark.parametrize("sampler", [*SAMPLERS[:2], CYCLIC], ids=lambda sampler: sampler.name)
def test_other_segment_draws_anew(sampler):
    assert not np.array_equal(sampler.sample(7, 3, segment=1), sampler.sample(7, 3))
    np.testing.assert_array_equal(sampler.sample(7, 3, segment=0), sampler.sample(7, 3))


def test_shuffle_is_kept_in_every_segment():
    sampler = SAMPLERS[2]
    np.testing.assert_array_equal(sampler.sample(7, 3, segment=2), sampler.sample(7, 3))


def test_fixed_size_draws_are_uniform_without_repeats():
    sampler = FixedSizeSampler(population=50, size=10)
    counts = np.zeros(50)
    for step in range(2000):
        members = sampler.sample(step, seed=5)
        assert len(np.unique(members)) == 10
        counts[members] += 1
    statistic = ((counts - 400) ** 2 / (2000 * 0.2 * 0.8)).sum() * 49 / 50
    assert 1e-3 < stats.chi2.cdf(statistic, 49) < 1 - 1e-3


def test_shuffled_pass_sees_each_member_at_most_once():
    sampler = ShuffledSampler(population=53, size=10)
    assert sampler.steps_per_pass == 5
    passes = []
    for first in range(0, 15, 5):
        seen = np.concatenate([sampler.sample(first + i, seed=2) for i in range(5)])
        assert len(seen) == len(set(seen)) == 50
        assert set(seen) <= set(range(53))
        passes.append(tuple(seen))
    assert len(set(passes)) == 3


def test_shuffled_sits_out_others_in_each_pass():
    sampler = ShuffledSampler(population=3, size=2)
    missing = [3 - sampler.sample(step, seed=0).sum() for step in range(60)]
    assert set(missing) == {0, 1, 2}


@pytest.mark.parametrize("name", ["poisson", "fixed_size", "shuffled"])
@pytest.mark.parametrize("size", [0, -1, 11, math.nan, math.inf])
def test_size_that_does_not_fit_is_refused(name, size):
    with pytest.raises(UserError, match=f"{size}"):
        build_sampler(name, 10, size)


@pytest.mark.parametrize("name", ["fixed_size", "shuffled"])
def test_broken_size_is_refused_where_members_are_counted(name):
    with pytest.raises(UserError, match=r"whole number of members, not 2\.5; round it"):
        build_sampler(name, 10, 2.5)
    assert build_sampler(name, 10, 3.0).size == 3
    assert build_sampler("poisson", 10, 2.5).sampling_probability == 0.25


def test_population_of_one_is_the_smallest():
    for name in ("poisson", "fixed_size", "shuffled"):
        smallest = build_sampler(name, 1, 1)
        assert smallest.name == name and smallest.sample(0, seed=1).tolist() == [0]


def test_cyclic_sampler_is_built_with_its_separation_or_1():
    built = build_sampler("cyclic_poisson", 50, 5, separation=4)
    assert built == CYCLIC and built.sampling_probability == 0.4
    assert build_sampler("cyclic_poisson", 50, 5).separation == 1


def test_empty_population_and_unknown_sampler_are_refused():
    with pytest.raises(UserError, match="at least one member"):
        build_sampler("poisson", 0, 1)
    with pytest.raises(UserError, match=r"no sampler 'bernoulli'; choose one of poisson"):
        build_sampler("bernoulli", 10, 1)
