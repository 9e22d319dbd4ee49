"""Random draws that decide who takes part: from a public seed, or from a secret key.

A draw is a pure function of its origin and of a stream, some whole numbers that say what is drawn.
The origin is an int, the seed of a run without privacy, whose draws are NumPy's; or 32 bytes, a key
of the operating system, whose draws are AES-256 in counter mode under a key that BLAKE2b derives
for each stream. Whoever does not know the key can tell nothing of a draw, even from all the others.
"""

import hashlib
import math
import secrets
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives import ciphers
from cryptography.hazmat.primitives.ciphers import algorithms, modes

KEY_BYTES = 32

Origin = int | bytes


def new_key() -> bytes:
    """Returns a key of the operating system."""
    return secrets.token_bytes(KEY_BYTES)


def bernoulli(
    origin: Origin, stream: Sequence[int], probability: float, shape: int | tuple[int, ...]
) -> np.ndarray:
    """Returns independent draws that are True with a probability, bool of the shape.

    Args:
        origin: A seed of at least 0, or a key.
        stream: What is drawn; whole numbers of at least 0.
        probability: In [0, 1]; under a key it is met to 2^-64.
        shape: The shape.
    """
    if not isinstance(origin, bytes):
        return np.random.default_rng((origin, *stream)).random(shape) < probability
    if probability >= 1:
        return np.ones(shape, bool)
    words = _words(origin, stream, math.prod(shape) if isinstance(shape, tuple) else shape)
    return (words < np.uint64(int(math.ldexp(probability, 64)))).reshape(shape)


def subset(origin: Origin, stream: Sequence[int], size: int, count: int) -> np.ndarray:
    """Returns `count` of the numbers below `size`, uniformly, ascending, int64 [count]."""
    if not isinstance(origin, bytes):
        generator = np.random.default_rng((origin, *stream))
        return np.sort(generator.choice(size, count, replace=False))
    return np.sort(permutation(origin, stream, size)[:count])


def permutation(origin: Origin, stream: Sequence[int], size: int) -> np.ndarray:
    """Returns the numbers below `size` in a uniformly random order, int64 [size]."""
    if not isinstance(origin, bytes):
        return np.random.default_rng((origin, *stream)).permutation(size)
    return np.argsort(_words(origin, stream, size))


def _words(key, stream, count):
    """Returns uint64 [count] of the key's stream."""
    named = b"".join(number.to_bytes(8, "little") for number in map(int, stream))
    derived = hashlib.blake2b(named, key=key, digest_size=KEY_BYTES).digest()
    cipher = ciphers.Cipher(algorithms.AES256(derived), modes.CTR(bytes(16)))
    return np.frombuffer(cipher.encryptor().update(bytes(8 * count)), np.uint64)
