"""Draws are discrete Gaussian of the scale that is accounted for, from the system's randomness."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from tfpriv.noise import discrete_gaussian
from tfpriv.noise.alias_table import build_table
from tfpriv.noise.discrete_gaussian import LEVELS, UNIT, Sampler, numbers, table_of


def _random(generator, levels, count):
    words = generator.integers(0, 2**32, (levels, count), np.uint32)
    return words, generator.integers(0, 2**64, (levels, count, 2), np.uint64)


def _pmf(variance, integers):
    weights = np.exp(-(np.asarray(integers, np.float64) ** 2) / (2 * variance))
    return weights / weights.sum()


@pytest.mark.parametrize(("deviation", "base", "levels"), [(3, 1, 1), (16, 4, 2), (12, 3, 3)])
def test_numbers_of_small_tables_have_the_discrete_gaussian_s_probabilities(
    deviation, base, levels
):
    table = build_table(Fraction(deviation**2), 9)
    words, further = _random(np.random.default_rng(1), levels, 400_000)
    drawn = numbers(words, further, table, base)
    variance = deviation**2 * sum(base ** (2 * level) for level in range(levels))
    integers = np.arange(-1500, 1501)
    expected = _pmf(variance, integers) * len(drawn)
    observed = np.bincount(drawn + 1500, minlength=3001)
    common = expected > 20
    assert observed.sum() == len(drawn)
    assert (
        stats.chisquare(
            np.append(observed[common], observed[~common].sum()),
            np.append(expected[common], expected[~common].sum()),
        ).pvalue
        > 1e-4
    )


@pytest.mark.parametrize("variance", [1.0, 1 / 3])
def test_sum_of_levels_is_the_discrete_gaussian_up_to_nothing(variance):
    """Micciancio and Walter 2017: the convolution is exact, here to what float64 can show."""
    deviation, base = 40 * variance**0.5, 8
    integers = np.arange(-500, 501)
    single = _pmf(deviation**2, integers)
    spread = np.zeros(base * 1000 + 1)
    spread[::base] = single
    found = np.convolve(single, spread)
    middle = len(found) // 2
    near = np.arange(-1000, 1001)
    wide = np.arange(-5000, 5001)
    expected = _pmf(deviation**2 * (1 + base**2), wide)[5000 + near]
    np.testing.assert_allclose(found[middle + near], expected, rtol=1e-11)


def test_draws_are_gaussian_of_the_unit_and_no_other_scale():
    drawn = Sampler().draw(100_001)
    assert drawn.shape == (100_001,) and drawn.dtype == np.int64
    assert stats.kstest(drawn / UNIT, "norm").pvalue > 1e-4
    for scale in (2 / 3, 3 / 2):
        assert stats.kstest(drawn / UNIT, "norm", args=(0, scale)).pvalue < 1e-12


@pytest.mark.parametrize("variance", [Fraction(1, 3), Fraction(5, 9)])
def test_draws_of_a_smaller_variance_have_it(variance):
    drawn = Sampler().draw(100_000, variance)
    scale = UNIT * float(variance) ** 0.5
    assert stats.kstest(drawn / scale, "norm").pvalue > 1e-4
    assert stats.kstest(drawn / UNIT, "norm").pvalue < 1e-12


def test_every_low_bit_of_a_draw_is_fair():
    drawn = Sampler().draw(100_000)
    for bit in range(20):
        assert abs(np.mean(drawn >> bit & 1) - 0.5) < 0.01


def test_successive_numbers_and_draws_are_not_correlated():
    source = Sampler()
    first, second = (source.draw(50_000).astype(np.float64) for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[:25_000], first[25_000:])[0, 1]) < 0.03
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.03


class _Known:
    """A stream of known words in the place of AES."""

    def __init__(self, words):
        self._bytes, self._at = words.tobytes(), 0

    def update_into(self, zeros, to):
        size = len(zeros)
        memoryview(to)[:size] = self._bytes[self._at : self._at + size]
        self._at += size


def test_kernel_and_numpy_agree_on_what_words_stand_for_ties_among_them(monkeypatch):
    monkeypatch.setattr(discrete_gaussian, "_CHUNK", 1000)
    generator = np.random.default_rng(2)
    words, further = _random(generator, LEVELS, 3000)
    table = table_of(1)
    # Every tenth number ties, at a level of its own.
    for i in range(0, 3000, 10):
        index = words[i % LEVELS, i] & np.uint32(2**15 - 1)
        words[i % LEVELS, i] = index | (table.packed[index] >> 15 << 15)
    source = Sampler()
    # The stream gives all levels of a chunk before those of the next.
    source._stream = _Known(np.concatenate(np.split(words, 3, axis=1), axis=None))
    taken = []

    def token_bytes(size):
        count = size // (16 * LEVELS)
        taken.append(count)
        return further[:, :count].tobytes()

    monkeypatch.setattr(discrete_gaussian.secrets, "token_bytes", token_bytes)
    drawn = source.draw(3000)
    ties = np.flatnonzero((words >> 15 == table.packed[words & np.uint32(2**15 - 1)] >> 15).any(0))
    assert taken == [len(ties)] and len(ties) >= 300
    aligned = np.zeros_like(further)
    aligned[:, ties] = further[:, : len(ties)]
    np.testing.assert_array_equal(drawn, numbers(words, aligned, table))


def test_a_tie_is_decided_by_the_further_words_alone():
    table = table_of(1)
    index = int(np.flatnonzero((table.rest[:, 0] > 5) & (table.rest[:, 1] > 5))[0])
    word = np.uint32(index | (int(table.packed[index]) >> 15 << 15))
    high, low = (int(r) for r in table.rest[index])
    own, alias = index - 2**14, (int(table.packed[index]) & (2**15 - 1)) - 2**14
    assert own != alias
    for further, expected in [
        ((high - 1, 2**64 - 1), own),
        ((high, low - 1), own),
        ((high, low), alias),
        ((high + 1, 0), alias),
    ]:
        found = numbers(np.array([[word]]), np.array([[further]], np.uint64), table)
        assert found == [expected]


def test_draws_do_not_come_from_a_seed():
    draws = []
    for _ in range(2):
        np.random.seed(1)
        draws.append(Sampler().draw(10))
    assert not np.any(draws[0] == draws[1])
