"""The noise of federated runs, from `tfpriv.noise`, for graphs that TFF runs elsewhere.

TFF's worker has none of our native code. The noise on the clients' updates is drawn here and handed
to the round; that within a silo, which takes many steps a round, is drawn by the graph.
"""

import collections
import math
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpriv.noise import Noise
from tfpriv.noise.discrete_gaussian import BASE, LEVELS, table_of
from tfpriv.privacy import AdaptiveGaussian, PrivacyPlan


class NoiseFeed:
    """The noise on the clients' updates, handed over in the state of the aggregation.

    A round takes what it finds there and leaves an empty vector, so that no state that is kept
    holds noise. A round to which no noise was handed fails.
    """

    def __init__(self, plan: PrivacyPlan | None, size: int) -> None:
        """Starts the noise of a run's clients.

        Args:
            plan: The plan; where it has no noise over clients, nothing is handed.
            size: How many numbers an update has.

        Raises:
            UserError: if the grid would be too coarse.
        """
        self._sources: list[Noise] = []
        if plan is not None and plan.unit == "client" and plan.is_private:
            self._sources = [plan.build_noise(size)]
            if isinstance(plan.mechanism, AdaptiveGaussian):
                self._sources.append(plan.mechanism.build_count_noise())

    def into(self, state: Any) -> Any:
        """Returns a process's state with the noise of its next round, to be run once."""
        if not self._sources:
            return state
        drawn = np.concatenate([source.next() for source in self._sources])
        return state._replace(aggregator=collections.OrderedDict(state.aggregator, noise=drawn))

    def restart(self) -> None:
        """Starts a correlated mechanism anew, as the plan does between its segments."""
        for source in self._sources:
            source.restart()


class SecretNoise:
    """Discrete Gaussian noise from Philox, with a secret of the operating system's.

    TensorFlow's own unseeded generators start from 32 random bits, and those that a seed reaches
    from the seed: an observer could try them all and subtract the noise. The secret here is a
    constant of the graphs, and no state, checkpoint or log holds it. What a worker adds to it is
    public and serves only to start each draw elsewhere: in Philox's 2^192 starts two draws do not
    meet. So a state that is made twice, or run on from twice, has new noise too. Only a second
    worker could repeat the first's public numbers, once in 2^32: build anew for each.
    """

    def __init__(self) -> None:
        """Draws the secret."""
        self._secret = [secrets.randbits(64) - 2**63 for _ in range(3)]

    def added_to(
        self, totals: Sequence[tf.Tensor], width: float | tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns width * (round(total / width) + noise) for each tensor, float32.

        Args:
            totals: Sums of known shapes, float32.
            width: The width of the grid, above 0.
        """
        sizes = [math.prod(total.shape) for total in totals]
        parts = tf.split(self.draw(sum(sizes)), sizes)
        return tuple(
            from_grid(to_grid(total, width) + tf.reshape(part, total.shape), width)
            for total, part in zip(totals, parts, strict=True)
        )

    def draw(self, size: int) -> tf.Tensor:
        """Returns noise in steps of the grid, int64 [size]: another each time that the op runs."""
        return to_numbers(
            self._words([LEVELS, size], tf.uint32), lambda count: self._words([count, 2], tf.uint64)
        )

    def _words(self, shape, dtype):
        # A worker has one stream of these numbers, whatever the graph's seed is. TensorFlow does
        # not run such an op once for several, nor ahead of time.
        drawn = tf.raw_ops.NonDeterministicInts(shape=[3], dtype=tf.int64)
        start = tf.bitcast(tf.constant(self._secret, tf.int64) + drawn, tf.uint64)
        return tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=shape,
            key=start[:1],
            counter=start[1:],
            alg=tf.random.Algorithm.PHILOX.value,
            dtype=dtype,
        )


def to_numbers(words: tf.Tensor, further: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Returns what random bits stand for, int64 [n], as `discrete_gaussian.numbers` does.

    Args:
        words: uint32 [levels, n].
        further: A function of how many of the words tie with their thresholds; it returns words for
            these, in their order, uint64 [count, 2].
    """
    table = table_of()
    bits = tf.constant(table.bits, tf.uint32)
    mask = tf.constant(2**table.bits - 1, tf.uint32)
    index = tf.cast(tf.bitwise.bitwise_and(words, mask), tf.int32)
    entry = tf.gather(tf.constant(table.packed), index)
    fraction, threshold = (
        tf.cast(tf.bitwise.right_shift(w, bits), tf.int32) for w in (words, entry)
    )
    # Not by ==, which in TFF's graphs compares Python's objects.
    ties = tf.where(tf.equal(fraction, threshold))
    more = further(tf.shape(ties)[0])
    rest = tf.gather(tf.constant(table.rest), tf.gather_nd(index, ties))
    (high, low), (high_rest, low_rest) = tf.unstack(more, axis=1), tf.unstack(rest, axis=1)
    is_less = (high < high_rest) | (tf.equal(high, high_rest) & (low < low_rest))
    is_own = tf.tensor_scatter_nd_update(fraction < threshold, ties, is_less)
    alias = tf.cast(tf.bitwise.bitwise_and(entry, mask), tf.int32)
    values = tf.cast(tf.where(is_own, index, alias) - 2 ** (table.bits - 1), tf.int64)
    scales = tf.constant([[BASE**level] for level in range(LEVELS)], tf.int64)
    return tf.reduce_sum(scales * values, axis=0)


def to_grid(tensor: tf.Tensor, width: float | tf.Tensor) -> tf.Tensor:
    """Returns round(tensor / width), computed in float64, int64."""
    steps = tf.round(tf.cast(tensor, tf.float64) / tf.cast(width, tf.float64))
    return tf.cast(steps, tf.int64)


def from_grid(steps: tf.Tensor, width: float | tf.Tensor) -> tf.Tensor:
    """Returns width * steps, computed in float64, float32."""
    return tf.cast(tf.cast(width, tf.float64) * tf.cast(steps, tf.float64), tf.float32)
