"""Fixed-point arithmetic on shares beyond what tf-encrypted's operators do."""

import math

import tensorflow as tf

from tfpriv.secure.engine import tfe
from tfpriv.secure.parties import CLIENT

_FACTOR_BITS = 14


def largest_value(prot) -> float:
    """Returns the bound that inputs, weights and results must stay below in magnitude.

    Products of two numbers below it, and sums of a few such products, stay within the ring.
    """
    return 2.0 ** (prot.fixedpoint_config.precision_integral - 1)


def share(prot, values: tf.Tensor, owner: str = CLIENT):
    """Returns shares of `values`, rounded to the grid; only `owner` sees the values.

    Args:
        prot: The protocol.
        values: Floats of a known shape.
        owner: The party that has the values and draws the shares.
    """
    return prot.define_private_input(owner, lambda: _on_grid(prot, values))


def publish(prot, values: tf.Tensor):
    """Returns `values`, rounded to the grid, as a tensor that all servers know."""
    with tf.device(tfe.get_config().get_player(CLIENT).device_name):
        rounded = _on_grid(prot, values)
    return prot.define_constant(rounded)


def reveal(prot, x, player: str = CLIENT) -> tf.Tensor:
    """Returns what `x` shares, put together at one player only."""
    player = tfe.get_config().get_player(player)
    with tf.device(player.device_name):
        if isinstance(prot, tfe.protocol.ABY3):
            elements = prot._reconstruct(x.unwrapped, player, x.share_type)
        else:
            elements = prot._reconstruct(*x.unwrapped)
        return prot._decode(elements, x.is_scaled)


def raw(prot, x):
    """Returns `x` as integers: what is multiplied by it keeps the scale of the other factor."""
    return type(x)(prot, x.unwrapped, False, x.share_type)


def scaled(prot, x):
    """Returns the integers `x` as fixed-point numbers, without changing them."""
    return type(x)(prot, x.unwrapped, True, x.share_type)


def product(prot, x, y):
    """Returns the elementwise product at twice the scale: exact, to be truncated later."""
    return scaled(prot, prot.mul(raw(prot, x), raw(prot, y)))


def matmul(prot, x, y):
    """Returns the matrix product at twice the scale: exact, to be truncated later."""
    return scaled(prot, prot.matmul(raw(prot, x), raw(prot, y)))


def at_twice_the_scale(prot, x):
    """Returns the same numbers as a `product` has them."""
    return x * prot.define_constant(prot.fixedpoint_config.scaling_factor, apply_scaling=False)


def multiply(prot, x, factor: float):
    """Returns `x` times a public number, which may be far smaller than the grid's step.

    The factor is held to 14 bits, whatever its size, and the result is truncated once. Truncation
    rounds up or down at random with the right mean, so small steps are not lost on average.

    Args:
        prot: The protocol.
        x: A private tensor.
        factor: A number below 2**14 in magnitude.
    """
    if factor == 0:
        return x - x
    shift = _FACTOR_BITS - math.ceil(math.log2(abs(factor)))
    whole = prot.define_constant(round(factor * 2**shift), apply_scaling=False)
    return prot.truncate(x * whole, amount=shift)


def _on_grid(prot, values):
    # tf-encrypted's encoding cuts off what the grid cannot hold, towards zero.
    scale = float(prot.fixedpoint_config.scaling_factor)
    return tf.round(tf.cast(values, tf.float64) * scale) / scale
