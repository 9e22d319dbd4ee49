"""Noise for graphs that TFF runs elsewhere, which cannot keep a generator.

TensorFlow's own unseeded generators start from 32 random bits, and those that a seed reaches from
the seed: an observer could try them all and subtract the noise.
"""

import math
import secrets

import tensorflow as tf
import tensorflow_privacy as tfp


class SecretNoise:
    """Standard normal numbers from Philox, with a secret of the operating system's.

    The secret is a constant of the graphs, and no state, checkpoint or log holds it. What a worker
    adds to it is public and serves only to start each draw elsewhere: in Philox's 2^192 starts two
    draws do not meet. So a state that is made twice, or run on from twice, has new noise too. Only
    a second worker could repeat the first's public numbers, once in 2^32: build anew for each.
    """

    def __init__(self):
        """Draws the secret."""
        self._secret = [secrets.randbits(64) - 2**63 for _ in range(3)]

    def draw(self, shape) -> tf.Tensor:
        """Returns float32 noise of a shape: other numbers each time that the op runs."""
        # A worker has one stream of these numbers, whatever the graph's seed is. TensorFlow does
        # not run such an op once for several, nor ahead of time.
        drawn = tf.raw_ops.NonDeterministicInts(shape=[3], dtype=tf.int64)
        start = tf.bitcast(tf.constant(self._secret, tf.int64) + drawn, tf.uint64)
        size = tf.reduce_prod(shape)
        words = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[3, (size + 1) // 2],
            key=start[:1],
            counter=start[1:],
            alg=tf.random.Algorithm.PHILOX.value,
            dtype=tf.uint32,
        )
        return tf.reshape(box_muller(words)[:size], shape)


def box_muller(words: tf.Tensor) -> tf.Tensor:
    """Returns standard normal numbers, float32 [2 n], of random words, uint32 [3, n].

    The uniform number under the logarithm has 63 bits, so there is nothing beyond 9.3 standard
    deviations, where a Gaussian is once in 10^19 draws. That of TensorFlow's op has 23 and ends at
    5.6, beyond which a sum would give a member away.
    """
    large = tf.cast(tf.bitwise.right_shift(words[0], tf.constant(1, tf.uint32)), tf.float32)
    small = (tf.cast(words[1], tf.float32) + 0.5) * 2.0**-32
    # Below 2^8 float32 can tell the further bits apart.
    uniform = (large + tf.where(large < 2.0**8, small, 0.5)) * 2.0**-31
    radius = tf.sqrt(-2.0 * tf.math.log(uniform))
    angle = (2.0 * math.pi * 2.0**-32) * tf.cast(words[2], tf.float32)
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)


class GaussianSumQuery(tfp.GaussianSumQuery):
    """TFP's query with noise that cannot be found by trying seeds."""

    def __init__(self, l2_norm_clip: float, stddev: float):
        """Takes what TFP's takes: the clip and the noise's standard deviation."""
        super().__init__(l2_norm_clip, stddev)
        self._noise = SecretNoise()

    def get_noised_result(self, sample_state, global_state):
        """Returns the noised sum, TFP's next state and TFP's event of the accounting."""
        # TFP adds its noise to a sum of no tensors.
        _, next_state, event = super().get_noised_result((), global_state)

        def noised(total):
            drawn = tf.ensure_shape(self._noise.draw(tf.shape(total)), total.shape)
            return total + global_state.stddev * drawn

        return tf.nest.map_structure(noised, sample_state), next_state, event
