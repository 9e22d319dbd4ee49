"""Learning-rate schedules over rounds or steps, as factors of the first learning rate."""

import math
from collections.abc import Callable

import tensorflow as tf

from tfpriv.errors import UserError

NAMES = ("constant", "linear", "cosine", "exponential")


def build_schedule(name: str, rounds: int, flag: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the factor of the learning rate as a function of the round.

    Args:
        name: `constant` (1 throughout), `linear` (from 1 to 1/rounds in equal steps),
            `linear:END:FRACTION` (from 1 to END over the first FRACTION of the rounds and END after
            them, both in (0, 1]; `linear:END` over all rounds), `cosine` (half a cosine from 1
            towards 0; Loshchilov and Hutter 2017, equation 5), or `exponential:FACTOR` (FACTOR in
            (0, 1], multiplied in each round).
        rounds: The number of rounds of the run, at least 1.
        flag: The flag that `name` came from, for messages.

    Returns:
        A function from a round, an int scalar counted from 0, to a float32 scalar in (0, 1].

    Raises:
        UserError: if there is no such schedule.
    """
    kind, _, argument = name.partition(":")
    if kind == "exponential":
        factor = _share(argument)
        if factor is None:
            raise UserError(
                f"{flag}={name}: the factor {argument!r} is not a number above 0 and at most 1; "
                "write exponential:0.99, for example."
            )
        return lambda r: tf.pow(tf.constant(factor, tf.float32), tf.cast(r, tf.float32))
    if kind == "linear" and ":" in name:
        return _linear_to(name, argument, rounds, flag)
    if kind not in NAMES or argument:
        raise UserError(
            f"{flag}={name} is not known; choose constant, linear, linear:END:FRACTION, cosine or "
            "exponential:FACTOR."
        )
    if kind == "constant":
        return lambda r: tf.ones([], tf.float32)

    def progress(r):
        return tf.minimum(tf.cast(r, tf.float32) / rounds, 1.0 - 1.0 / rounds)

    if kind == "linear":
        return lambda r: 1.0 - progress(r)
    return lambda r: 0.5 * (1.0 + tf.cos(math.pi * progress(r)))


def _linear_to(name, argument, rounds, flag):
    end, separator, share = argument.partition(":")
    end, share = _share(end), _share(share) if separator else 1.0
    if end is None or share is None:
        raise UserError(
            f"{flag}={name}: END and FRACTION are to be numbers above 0 and at most 1; write "
            "linear:0.5:0.1, for example."
        )
    falling = tf.constant(share * rounds, tf.float32)
    return lambda r: 1.0 - (1.0 - end) * tf.minimum(tf.cast(r, tf.float32) / falling, 1.0)


def _share(text):
    """Returns a number above 0 and at most 1; None if `text` is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number <= 1 else None
