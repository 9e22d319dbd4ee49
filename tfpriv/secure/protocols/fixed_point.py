"""Fixed-point arithmetic on shares beyond what tf-encrypted's operators do.

Training computes on one grid, tf-encrypted's own. Inference gives each tensor a grid that suits it:
a `Fixed` is a tensor of whole numbers and the public power of two that they are to be divided by.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfpriv.secure.parties.addresses import CLIENT
from tfpriv.secure.protocols.engine import PrivateTensor, PublicTensor, tfe
from tfpriv.secure.protocols.protocol import Protocol

_FACTOR_BITS = 14
# Those of a public factor of a `Fixed`.
FACTOR_BITS = 20

_LARGEST_TRUNCATION = 62

# Whole numbers stay below 2 to this in magnitude: every truncation of such a number is right.
RING_BITS = 61


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Private numbers on a grid of their own.

    Attributes:
        shares: A private tensor of tf-encrypted's, of whole numbers (not scaled).
        bits: The numbers are the whole numbers times 2^-bits. Can be negative.
    """

    shares: PrivateTensor
    bits: int

    @property
    def shape(self) -> list[int]:
        """The shape, of known sizes."""
        return [int(size) for size in self.shares.shape]

    def with_shares(self, shares: PrivateTensor) -> "Fixed":
        """Returns other numbers on the same grid."""
        return Fixed(shares, self.bits)


def share_fixed(prot: Protocol, values: tf.Tensor, bits: int, owner: str = CLIENT) -> Fixed:
    """Returns shares of `values`, rounded to the grid; only `owner` sees the values.

    Args:
        prot: The protocol.
        values: Floats of a known shape, below 2^(61 - bits) in magnitude.
        bits: The grid.
        owner: The party that has the values and draws the shares.
    """

    def whole():
        return tf.round(tf.cast(values, tf.float64) * 2.0**bits)

    return Fixed(prot.define_private_input(owner, whole, apply_scaling=False), bits)


def reveal_fixed(prot: Protocol, x: Fixed, player: str = CLIENT) -> tf.Tensor:
    """Returns the numbers as float64, put together at one player only."""
    return tf.cast(reveal(prot, x.shares, player), tf.float64) * 2.0**-x.bits


def on_grid(prot: Protocol, x: Fixed, bits: int) -> Fixed:
    """Returns the same numbers on another grid; on a coarser one each rounds up or down at random.

    Args:
        prot: The protocol.
        x: Private; whole numbers below 2^61 in magnitude before and after.
        bits: The grid.
    """
    if bits > x.bits + RING_BITS:
        raise ValueError(f"numbers on a grid of {x.bits} bits have no room on one of {bits}")
    if bits > x.bits:
        return Fixed(whole_multiple(prot, x.shares, 2 ** (bits - x.bits)), bits)
    while x.bits > bits:
        amount = min(x.bits - bits, _LARGEST_TRUNCATION)
        x = Fixed(prot.truncate(x.shares, amount=amount), x.bits - amount)
    return x


def whole_multiple(
    prot: Protocol, shares: PrivateTensor, factor: float | np.ndarray
) -> PrivateTensor:
    """Returns whole numbers times a public whole number, or an array of them that broadcasts."""
    factor = np.broadcast_to(np.asarray(factor, np.float64), [int(n) for n in shares.shape])
    return shares * prot.define_constant(factor.copy(), apply_scaling=False)


def scale(
    prot: Protocol,
    x: Fixed,
    factor: float | np.ndarray,
    bits: int,
    factor_bits: int = FACTOR_BITS,
) -> Fixed:
    """Returns x times a public number, or an array of them, on the grid of `bits`.

    Args:
        prot: The protocol.
        x: Private; below 2^(61 - factor_bits) in magnitude on its grid.
        factor: Held to `factor_bits` bits, by the largest of them.
        bits: The grid of the result.
        factor_bits: How many.
    """
    scale_bits = factor_bits - math.ceil(math.log2(np.max(np.abs(factor))))
    product = whole_multiple(prot, x.shares, np.round(np.asarray(factor) * 2.0**scale_bits))
    return on_grid(prot, Fixed(product, x.bits + scale_bits), bits)


def any_beyond(prot: Protocol, x: Fixed, bound: float) -> PrivateTensor:
    """Returns private 1 if any number's magnitude is above the bound, else 0: a scalar.

    Args:
        prot: The protocol.
        x: Private; on its grid the bound is at most 2^61.
        bound: A public number.
    """
    count = math.prod(x.shape)
    flat = prot.reshape(x.shares, [count, 1])
    limit = constant(prot, np.full((count, 1), bound), x)
    beyond = prot.is_negative(prot.concat([limit - flat, flat + limit], axis=0))
    none = prot.define_constant(np.ones([1, 1]), apply_scaling=False)
    # The number of them, less one, is negative if there is none.
    total = prot.reshape(beyond.reduce_sum(axis=0), [1, 1]) - none
    return prot.reshape(none - prot.is_negative(total), [])


def constant(prot: Protocol, values: ArrayLike, x: Fixed) -> PublicTensor:
    """Returns a public tensor on the grid of x, for sums and comparisons with its shares."""
    whole = np.array(np.round(np.asarray(values, np.float64) * 2.0**x.bits))
    return prot.define_constant(whole, apply_scaling=False)


def largest_value(prot: Protocol) -> float:
    """Returns the bound that inputs, weights and results must stay below in magnitude.

    Products of two numbers below it, and sums of a few such products, stay within the ring.
    """
    return 2.0 ** (prot.fixedpoint_config.precision_integral - 1)


def share(prot: Protocol, values: tf.Tensor, owner: str = CLIENT) -> PrivateTensor:
    """Returns shares of `values`, rounded to the grid; only `owner` sees the values.

    Args:
        prot: The protocol.
        values: Floats of a known shape.
        owner: The party that has the values and draws the shares.
    """
    return prot.define_private_input(owner, lambda: _on_grid(prot, values))


def publish(prot: Protocol, values: tf.Tensor) -> PublicTensor:
    """Returns `values`, rounded to the grid, as a tensor that all servers know."""
    with tf.device(tfe.get_config().get_player(CLIENT).device_name):
        rounded = _on_grid(prot, values)
    return prot.define_constant(rounded)


def reveal(prot: Protocol, x: PrivateTensor, player: str = CLIENT) -> tf.Tensor:
    """Returns what `x` shares, put together at one player only."""
    receiver = tfe.get_config().get_player(player)
    with tf.device(receiver.device_name):
        return prot._decode(prot.put_together(x, receiver), x.is_scaled)


def raw(prot: Protocol, x: PrivateTensor) -> PrivateTensor:
    """Returns `x` as integers: what is multiplied by it keeps the scale of the other factor."""
    return prot.with_scale(x, is_scaled=False)


def scaled(prot: Protocol, x: PrivateTensor) -> PrivateTensor:
    """Returns the integers `x` as fixed-point numbers, without changing them."""
    return prot.with_scale(x, is_scaled=True)


def on_own_grid(prot: Protocol, x: PrivateTensor) -> Fixed:
    """Returns a scaled tensor of training's as numbers on the protocol's one grid."""
    return Fixed(raw(prot, x), prot.fixedpoint_config.precision_fractional)


def from_own_grid(prot: Protocol, x: Fixed) -> PrivateTensor:
    """Returns numbers on the protocol's grid as a scaled tensor for training."""
    if x.bits != prot.fixedpoint_config.precision_fractional:
        raise ValueError(f"the numbers lie on a grid of {x.bits} bits")
    return scaled(prot, x.shares)


def product(prot: Protocol, x: PrivateTensor, y: PrivateTensor) -> PrivateTensor:
    """Returns the elementwise product at twice the scale: exact, to be truncated later."""
    return scaled(prot, prot.mul(raw(prot, x), raw(prot, y)))


def matmul(prot: Protocol, x: PrivateTensor, y: PrivateTensor) -> PrivateTensor:
    """Returns the matrix product at twice the scale: exact, to be truncated later."""
    return scaled(prot, prot.matmul(raw(prot, x), raw(prot, y)))


def at_twice_the_scale(prot: Protocol, x: PrivateTensor) -> PrivateTensor:
    """Returns the same numbers as a `product` has them."""
    return x * prot.define_constant(prot.fixedpoint_config.scaling_factor, apply_scaling=False)


def multiply(prot: Protocol, x: PrivateTensor, factor: float) -> PrivateTensor:
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
