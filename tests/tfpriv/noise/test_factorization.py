"""Toeplitz factors against dense matrices, and sensitivity against all patterns of taking part."""

import itertools
import math

import numpy as np
import pytest
from scipy import optimize

from tfpriv.errors import UserError
from tfpriv.noise import factorization
from tfpriv.privacy import (
    Banded,
    CyclicPoissonSampler,
    Gaussian,
    PoissonSampler,
    PrivacyPlan,
)


def _dense(column, steps):
    column = np.concatenate([column, np.zeros(steps)])[:steps]
    return np.array(
        [[column[i - j] if i >= j else 0.0 for j in range(steps)] for i in range(steps)]
    )


def test_square_root_squares_to_the_prefix_sums():
    root = _dense(factorization.square_root(12), 12)
    np.testing.assert_allclose(root @ root, np.tril(np.ones((12, 12))), atol=1e-12)


def test_inverse_square_root_is_the_inverse():
    product = _dense(factorization.inverse_square_root(12), 12) @ _dense(
        factorization.square_root(12), 12
    )
    np.testing.assert_allclose(product, np.eye(12), atol=1e-12)


@pytest.mark.parametrize("bands", [1, 2, 3, 7])
def test_inverse_gives_the_first_column_of_the_inverse(bands):
    column = factorization.inverse_square_root(bands)
    wanted = np.linalg.inv(_dense(column, 12))[:, 0]
    np.testing.assert_allclose(factorization.inverse(column, 12), wanted, atol=1e-12)


@pytest.mark.parametrize("separation", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("bands", [1, 2, 4, 9])
@pytest.mark.parametrize("name", ["optimized", "sqrt", "inverse_sqrt"])
def test_no_pattern_of_taking_part_moves_the_release_by_more(name, bands, separation):
    steps = 9
    mechanism = Banded(clip_norm=1.0, factorization=name, bands=bands, horizon=steps)
    column = mechanism.coefficients()
    matrix = _dense(column, steps)
    if name == "inverse_sqrt":
        matrix = np.linalg.inv(matrix)
    worst = 0.0
    for pattern in itertools.product([0, 1], repeat=steps):
        taken = np.flatnonzero(pattern)
        if len(taken) and np.all(np.diff(taken) >= separation):
            # All columns are nonnegative, so contributions in one direction are the worst.
            worst = max(worst, np.linalg.norm(matrix[:, taken].sum(axis=1)))
    assert mechanism.sensitivity(steps, separation) == pytest.approx(worst, rel=1e-9)


def test_coefficients_for_which_there_is_no_bound_are_refused():
    for column in ([1.0, 2.0], [1.0, -0.5], [0.0, 1.5e-12]):
        with pytest.raises(ValueError, match="negative or increase"):
            factorization.sensitivity(column, 1)
    # So much may be rounding.
    assert factorization.sensitivity([0.0, 1e-12], 2) == 1e-12


def _banded(separation=1, steps_size=256, **settings):
    sampler = CyclicPoissonSampler(
        population=60_000, expected_size=steps_size, separation=separation
    )
    mechanism = Banded(clip_norm=1.0, **settings)
    return PrivacyPlan(unit="example", sampler=sampler, mechanism=mechanism, delta=1e-5)


def test_one_band_without_separation_is_dp_sgd():
    banded = _banded(bands=1, noise_multiplier=1.1).epsilon([500])
    plain = PrivacyPlan(
        unit="example",
        sampler=PoissonSampler(population=60_000, expected_size=256),
        mechanism=Gaussian(clip_norm=1.0, noise_multiplier=1.1),
        delta=1e-5,
    ).epsilon([500])
    assert banded == plain


def test_bands_cost_amplification():
    few = _banded(separation=4, bands=4, noise_multiplier=1.1).epsilon([2000]).value
    more = _banded(separation=64, bands=64, noise_multiplier=1.1).epsilon([2000]).value
    assert few < more


@pytest.mark.parametrize(("bands", "steps"), [(1, 9), (2, 1), (3, 40), (9, 9), (12, 9), (5, 300)])
def test_optimized_column_is_the_best_of_those_near_it_and_its_inverse_does_not_grow(bands, steps):
    column = np.array(factorization.optimized(bands, steps))
    assert np.all(column > 0) and np.all(np.diff(column) < 0) and column[0] == 1

    def error(values):
        return factorization.prefix_error(values, steps) * np.linalg.norm(values)

    dense = np.tril(np.ones((steps, steps))) @ np.linalg.inv(_dense(column, steps))
    wanted = np.linalg.norm(dense) / math.sqrt(steps)
    assert factorization.prefix_error(column, steps) == pytest.approx(wanted, rel=1e-9)
    assert error(column) <= error(factorization.square_root(bands)) * (1 + 1e-12)
    if bands <= steps:
        generator = np.random.default_rng(0)
        for _ in range(100):
            near = column * np.exp(1e-2 * generator.standard_normal(bands))
            assert error(near) >= error(column) * (1 - 1e-7)
    assert np.abs(factorization.inverse(column / column[0], 2**14)).max() <= 1


def test_no_end_of_a_wide_optimized_column_is_better_smaller_or_larger():
    column = np.array(factorization.optimized(128, 2000))

    def error(values):
        return factorization.prefix_error(values, 2000) * np.linalg.norm(values)

    for start in range(1, 128, 9):
        for factor in (0.99, 1.01):
            near = np.concatenate([column[:start], factor * column[start:]])
            assert error(near) >= error(column) * (1 - 1e-6)


def test_optimized_columns_are_those_of_a_general_optimizer():
    """Over all values, without the parametrization, from another start and without gradients."""

    def error(rest):
        values = np.concatenate([[1.0], rest])
        return factorization.prefix_error(values, 60) * np.linalg.norm(values)

    found = optimize.minimize(error, [0.1, 0.1, 0.1], method="Nelder-Mead", options={"xatol": 1e-7})
    column = np.array(factorization.optimized(4, 60))
    np.testing.assert_allclose(column[1:] / column[0], found.x, atol=1e-3)


def test_optimized_column_needs_to_know_how_many_steps_there_are():
    with pytest.raises(UserError, match="horizon is None; the factorization optimized needs"):
        Banded(clip_norm=1.0, factorization="optimized", bands=4)


@pytest.mark.parametrize("name", ["sqrt", "inverse_sqrt"])
def test_interruption_never_costs_less(name):
    plan = _banded(separation=100, bands=10, noise_multiplier=5.0, factorization=name)
    assert plan.epsilon([450]).value <= plan.epsilon([225, 225]).value


@pytest.mark.parametrize("name", ["sqrt", "inverse_sqrt"])
def test_calibrated_noise_stays_within_the_target_and_near_it(name):
    plan = _banded(separation=234, bands=16, factorization=name).calibrate(2.0, 700)
    assert 1.98 < plan.epsilon([700]).value <= 2.0


def test_more_bands_than_the_separation_are_refused():
    with pytest.raises(UserError, match="5 bands reach beyond a separation of 4"):
        _banded(separation=4, bands=5, noise_multiplier=1.0)


def test_banded_noise_over_other_samplers_is_refused():
    with pytest.raises(UserError, match="has no bound for the sampler"):
        PrivacyPlan(
            unit="example",
            sampler=PoissonSampler(population=100, expected_size=5),
            mechanism=Banded(clip_norm=1.0, noise_multiplier=1.0),
            delta=1e-5,
        )


def test_members_of_a_cycle_take_part_at_most_once_in_it():
    sampler = CyclicPoissonSampler(population=1000, expected_size=40, separation=10)
    taken = [set(sampler.sample(step, 3)) for step in range(40)]
    for start in range(31):
        window = taken[start : start + 10]
        assert len(set.union(*window)) == sum(map(len, window))
    assert np.mean([len(members) for members in taken]) == pytest.approx(40, rel=0.1)


def test_separation_of_a_whole_pass_is_a_fixed_order():
    sampler = CyclicPoissonSampler(population=1000, expected_size=40, separation=25)
    first, again = (np.concatenate([sampler.sample(s + p, 0) for s in range(25)]) for p in (0, 25))
    assert sorted(first) == list(range(1000))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("separation", [0, 26])
def test_separation_that_leaves_too_few_members_is_refused(separation):
    with pytest.raises(UserError, match=f"steps {separation} apart"):
        CyclicPoissonSampler(population=1000, expected_size=40, separation=separation)


def released_by_tree(steps):
    """A of the noise A z of the steps, [steps, nodes], for the nodes' own noise z."""
    complete, prefixes = [], []
    for step in range(1, steps + 1):
        nodes = [(1, {("leaf", step): 1.0})]
        complete.append(nodes[0])
        while len(complete) > 1 and complete[-1][0] == complete[-2][0]:
            (width, left), (_, right) = complete.pop(-2), complete.pop()
            below = 2 * width / (2 * width - 1)
            share = below / (1 + below)
            node = {key: (1 - share) * weight for key, weight in (left | right).items()}
            complete.append((2 * width, node | {(2 * width, step): share}))
        total = {}
        for _, node in complete:
            total |= node
        prefixes.append(total)
    names = sorted({name for prefix in prefixes for name in prefix}, key=str)
    sums = np.array([[prefix.get(name, 0.0) for name in names] for prefix in prefixes])
    return np.diff(sums, axis=0, prepend=0)


@pytest.mark.parametrize("steps", [*range(1, 34), 58, 63, 64, 65, 117, 127, 128, 234, 255])
def test_tree_is_worth_what_its_prefix_sums_release(steps):
    noise = released_by_tree(steps)
    exact = math.sqrt(np.linalg.inv(noise @ noise.T).diagonal().max())
    assert factorization.tree_sensitivity(steps) == pytest.approx(exact, rel=1e-9)


def test_tree_is_worth_less_than_all_nodes_of_a_leaf():
    assert factorization.tree_sensitivity(234) ** 2 == pytest.approx(6.87, abs=0.01)
    assert factorization.tree_sensitivity(1) == 1
    for steps in (2, 10, 100, 1000, 100_000):
        assert factorization.tree_sensitivity(steps) ** 2 < steps.bit_length()
