"""Walker's alias table of a discrete Gaussian, with probabilities of more than 100 exact bits."""

import dataclasses
import decimal
import functools
from fractions import Fraction

import numpy as np

# What a word of 32 bits leaves for the threshold is followed by two words of 64 bits.
WORD_BITS = 32
_REST_BITS = 128
# Fixed point, of which the smallest weight of a table (exp(-72), 2^-104) keeps 400 bits.
_PRECISION_BITS, _DIGITS = 512, 180


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AliasTable:
    """A distribution over the 2^bits integers from -2^(bits - 1) on.

    A draw takes entry i with equal probability, and then the i-th integer with a probability that
    is the entry's threshold, or else the integer of its alias.

    Attributes:
        bits: The number of bits of an index.
        packed: uint32 [2^bits], each the alias below the threshold's first 32 - bits bits.
        rest: uint64 [2^bits, 2], the threshold's next 128 bits.
    """

    bits: int
    packed: np.ndarray
    rest: np.ndarray


@functools.cache
def build_table(variance: Fraction, bits: int) -> AliasTable:
    """Returns the table of the discrete Gaussian N_Z(0, variance), with P(x) ~ exp(-x^2 / 2 v).

    Its total variation distance from N_Z is the mass beyond 2^(bits - 1), plus less than 2^-128.

    Args:
        variance: The distribution's parameter, in squares of a step, above 0.
        bits: The number of bits of an index, below 32.
    """
    half = 2 ** (bits - 1)
    weights = _weights(variance, half)
    thresholds, alias = _walker([weights[abs(x)] for x in range(-half, half)])
    low = 2**64 - 1
    packed = [t >> _REST_BITS << bits | a for t, a in zip(thresholds, alias, strict=True)]
    return AliasTable(
        bits=bits,
        packed=np.array(packed, np.uint32),
        rest=np.array([[t >> 64 & low, t & low] for t in thresholds], np.uint64),
    )


def _weights(variance, half):
    """Returns exp(-x^2 / 2 v) in fixed point for x from 0 to half, each from the one before."""
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        exponent = decimal.Decimal(-variance.denominator) / (2 * variance.numerator)
        ratio = int(exponent.exp() * 2**_PRECISION_BITS)
    square = ratio * ratio >> _PRECISION_BITS
    weights = [1 << _PRECISION_BITS]
    for _ in range(half):
        weights.append(weights[-1] * ratio >> _PRECISION_BITS)
        ratio = ratio * square >> _PRECISION_BITS
    return weights


def _walker(weights):
    """Returns thresholds, as fractions of 2^(32 - bits + 128), and aliases (Vose 1991)."""
    count, total = len(weights), sum(weights)
    one_bits = WORD_BITS - (count.bit_length() - 1) + _REST_BITS
    mass = [weight * count for weight in weights]
    # An entry that keeps all of its mass is its own alias, whatever its threshold.
    thresholds, alias = [0] * count, list(range(count))
    small = [i for i, m in enumerate(mass) if m < total]
    large = [i for i, m in enumerate(mass) if m >= total]
    while small:
        i, other = small.pop(), large[-1]
        thresholds[i], alias[i] = (mass[i] << one_bits) // total, other
        mass[other] -= total - mass[i]
        if mass[other] < total:
            small.append(large.pop())
    return thresholds, alias
