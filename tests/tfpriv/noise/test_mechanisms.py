"""Noise has the correlations of its mechanism's matrix, in whole steps that need no private sum."""

import math

import numpy as np
import pytest
from scipy import stats

from tfpriv import noise, privacy
from tfpriv.errors import UserError
from tfpriv.noise import factorization, mechanisms
from tfpriv.noise.discrete_gaussian import PROVED_UNIT, UNIT

CLIP_NORM, NOISE_MULTIPLIER = 0.5, 1.7
CYCLIC = privacy.CyclicPoissonSampler(population=100, expected_size=5, separation=20)
SHUFFLED = privacy.ShuffledSampler(population=100, size=4)
POISSON = privacy.PoissonSampler(population=100, expected_size=5)
KNOWN = {"clip_norm": CLIP_NORM, "noise_multiplier": NOISE_MULTIPLIER}
ADAPTIVE = privacy.AdaptiveGaussian(
    **KNOWN, target_quantile=0.5, clip_learning_rate=0.2, count_stddev=1.0
)


def _plan(mechanism, sampler=POISSON):
    return privacy.PrivacyPlan(unit="example", sampler=sampler, mechanism=mechanism, delta=1e-5)


def _banded(name="sqrt", bands=5):
    return _plan(privacy.Banded(**KNOWN, factorization=name, bands=bands), CYCLIC)


PLANS = {
    "gaussian": _plan(privacy.Gaussian(**KNOWN)),
    "adaptive": _plan(ADAPTIVE),
    "tree": _plan(privacy.Tree(**KNOWN), SHUFFLED),
    "banded": _banded(),
    "inverse": _banded("inverse_sqrt"),
}


def _known_draws(source, monkeypatch, count, spread=1.0):
    """Has a mechanism draw known numbers, by unit variance; returns the rows as it takes them."""
    size = source._size
    rows = np.rint(spread * UNIT * np.random.default_rng(0).normal(size=(count, size)))
    taken = iter(rows)

    def draw(asked, variance=1):
        assert asked == size
        return np.rint(next(taken) * float(variance) ** 0.5).astype(np.int64)

    monkeypatch.setattr(source._sampler, "draw", draw)
    return rows


def _steps(source, count):
    return np.array([source.next() for _ in range(count)])


def _lower_toeplitz(column, steps):
    column = np.concatenate([column, np.zeros(steps)])
    return np.array(
        [[column[i - j] if i >= j else 0.0 for j in range(steps)] for i in range(steps)]
    )


@pytest.mark.parametrize("name", PLANS)
def test_noise_is_whole_steps_of_the_accounted_scale_and_no_other(name):
    plan = PLANS[name]
    source = plan.build_noise(50_001)
    first = source.next()
    assert first.shape == (50_001,) and first.dtype == np.int64
    multiplier = NOISE_MULTIPLIER
    if name == "adaptive":
        multiplier = plan.mechanism.value_noise_multiplier
    # Of C^-1 z the first step is z over C's first coefficient.
    scale = multiplier / (plan.mechanism.coefficients()[0] if name == "banded" else 1.0)
    values = source.width * first
    assert stats.kstest(values, "norm", args=(0, scale)).pvalue > 1e-4
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(values, "norm", args=(0, wrong * scale)).pvalue < 1e-12


def test_noise_of_the_adaptive_count_has_the_accounted_scale():
    source = ADAPTIVE.build_count_noise()
    values = 0.5 * source.width * _steps(source, 2000).ravel()
    assert stats.kstest(values, "norm").pvalue > 1e-4
    assert source.width == noise.step_width(2 * ADAPTIVE.count_stddev, 1)


@pytest.mark.parametrize("name", ["sqrt", "inverse_sqrt"])
@pytest.mark.parametrize("bands", [1, 2, 5, 20])
def test_banded_noise_is_what_the_dense_matrix_gives(name, bands, monkeypatch):
    plan = _banded(name, bands)
    column = plan.mechanism.coefficients()
    source = plan.build_noise(3)
    drawn = _known_draws(source, monkeypatch, 40)
    found = _steps(source, 40)
    matrix = _lower_toeplitz(column, 40)
    if name == "sqrt":
        matrix = np.linalg.inv(matrix)
    # In units of the first coefficient: the noise of the first step is what was drawn.
    expected = matrix / matrix[0, 0] @ drawn
    np.testing.assert_allclose(found, expected, atol=40)
    assert np.abs(expected).min() > 1e4


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_scaling_the_matrix_of_the_noise_scales_what_is_added(scale):
    """Where C is scaled, C^-1 z is so much smaller for the same z."""
    column = privacy.Banded(**KNOWN, bands=4).coefficients()
    one, other = (
        noise.BandedNoise(3, NOISE_MULTIPLIER, factor * column, is_inverse=False).width
        for factor in (1.0, scale)
    )
    assert one / other == pytest.approx(scale, rel=1e-6)


def _shift(kind, rows, column):
    """Returns by how much a change of the integers of each step moves the u_t of the releases."""
    return (_lower_toeplitz(column, len(rows)) / column[0]) @ rows


@pytest.mark.parametrize("kind", ["banded", "inverse"])
def test_releases_hold_the_proof_s_bound_on_what_a_member_moves(kind, monkeypatch):
    """With y fixed, the fresh noise of two neighbors differs by C times their steps and by one."""
    column = PLANS[kind].mechanism.coefficients()
    if kind == "inverse":
        column = factorization.inverse(column, 30)
    column = np.concatenate([column, np.zeros(30)])[:30]
    generator = np.random.default_rng(3)
    steps, changed = (generator.integers(-(10**6), 10**6, (30, 4)) for _ in range(2))
    changed[:7] = steps[:7]
    source = PLANS[kind].build_noise(4)
    fresh = _known_draws(source, monkeypatch, 30)
    released = steps + _steps(source, 30)
    # The neighbor's fresh noise that leads to the same releases, a step at a time.
    other = PLANS[kind].build_noise(4)
    needed = []

    def draw(size, variance=1):
        return np.zeros(size, np.int64)

    for t in range(30):
        monkeypatch.setattr(other._sampler, "draw", draw)
        before, step = other._before.copy(), other._step
        rest = other.next()
        needed.append(released[t] - changed[t] - rest)
        other._before[:], other._step = before, step
        monkeypatch.setattr(other._sampler, "draw", lambda size, variance=1: needed[-1])
        other.next()
    moved = fresh - np.array(needed)
    expected = _shift(kind, changed - steps, column)
    assert np.abs(moved - expected).max() <= 1 + 1e-3
    assert np.all(moved[:7] == 0)


def _tree_by_definition(own, steps):
    """Prefix-sum noise, from each node's own noise by (level, index)."""

    def estimate(level, index):
        if not level:
            return own[0, index]
        # The inverse-variance mean of the node's own noise and of the sum of its children's.
        variance = 2.0 ** (level - 1) / (2.0**level - 1)  # of a child
        share = 2 * variance / (1 + 2 * variance)
        below = estimate(level - 1, 2 * index) + estimate(level - 1, 2 * index + 1)
        return share * own[level, index] + (1 - share) * below

    sums = []
    for step in range(1, steps + 1):
        total, start = 0.0, 0
        for level in reversed(range(step.bit_length())):
            if step >> level & 1:
                total += estimate(level, start >> level)
                start += 1 << level
        sums.append(total)
    return np.array(sums)


def _covariance_by_definition(steps):
    """Prefix sums are linear in the nodes' own noise: the covariance, by unit vectors."""
    nodes = [(level, i) for level in range(6) for i in range(2 ** (5 - level))]
    rows = [_tree_by_definition({n: float(n == node) for n in nodes}, steps) for node in nodes]
    return np.array(rows).T @ np.array(rows)


def test_prefix_sums_of_the_tree_have_honaker_s_covariance(monkeypatch):
    plan = _plan(privacy.Tree(**KNOWN), SHUFFLED)
    steps = plan.steps_per_pass
    assert steps == 25
    source = plan.build_noise(steps)
    # One fresh number at a time shows the matrix that the recursion applies.
    fresh = iter(np.eye(steps))

    def draw(size, variance=1):
        return np.rint(2.0**26 * float(variance) ** 0.5 * next(fresh)).astype(np.int64)

    monkeypatch.setattr(source._sampler, "draw", draw)
    sums = np.cumsum(_steps(source, steps), axis=0) / 2.0**26
    np.testing.assert_allclose(sums @ sums.T, _covariance_by_definition(steps), atol=1e-5)


@pytest.mark.parametrize(("step", "variance"), [(1, 1.0), (2, 2 / 3), (3, 5 / 3), (4, 4 / 7)])
def test_prefix_sums_of_the_tree_have_the_variance_of_efficient_trees(step, variance):
    source = PLANS["tree"].build_noise(50_000)
    total = np.sum(_steps(source, step), axis=0) / UNIT
    assert total.var() == pytest.approx(variance, rel=0.04)


def test_full_square_root_leaves_little_noise_in_prefix_sums():
    source = _banded(bands=20).build_noise(5_000)
    sums = np.cumsum(source.width * _steps(source, 20), axis=0).std(axis=1)
    assert sums[-1] < 0.75 * np.sqrt(20) * NOISE_MULTIPLIER


def test_restarted_tree_and_bands_start_from_independent_noise():
    tree = noise.TreeNoise(50_000, 1.0, 8)
    banded = noise.BandedNoise(50_000, 1.0, factorization.square_root(4), is_inverse=False)
    for source in (tree, banded):
        before = _steps(source, 3)
        source.restart()
        after = source.next()
        assert (after / UNIT).var() == pytest.approx(1.0, rel=0.04)
        assert max(abs(np.corrcoef(after, row)[0, 1]) for row in before) < 0.03


def test_tree_gives_no_more_steps_than_were_accounted_for():
    source = noise.TreeNoise(2, 1.0, 3)
    _steps(source, 3)
    with pytest.raises(ValueError, match="start it anew"):
        source.next()
    source.restart()
    _steps(source, 3)


def test_bands_give_no_more_steps_than_were_proved(monkeypatch):
    monkeypatch.setattr(mechanisms, "_MOST_STEPS", 4)
    source = noise.BandedNoise(2, 1.0, [1.0, 0.5], is_inverse=False)
    _steps(source, 4)
    with pytest.raises(UserError, match="4 steps in a row"):
        source.next()


@pytest.mark.parametrize("name", PLANS)
def test_width_pays_for_what_rounding_moves_over_all_rows_that_a_member_touches(name):
    """At least: the first column of C over all of a run for bands, the levels for a tree."""
    plan, size = PLANS[name], 1000
    column = np.ones(1)
    rows = 0
    multiplier = NOISE_MULTIPLIER
    if name == "adaptive":
        multiplier = plan.mechanism.value_noise_multiplier
    elif name == "tree":
        rows = 3 * plan.steps_per_pass.bit_length()
    elif name == "banded":
        column, rows = plan.mechanism.coefficients(), 4
    elif name == "inverse":
        column, rows = factorization.inverse(plan.mechanism.coefficients(), 10_000), 10_000
    width = plan.build_noise(size).width
    norm = np.linalg.norm(column)
    # In deviations of the fresh noise: what the clip and its rounding move, and the later rounding.
    moved = norm / column[0] * (1 / width + math.sqrt(size)) + math.sqrt(rows * size)
    assert PROVED_UNIT / moved >= multiplier / norm
