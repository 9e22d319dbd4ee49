"""Noise has the scale that is accounted for and the correlations of its matrix."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfpriv import privacy
from tfpriv.central import noise
from tfpriv.privacy import factorization

CYCLIC = privacy.CyclicPoissonSampler(population=100, expected_size=5, separation=20)


def _plan(mechanism, sampler):
    return privacy.PrivacyPlan(unit="example", sampler=sampler, mechanism=mechanism, delta=1e-5)


def _known_draws(source, monkeypatch, size, count):
    """Has a mechanism draw known numbers; returns the rows in the order in which it takes them."""
    rows = np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)
    taken = tf.Variable(0, trainable=False)

    def draw():
        return tf.constant(rows)[taken.assign_add(1) - 1]

    monkeypatch.setattr(source._fresh, "next", draw)
    return rows


def _steps(source, count):
    step = tf.function(source.next, autograph=False)
    return np.array([step().numpy() for _ in range(count)])


def test_independent_noise_is_standard_normal_and_no_other_scale():
    values = noise.IndependentNoise(100_001).next().numpy()
    assert values.shape == (100_001,) and values.dtype == np.float32
    assert stats.kstest(values, "norm").pvalue > 1e-4
    for scale in (2 / 3, 3 / 2):
        assert stats.kstest(values, "norm", args=(0, scale)).pvalue < 1e-12


def test_successive_numbers_and_steps_are_not_correlated():
    source = noise.IndependentNoise(50_000)
    first, second = _steps(source, 2)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[:25_000], first[25_000:])[0, 1]) < 0.03
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.03


def test_tail_goes_on_where_23_bits_would_end(monkeypatch):
    source = noise.IndependentNoise(200_000)
    generator = np.random.default_rng(0)

    class _Small:
        def update_into(self, zeros, to):
            words = to.view(np.uint32)
            words[:] = generator.integers(0, 2**32, len(words), np.uint32)
            words[:100_000] %= 2**9

    monkeypatch.setattr(source, "_stream", _Small())
    first, second = np.split(source.next().numpy().astype(np.float64), 2)
    # The squared radius beyond one of 46 ln 2 is exponential.
    beyond = first**2 + second**2 - 46 * np.log(2)
    assert stats.kstest(beyond, "expon", args=(0, 2)).pvalue > 1e-4
    assert np.sqrt(first**2 + second**2).max() > 6.5


def test_noise_does_not_come_from_a_seed():
    values = []
    for _ in range(2):
        tf.random.set_seed(1)
        np.random.seed(1)
        values.append(noise.IndependentNoise(10).next().numpy())
    assert not np.any(values[0] == values[1])


@pytest.mark.parametrize("name", ["sqrt", "inverse_sqrt"])
@pytest.mark.parametrize("bands", [1, 2, 5, 20])
def test_banded_noise_is_what_the_dense_matrix_gives(name, bands, monkeypatch):
    mechanism = privacy.Banded(clip_norm=1.0, noise_multiplier=1.0, factorization=name, bands=bands)
    source = noise.build_noise(_plan(mechanism, CYCLIC), 3)
    drawn = _known_draws(source, monkeypatch, 3, 40)
    found = _steps(source, 40)
    column = np.zeros(40)
    column[:bands] = mechanism.coefficients()
    matrix = np.array([[column[i - j] if i >= j else 0.0 for j in range(40)] for i in range(40)])
    if name == "sqrt":
        matrix = np.linalg.inv(matrix)
    np.testing.assert_allclose(found, matrix @ drawn, rtol=1e-4, atol=1e-4)


def test_full_square_root_leaves_little_noise_in_prefix_sums():
    mechanism = privacy.Banded(clip_norm=1.0, noise_multiplier=1.0, bands=20)
    source = noise.build_noise(_plan(mechanism, CYCLIC), 20_000)
    sums = np.cumsum(_steps(source, 20), axis=0).std(axis=1)
    assert sums[-1] < 0.75 * np.sqrt(20)


def _tree_by_definition(drawn, steps):
    """Prefix-sum noise, from the draws in the order leaf, then a node for each level above."""
    draws = iter(drawn)
    complete, sums = {}, []
    for step in range(1, steps + 1):
        node, level = next(draws), 0
        while not step >> level & 1:
            # The inverse-variance mean of the node's own noise and its children's.
            variance = 2.0**level / (2.0 ** (level + 1) - 1)  # of a child
            share = 2 * variance / (1 + 2 * variance)
            node = share * next(draws) + (1 - share) * (node + complete.pop(level))
            level += 1
        complete[level] = node
        sums.append(sum(complete.values()))
    return np.array(sums)


def test_tree_noise_sums_up_to_the_nodes_of_the_tree(monkeypatch):
    plan = _plan(
        privacy.Tree(clip_norm=1.0, noise_multiplier=1.0),
        privacy.ShuffledSampler(population=100, size=4),
    )
    source = noise.build_noise(plan, 3)
    drawn = _known_draws(source, monkeypatch, 3, 60)
    found = np.cumsum(_steps(source, 25), axis=0)
    np.testing.assert_allclose(found, _tree_by_definition(drawn, 25), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("step", "variance"), [(1, 1.0), (2, 2 / 3), (3, 5 / 3), (4, 4 / 7)])
def test_prefix_sums_of_the_tree_have_the_variance_of_efficient_trees(step, variance):
    plan = _plan(
        privacy.Tree(clip_norm=1.0, noise_multiplier=1.0),
        privacy.ShuffledSampler(population=100, size=4),
    )
    source = noise.build_noise(plan, 100_000)
    total = np.sum(_steps(source, step), axis=0)
    assert total.var() == pytest.approx(variance, rel=0.03)


def test_restarted_tree_and_bands_start_from_independent_noise():
    tree = noise.TreeNoise(100_000, 8)
    banded = noise.BandedNoise(100_000, factorization.square_root(4), is_inverse=False)
    for source in (tree, banded):
        before = _steps(source, 3)
        source.restart()
        after = _steps(source, 1)[0]
        assert after.var() == pytest.approx(1.0, rel=0.03)
        assert max(abs(np.corrcoef(after, row)[0, 1]) for row in before) < 0.02
