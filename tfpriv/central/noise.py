"""The noise of each mechanism, in units of its own standard deviation, as one flat vector a step.

It comes from AES-256 in counter mode under a key that the operating system drew: TensorFlow's own
unseeded generators start from 32 random bits, and those that a seed reaches from the seed.
"""

import math
import secrets
import threading
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from cryptography.hazmat.primitives import ciphers
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from tfpriv.privacy import Banded, PrivacyPlan, Tree

_KEY_BYTES, _BLOCK_BYTES = 32, 16
# The exponent of a float32 in [1, 2), above its 23 bits.
_ONE, _SHIFT = np.uint32(0x3F800000), np.uint32(9)
# Below it a number of 31 bits gets 32 bits more, as float32 can tell them apart there.
_SMALL = np.float32(2**8)


class IndependentNoise:
    """Independent standard normal numbers in each step."""

    def __init__(self, size: int):
        """Takes how many numbers a step needs."""
        self._size = size
        self._half = (size + 1) // 2
        self._zeros = bytes(8 * self._half)
        key, first = secrets.token_bytes(_KEY_BYTES), secrets.token_bytes(_BLOCK_BYTES)
        self._stream = ciphers.Cipher(algorithms.AES256(key), modes.CTR(first)).encryptor()
        self._lock = threading.Lock()

    def next(self, scale: tf.Tensor | float = 1.0) -> tf.Tensor:
        """Returns the noise of the next step, float32 [size]; also inside a `tf.function`.

        By Box and Muller's transform over whole vectors, which takes a third of the time of
        TensorFlow's op. The uniform number under the logarithm has 63 bits, so there is nothing
        beyond 9.3 standard deviations, where a Gaussian is once in 10^19 draws; with TensorFlow's
        23 bits it would end at 5.6, and a larger number would give a member away.

        Args:
            scale: The standard deviation of each number.
        """
        uniform = tf.numpy_function(self._uniform, [], tf.float32)
        uniform.set_shape([2, self._half])
        radius = scale * tf.sqrt(-2.0 * tf.math.log(uniform[0]))
        angle = (2.0 * math.pi) * uniform[1]
        both = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)
        return both[: self._size]

    def _uniform(self):
        """Returns the next of the stream, float32 [2, half]: in (0, 1], and in [1, 2)."""
        words = np.empty(2 * self._half + _BLOCK_BYTES // 4, np.uint32)
        with self._lock:
            self._stream.update_into(self._zeros, words.view(np.uint8))
        first, second = words[: self._half], words[self._half : 2 * self._half]
        uniform = np.empty([2, self._half], np.float32)
        uniform[0] = (first >> 1).view(np.int32)
        small = np.flatnonzero(uniform[0] < _SMALL)
        more = np.frombuffer(secrets.token_bytes(4 * len(small)), np.uint32)
        uniform[0] += 0.5
        uniform[0, small] += (more + 0.5) * 2.0**-32 - 0.5
        uniform[0] *= np.float32(2.0**-31)
        uniform[1].view(np.uint32)[:] = (second >> _SHIFT) | _ONE
        return uniform

    def restart(self) -> None:
        """Does nothing: every step is a fresh start."""


class TreeNoise:
    """The noise of binary-tree aggregation, as differences between successive prefix sums.

    Kairouz et al. 2021 (arXiv 2103.00039), section 3, with the estimates of Honaker 2015 that
    combine a node's noise with that of the nodes below it, each by the inverse of its variance.
    """

    def __init__(self, size: int, steps: int):
        """Starts a tree.

        Args:
            size: How many numbers a step needs.
            steps: The largest number of steps of a tree.
        """
        levels = steps.bit_length()
        self._fresh = IndependentNoise(size)
        self._step = tf.Variable(0, dtype=tf.int32, trainable=False)
        # By level, the noise of the last complete node.
        self._nodes = tf.Variable(tf.zeros([levels, size]), trainable=False)

    def next(self, scale: tf.Tensor | float = 1.0) -> tf.Tensor:
        """Returns the noise of the next step times `scale`; see `IndependentNoise`."""
        step = self._step.assign_add(1)
        # The step completes a node at each of the levels up to that of its lowest set bit.
        last = tf.bitwise.bitwise_and(step, -step)

        def climb(level, width, node, replaced):
            below = self._nodes[level]
            share = 1.0 / (2.0 - 0.5 / tf.cast(width, tf.float32))
            node = share * self._fresh.next() + (1.0 - share) * (node + below)
            return level + 1, 2 * width, node, replaced + below

        leaf = self._fresh.next()
        level, _, node, replaced = tf.while_loop(
            lambda level, width, node, replaced: width < last,
            climb,
            (0, 1, leaf, tf.zeros_like(leaf)),
        )
        self._nodes.scatter_nd_update([[level]], node[tf.newaxis])
        return scale * (node - replaced)

    def restart(self) -> None:
        """Starts a new tree; no number of the old one comes again."""
        self._step.assign(0)


class BandedNoise:
    """C^-1 z for independent z and a lower-triangular Toeplitz matrix C, step by step.

    Either C is banded, and a step's noise is solved for from those before, or its inverse is.
    """

    def __init__(self, size: int, coefficients: Sequence[float], *, is_inverse: bool):
        """Starts a mechanism.

        Args:
            size: How many numbers a step needs.
            coefficients: The first column of C, or of its inverse, up to its last band.
            is_inverse: Whether they are those of the inverse.
        """
        first, *rest = (float(c) for c in coefficients)
        self._fresh = IndependentNoise(size)
        self._first = first
        self._is_inverse = is_inverse
        # By the age of what the buffer holds, the newest first.
        self._rest = tf.constant(rest, tf.float32)
        self._step = tf.Variable(0, dtype=tf.int32, trainable=False)
        self._before = tf.Variable(tf.zeros([len(rest), size]), trainable=False)

    def next(self, scale: tf.Tensor | float = 1.0) -> tf.Tensor:
        """Returns the noise of the next step times `scale`; see `IndependentNoise`."""
        fresh = self._fresh.next()
        count = self._rest.shape[0]
        if not count:
            return scale * (self._first * fresh if self._is_inverse else fresh / self._first)
        step = self._step.assign_add(1) - 1
        # Row r holds what came (step - 1 - r) mod count steps before the last one.
        ages = tf.math.floormod(step - 1 - tf.range(count), count)
        past = tf.linalg.matvec(self._before, tf.gather(self._rest, ages), transpose_a=True)
        if self._is_inverse:
            noise, kept = self._first * fresh + past, fresh
        else:
            noise = kept = (fresh - past) / self._first
        self._before.scatter_nd_update([[tf.math.floormod(step, count)]], kept[tf.newaxis])
        return scale * noise

    def restart(self) -> None:
        """Starts anew; no number that was drawn before comes again."""
        self._step.assign(0)
        self._before.assign(tf.zeros_like(self._before))


def build_noise(plan: PrivacyPlan, size: int) -> IndependentNoise | TreeNoise | BandedNoise:
    """Returns the noise of a plan's mechanism for steps of `size` numbers."""
    mechanism = plan.mechanism
    if isinstance(mechanism, Tree):
        return TreeNoise(size, plan.steps_per_pass)
    if isinstance(mechanism, Banded):
        return BandedNoise(
            size,
            mechanism.coefficients(),
            is_inverse=mechanism.factorization == "inverse_sqrt",
        )
    return IndependentNoise(size)
