"""Gaussian noise that no party knows.

Each server draws noise of its own and shares it. The sum of the three is added, so a server that
takes its own away still faces the other two: each draws half of the variance that is accounted for,
and what is added is half as much again as any one party can count on.

The draws are rounded to the grid, on which the sum that they hide lies exactly. Let X and Y be two
servers' draws of variance s^2 / 2 each, in steps of the grid. For whole t,

    P(round X + round Y = t) = sum over k of the integrals of p(k + a) p(t - k + b)

over a and b in [-1/2, 1/2]. The sum over k of a Gaussian at whole steps is its integral, up to a
factor of 1 +- 2.1 exp(-pi^2 s^2 / 2) (Poisson summation); so it is the density of N(0, s^2),
blurred by the triangle (a + b), at t. But that is the distribution of N(0, s^2) rounded to one of
the two neighboring steps at random: post-processing of the Gaussian mechanism, whose epsilon it
has. s is beyond 2^20 steps here, which makes the factor 1 for every purpose.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from tfpriv.secure.parties.addresses import SERVERS
from tfpriv.secure.protocols import fixed_point
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.protocol import Protocol

_SMALLEST_STEPS = 2.0**20


def noise(
    prot: Protocol, shape: Sequence[int] | tf.TensorShape, standard_deviation: float
) -> PrivateTensor:
    """Returns shares of Gaussian noise at twice the scale (see `fixed_point.product`).

    Args:
        prot: The protocol.
        shape: The shape of the noise.
        standard_deviation: What must remain unknown to each party; the whole has sqrt(1.5) of it.

    Raises:
        ValueError: if the noise is too small for the grid to be fine beside it.
    """
    steps = standard_deviation / math.sqrt(2) * prot.fixedpoint_config.scaling_factor**2
    if steps < _SMALLEST_STEPS:
        raise ValueError(f"noise of {standard_deviation} is too small for the grid")
    total = None
    for server in SERVERS:
        part = prot.define_private_input(
            server,
            lambda: tf.round(standard_normal(prot, shape) * steps),
            apply_scaling=False,
        )
        total = part if total is None else total + part
    return fixed_point.scaled(prot, total)


def standard_normal(prot: Protocol, shape: Sequence[int] | tf.TensorShape) -> tf.Tensor:
    """Returns float64 numbers by Box and Muller, from ChaCha20, on the device of the caller.

    The uniform number under the logarithm has 63 bits; beyond 9.3 standard deviations, where a
    Gaussian is once in 10^19 draws, there is nothing.
    """
    size = math.prod(shape)
    pairs = -(-size // 2)
    bits = prot.default_factory.sample_uniform([2, pairs]).value
    positive = tf.bitwise.bitwise_and(bits[0], tf.int64.max)
    uniform = (tf.cast(positive, tf.float64) + 0.5) * 2.0**-63
    radius = tf.sqrt(-2 * tf.math.log(uniform))
    angle = tf.cast(bits[1], tf.float64) * (2.0**-63 * math.pi)
    both = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)
    return tf.reshape(both[:size], shape)
