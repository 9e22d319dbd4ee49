"""Optimizers on shares, and the same steps in plaintext.

Gradients come as sums over the batch, not means: dividing first would lose small gradients in the
grid. The division is part of the step's factor, which `fixed_point.multiply` holds exactly enough.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from tfpriv.secure.protocols import fixed_point, smooth
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.protocol import Protocol
from tfpriv.secure.training.config import SecureTrainingConfig

_BETA1, _BETA2 = 0.9, 0.999
# Added to the scaled sum of squares of adam and amsgrad, where it is a root mean square gradient
# of about 3e-5; Keras's 1e-7 is below the grid.
_EPSILON = 2.0**-10
# Powers of two between which the scaled sum of squares, with what is added, lies.
_SECOND_MOMENT = (-10, 24)


class SharedSgd:
    """w -= rate * v, where v = momentum * v + gradient."""

    slots = 1
    # What the first slot must stay below: a sum at twice the scale, with its momentum.
    largest_slot = 2.0**28

    def __init__(self, *, learning_rate: float, momentum: float, batch_size: float) -> None:
        """Sets the rates; the batch size turns sums into means."""
        self._rate = learning_rate / batch_size
        self._momentum = momentum

    def apply(
        self,
        prot: Protocol,
        weight: PrivateTensor,
        slots: Sequence[PrivateTensor],
        gradient: PrivateTensor,
        step: tf.Tensor,
    ) -> tuple[PrivateTensor, list[PrivateTensor]]:
        """Returns a weight and its slots after a step.

        Args:
            prot: The protocol.
            weight: Private, as its slots, which are zeros before the first step.
            slots: One: the velocity.
            gradient: A sum over the batch at twice the scale (see `layers`).
            step: float64, the number of the step from 1; public.
        """
        del step
        (velocity,) = slots
        velocity = prot.truncate(_decayed(prot, velocity, self._momentum) + gradient)
        return weight - fixed_point.multiply(prot, velocity, self._rate), [velocity]


class SharedAdam:
    """Adam (Kingma, Ba 2015), or AMSGrad with its running maximum (Reddi et al. 2018).

    The moments are kept as sums, m / (1 - beta1) and v / (1 - beta2), of which the step's factor
    takes account; so a small gradient's square survives in the grid.
    """

    # What the first slot must stay below, so that the square of what is added to it fits.
    largest_slot = 2.0**11

    def __init__(self, *, learning_rate: float, batch_size: float, amsgrad: bool) -> None:
        """Sets the rates."""
        self.slots = 3 if amsgrad else 2
        self._gradient_shift = _gradient_shift(batch_size)
        self._rate_shift = 14 - math.ceil(math.log2(4 * learning_rate))
        self._learning_rate = learning_rate

    def apply(
        self,
        prot: Protocol,
        weight: PrivateTensor,
        slots: Sequence[PrivateTensor],
        gradient: PrivateTensor,
        step: tf.Tensor,
    ) -> tuple[PrivateTensor, list[PrivateTensor]]:
        """Returns a weight and its slots after a step; see `SharedSgd.apply`."""
        first, second, *largest = slots
        bits = prot.fixedpoint_config.precision_fractional
        g = prot.truncate(gradient, amount=bits + self._gradient_shift)
        first = prot.truncate(_decayed(prot, first, _BETA1)) + g
        second = _decayed(prot, second, _BETA2) + fixed_point.product(prot, g, g)
        second = prot.truncate(second)
        largest = [prot.maximum(v, second) for v in largest]
        root = fixed_point.on_own_grid(prot, (largest or [second])[0] + _EPSILON)
        root = smooth.inverse_square_root(prot, root, *_SECOND_MOMENT, root.bits)
        direction = first * fixed_point.from_own_grid(prot, root)
        factor = tf.round(_adam_rate(self._learning_rate, step) * 2.0**self._rate_shift)
        update = direction * prot.define_constant(factor, apply_scaling=False)
        update = prot.truncate(update, amount=self._rate_shift)
        return weight - update, [first, second, *largest]


class Sgd:
    """`SharedSgd` in plaintext, on lists of tf.Variable or arrays."""

    def __init__(
        self,
        weights: Sequence[tf.Variable],
        *,
        learning_rate: float,
        momentum: float,
        batch_size: float,
    ) -> None:
        """Makes the velocities of `weights`."""
        self._weights = weights
        self._rate = learning_rate / batch_size
        self._momentum = momentum
        self._velocities = [tf.Variable(tf.zeros_like(weight)) for weight in weights]

    def apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor) -> None:
        """Changes the weights by gradients that are sums over the batch."""
        del step
        for weight, velocity, gradient in zip(
            self._weights, self._velocities, gradients, strict=True
        ):
            velocity.assign(self._momentum * velocity + gradient)
            weight.assign_sub(self._rate * velocity)


class Adam:
    """`SharedAdam` in plaintext."""

    def __init__(
        self,
        weights: Sequence[tf.Variable],
        *,
        learning_rate: float,
        batch_size: float,
        amsgrad: bool,
    ) -> None:
        """Makes the moments of `weights`."""
        self._weights = weights
        self._learning_rate = learning_rate
        self._scale = 2.0 ** -_gradient_shift(batch_size)
        self._amsgrad = amsgrad
        self._firsts, self._seconds, self._largest = (
            [tf.Variable(tf.zeros_like(weight)) for weight in weights] for _ in range(3)
        )

    def apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor) -> None:
        """Changes the weights; `step` counts from 1."""
        rate = tf.cast(_adam_rate(self._learning_rate, step), tf.float32)
        for weight, first, second, largest, gradient in zip(
            self._weights, self._firsts, self._seconds, self._largest, gradients, strict=True
        ):
            g = gradient * self._scale
            first.assign(_BETA1 * first + g)
            second.assign(_BETA2 * second + g * g)
            largest.assign(tf.maximum(largest, second) if self._amsgrad else second)
            weight.assign_sub(rate * first * tf.math.rsqrt(largest + _EPSILON))


def shared(config: SecureTrainingConfig) -> SharedSgd | SharedAdam:
    """Returns the optimizer that `config` names, for shares."""
    rate, size = config.learning_rate, config.batch_size
    assert rate is not None, "the config is complete"
    if config.optimizer == "sgd":
        momentum = config.momentum or 0.0
        return SharedSgd(learning_rate=rate, momentum=momentum, batch_size=size)
    is_amsgrad = config.optimizer == "amsgrad"
    return SharedAdam(learning_rate=rate, batch_size=size, amsgrad=is_amsgrad)


def plain(weights: Sequence[tf.Variable], config: SecureTrainingConfig) -> Sgd | Adam:
    """Returns the optimizer that `config` names, for TensorFlow's variables."""
    rate, size = config.learning_rate, config.batch_size
    assert rate is not None, "the config is complete"
    if config.optimizer == "sgd":
        momentum = config.momentum or 0.0
        return Sgd(weights, learning_rate=rate, momentum=momentum, batch_size=size)
    is_amsgrad = config.optimizer == "amsgrad"
    return Adam(weights, learning_rate=rate, batch_size=size, amsgrad=is_amsgrad)


def _adam_rate(learning_rate, step):
    """The factor of m / sqrt(v) for moments kept as sums, bias corrected."""
    step = tf.cast(step, tf.float64)
    first = (1 - _BETA1) / (1 - _BETA1**step)
    return learning_rate * first * tf.sqrt((1 - _BETA2**step) / (1 - _BETA2))


def _gradient_shift(batch_size):
    """Sums beyond 32 examples are scaled down: their squares, summed, must stay in the ring."""
    return max(0, round(math.log2(batch_size)) - 5)


def _decayed(prot, x, factor):
    """Returns `x` times a factor below 1, at twice the scale."""
    whole = round(factor * prot.fixedpoint_config.scaling_factor)
    return x * prot.define_constant(whole, apply_scaling=False)
