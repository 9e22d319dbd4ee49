"""An exact sampler of the discrete Gaussian, with a standard deviation of 9 10^7 steps.

The discrete Gaussian N_Z(0, v) gives an integer x a probability proportional to exp(-x^2 / 2 v)
(Canonne, Kamath and Steinke 2020, arXiv 2004.00010). A draw is

    X = X_0 + B X_1 + B^2 X_2,     X_i independent from N_Z(0, s^2), B = 256, s = 1365,

as in Micciancio and Walter 2017 (section 4). What is proved:

1. X is distributed as N_Z(0, s^2 (1 + B^2 + B^4)), up to a factor of 1 +- 10^-80 at each
   integer. To add B^i X_i to the sum before it is to sum a Gaussian of a standard deviation of at
   least 3 over all integers, from whatever start: by Poisson summation that is a constant, up to
   the factor 1 +- 2 exp(-2 pi^2 3^2) (s / B is 5.3, and 3.07 where `variance` is 1/3).
2. The X_i come from tables of integers (`alias_table`) and from the operating system's randomness
   through AES-256. A table ends at 12 s, and thresholds have 145 bits, so that a
   number has a total variation distance below 2^-105 from its N_Z.
3. N_Z(0, v) around an integer is a post-processing of N(0, v - 16) around it: for Y from
   N(0, v - 16), N_Z(Y, 16) around Y is distributed as N_Z(0, v), again up to a factor of
   1 +- 10^-130 by Poisson summation, and to shift Y by an integer shifts it as well. So whatever
   is proved of the Gaussian mechanism on integers, sampled, adaptive or correlated over steps,
   holds for this noise, with a standard deviation that is smaller by one part in 10^14.
"""

import math
import secrets
import threading
from fractions import Fraction

import numpy as np
from cryptography.hazmat.primitives import ciphers
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from tfpriv.noise import native
from tfpriv.noise.alias_table import WORD_BITS, AliasTable, build_table

LEVELS, BASE, INDEX_BITS = 3, 256, 15
_STEP_DEVIATION = 1365

# The standard deviation of a draw of variance 1, in steps.
UNIT = _STEP_DEVIATION * math.sqrt(sum(BASE ** (2 * level) for level in range(LEVELS)))
# The part of it that the proof counts on: more than the 16 steps^2 are left away.
PROVED_UNIT = UNIT - 1

_KEY_BYTES, _BLOCK_BYTES = 32, 16
# So many numbers at a time, of 12 bytes of random bits each: more take memory, fewer time.
_CHUNK = 2**18


def table_of(variance: Fraction | int = 1) -> AliasTable:
    """Returns the table of X_i for draws of a variance of `variance` UNIT^2, in [1/3, 1]."""
    return build_table(Fraction(variance) * _STEP_DEVIATION**2, INDEX_BITS)


def numbers(
    words: np.ndarray, further: np.ndarray, table: AliasTable, base: int = BASE
) -> np.ndarray:
    """Returns what random bits stand for, int64 [n].

    Args:
        words: uint32 [levels, n]. The lowest bits choose the entry of the table, and the bits above
            are compared with its threshold.
        further: uint64 [levels, n, 2], which are compared with the rest of it after a tie.
        table: That of each level.
        base: B.
    """
    index = words & np.uint32(2**table.bits - 1)
    entry = table.packed[index]
    shift = np.uint32(table.bits)
    fraction, threshold = words >> shift, entry >> shift
    (high, low), (high_rest, low_rest) = (
        np.moveaxis(further, -1, 0),
        table.rest[index].transpose(2, 0, 1),
    )
    is_less = (high < high_rest) | ((high == high_rest) & (low < low_rest))
    is_own = (fraction < threshold) | ((fraction == threshold) & is_less)
    alias = entry & np.uint32(2**table.bits - 1)
    values = np.where(is_own, index, alias).astype(np.int64) - 2 ** (table.bits - 1)
    return base ** np.arange(len(words)) @ values


class Sampler:
    """Draws independent numbers, from AES-256 in counter mode under a key of the system's.

    TensorFlow's own generators start from 32 random bits where they are not seeded, and from the
    seed where they are: an observer could try them all and subtract the noise.
    """

    def __init__(self) -> None:
        """Draws the key."""
        key, first = secrets.token_bytes(_KEY_BYTES), secrets.token_bytes(_BLOCK_BYTES)
        self._stream = ciphers.Cipher(algorithms.AES256(key), modes.CTR(first)).encryptor()
        self._lock = threading.Lock()
        self._buffer = np.empty(4 * LEVELS * _CHUNK + _BLOCK_BYTES, np.uint8)
        self._zeros = bytes(4 * LEVELS * _CHUNK)
        self._tied = np.empty(_CHUNK, np.int64)

    def draw(self, size: int, variance: Fraction | int = 1) -> np.ndarray:
        """Returns numbers of N_Z(0, variance UNIT^2), int64 [size].

        Args:
            size: How many, at least 1.
            variance: In [1/3, 1].
        """
        combine, table = native.load().combine, table_of(variance)
        drawn, ties = np.empty(size, np.int64), []
        with self._lock:
            for start in range(0, size, _CHUNK):
                part = drawn[start : start + _CHUNK]
                words = self._words(LEVELS * len(part))
                count = combine(
                    words.ctypes.data,
                    len(part),
                    table.packed.ctypes.data,
                    part.ctypes.data,
                    self._tied.ctypes.data,
                )
                tied = self._tied[:count]
                ties.append((start + tied, words.reshape(LEVELS, -1)[:, tied]))
        where, words = (np.concatenate(parts, axis=-1) for parts in zip(*ties, strict=True))
        if len(where):
            further = np.frombuffer(secrets.token_bytes(16 * words.size), np.uint64)
            drawn[where] = numbers(words, further.reshape(*words.shape, 2), table)
        return drawn

    def _words(self, count):
        """Returns the next of the stream, uint32 [count], valid until the next call."""
        size = count * WORD_BITS // 8
        zeros = memoryview(self._zeros)[:size]
        self._stream.update_into(zeros, self._buffer.data)
        return self._buffer[:size].view(np.uint32)
