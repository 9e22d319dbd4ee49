"""The alias table gives each integer the discrete Gaussian's probability, to more than 100 bits."""

import decimal
from fractions import Fraction

import pytest

from tfpriv.noise.alias_table import WORD_BITS, build_table

REST_BITS = 128


def probabilities(table):
    """Returns what the table gives to each integer, as exact fractions."""
    size = 2**table.bits
    shares = [Fraction(0)] * size
    for i, (entry, (high, low)) in enumerate(zip(table.packed, table.rest, strict=True)):
        first, alias = divmod(int(entry), size)
        own = (first << REST_BITS) + (int(high) << 64) + int(low)
        threshold = Fraction(own, 2 ** (WORD_BITS - table.bits + REST_BITS))
        assert 0 <= threshold < 1
        shares[i] += threshold / size
        shares[alias] += (1 - threshold) / size
    return dict(enumerate(shares, start=-size // 2))


def exact(variance, integers):
    """Returns the discrete Gaussian by 60-digit decimals, each weight from its own exponential."""
    with decimal.localcontext() as context:
        context.prec = 60
        scale = decimal.Decimal(2 * variance.numerator) / variance.denominator
        weights = [(-decimal.Decimal(x * x) / scale).exp() for x in integers]
        total = sum(weights)
        return [Fraction(w / total) for w in weights]


@pytest.mark.parametrize(
    ("variance", "bits"),
    [(Fraction(16), 7), (Fraction(7, 3), 6), (Fraction(40**2, 3), 10), (Fraction(1365**2), 15)],
)
def test_table_is_within_2_to_the_minus_100_of_the_discrete_gaussian(variance, bits):
    found = probabilities(build_table(variance, bits))
    assert sum(found.values()) == 1
    expected = exact(variance, found)
    distance = sum(abs(f - e) for f, e in zip(found.values(), expected, strict=True)) / 2
    assert distance < Fraction(1, 2**100)


def test_what_the_sampler_s_table_leaves_out_is_less_than_2_to_the_minus_107():
    with decimal.localcontext() as context:
        context.prec = 60
        scale = decimal.Decimal(2 * 1365**2)
        beyond = sum((-decimal.Decimal(x * x) / scale).exp() for x in range(2**14, 2**15))
        inside = sum((-decimal.Decimal(x * x) / scale).exp() for x in range(2**14))
        assert beyond / inside < decimal.Decimal(2) ** -107
