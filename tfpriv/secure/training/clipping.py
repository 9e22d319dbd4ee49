"""Per-example gradients of dense layers and convolutions, clipped by a bound that holds exactly.

What an example adds to a layer's sum is a product of two things that are known to the last bit. In
a dense layer, of the layer's input a (with a 1 for the bias) and the gradient d of its output: the
gradient is their outer product, of the squared norm (|a|^2 + 1) |d|^2 (Goodfellow 2015, "Efficient
per-example gradient computations"), and scaling it is scaling d. In a convolution, of the example's
whole gradient, rounded to a coarser grid, and a number d, which is 1 at first.

The factor that clips comes from an approximate square root, which proves nothing. So what was
scaled is measured again, in whole steps of the grid and rounded up, and an example that is above
the bound counts nothing. The sums that follow are exact. Fixed point thus adds nothing to the
sensitivity, which is `clip_norm`; it costs what the clip aims low.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfpriv.errors import UserError
from tfpriv.secure import layers as secure_layers
from tfpriv.secure.layers.trained import square_sum
from tfpriv.secure.protocols import fixed_point, smooth
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.protocol import Protocol
from tfpriv.secure.training import objectives
from tfpriv.secure.training.backpropagation import Network, forward, gradients_of_outputs

# The clip aims this far below the bound, for the error of the square root and of rounding.
AIM = 0.99

# A gradient of the loss with respect to an output is cut off here: the loss of a classifier has
# none beyond 1, and of a regression on standardized labels hardly any beyond 8.
_LARGEST_D = {objectives.SOFTMAX: 1.0, objectives.SIGMOID: 1.0, objectives.SQUARED: 8.0}

# Squared norms below these keep all their sums of squares within the ring: the weights, which are
# public, see to it.
_LARGEST_INPUT = 2.0**28
_LARGEST_GRADIENT = 2.0**28
# Of a gradient's squared norm, for the square root; one that is beyond counts nothing.
_LARGEST_SQUARE = 28
_MOST_LAYERS = 8
# What publishing a weight can change it by.
_HALF_STEP = 2.0**-17
_BITS = 24
_LARGEST_KERNEL_GRADIENT = 2.0**18
_OURS = secure_layers.__name__


def refuse_other_layers(network: Network, name: str) -> None:
    """Refuses a network whose per-example gradients have no closed form here."""
    for layer in network:
        # Of a layer from elsewhere nobody has proved that the clip holds.
        if not layer.can_clip or not type(layer).__module__.startswith(f"{_OURS}."):
            raise UserError(
                f"{name} has a {layer.kind} layer, and gradients are clipped on shares in dense "
                "layers and convolutions only; use --network=A, B or D."
            )
    if sum(layer.num_weights > 0 for layer in network) > _MOST_LAYERS:
        raise UserError(f"{name} has more than {_MOST_LAYERS} layers with weights; use fewer.")


def refuse_overflow(
    network: Network,
    weights: Sequence[np.ndarray],
    shape: Sequence[int],
    largest: float,
    objective: str,
) -> None:
    """Refuses weights with which some example could leave the ring, before they are used.

    The weights are public under differential privacy, and so is this bound, which no data enter.

    Args:
        network: The layers.
        weights: In their order, kernel and bias of each layer that has them.
        shape: The shape of one example.
        largest: The bound on each feature's magnitude, which the client sees to.
        objective: One of the constants of `objectives`.

    Raises:
        UserError: if the weights are too large.
    """
    if not all(np.isfinite(weight).all() for weight in weights):
        raise UserError("training diverged: the weights are not finite; lower --learning_rate.")
    bounds = norm_bounds(network, weights, shape, largest, objective)
    if (
        bounds.inputs**2 >= _LARGEST_INPUT
        or bounds.gradients**2 >= _LARGEST_GRADIENT
        or bounds.kernel_gradients >= _LARGEST_KERNEL_GRADIENT
    ):
        raise UserError(
            "the weights have grown until a clipped gradient could overflow on shares (some "
            f"example could have activations of norm {bounds.inputs:.3g} and gradients of "
            f"{bounds.gradients:.3g}); lower --learning_rate."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormBounds:
    """What no example's norms are above.

    Attributes:
        inputs: Of what any layer reads, and of the outputs.
        gradients: Of the gradient with respect to what any layer gives.
        kernel_gradients: Of the gradient of any convolution's weights; 0 if there is none.
    """

    inputs: float
    gradients: float
    kernel_gradients: float


def norm_bounds(
    network: Network,
    weights: Sequence[np.ndarray],
    shape: Sequence[int],
    largest: float,
    objective: str,
) -> NormBounds:
    """Returns bounds on the norms of what all examples make, from the weights alone.

    A layer multiplies a norm by at most its matrix's largest singular value; a convolution's matrix
    reads each number in several windows, and the norm grows by the root of their count. Arguments
    are those of `refuse_overflow`.
    """
    weighted = [layer for layer in network if layer.num_weights]
    kernels, biases = weights[0::2], weights[1::2]
    inputs = [largest * math.sqrt(math.prod(shape))]
    gains = [_gain(layer, kernel) for layer, kernel in zip(weighted, kernels, strict=True)]
    places = _places(network, shape)
    for gain, bias, count in zip(gains, biases, places, strict=True):
        # One more, for the rounding of each layer.
        inputs.append(inputs[-1] * gain + float(np.linalg.norm(bias)) * math.sqrt(count) + 1)
    gradients = [_LARGEST_D[objective] * math.sqrt(len(biases[-1]))]
    for gain in reversed(gains[1:]):
        gradients.append(gradients[-1] * gain + 1)
    gradients.reverse()
    of_kernels = [
        layer.largest_part(x, d, count)
        for layer, x, d, count in zip(weighted, inputs, gradients, places, strict=False)
    ]
    return NormBounds(
        inputs=max(inputs),
        gradients=max(gradients),
        kernel_gradients=max(of_kernels, default=0.0),
    )


def _gain(layer, kernel):
    """Returns how much larger than its input's norm that of a layer's output can be, at most."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    rounding = math.sqrt(matrix.size) * _HALF_STEP
    return (float(np.linalg.norm(matrix, 2)) + rounding) * math.sqrt(layer.overlap)


def _places(network, shape):
    """Returns at how many places each layer with weights adds its bias."""
    sides, counts = tuple(shape[:2]), []
    for layer in network:
        if layer.num_weights:
            counts.append(layer.places(sides))
        sides = layer.sides_after(sides)
    return counts


def clipped_sums(
    prot: Protocol,
    network: Network,
    weights: Sequence[Sequence[Any]],
    objective: str,
    x: PrivateTensor,
    labels: PrivateTensor,
    taken: PrivateTensor,
    clip_norm: float,
) -> list[PrivateTensor]:
    """Returns the sums of the clipped gradients, at twice the scale and exact.

    Args:
        prot: The protocol.
        network: Dense, ReLU and Flatten layers.
        weights: Public weights, by layer, that `refuse_overflow` has let pass.
        objective: One of the constants of `objectives`.
        x: Private examples, [batch, ...].
        labels: Private labels, [batch, outputs].
        taken: Private [batch, 1]: 1 for an example, 0 for a row that fills the batch.
        clip_norm: The bound on the L2 norm of each example's contribution.

    Returns:
        Private tensors of the shapes of the weights, in their order.
    """
    outputs, caches = forward(prot, network, weights, x)
    d_y = objectives.gradient(prot, objective, outputs, labels)
    d_y = clamp(prot, d_y, -_LARGEST_D[objective], _LARGEST_D[objective])
    parts = [
        network[index].part(prot, caches[index], d)
        for index, d in gradients_of_outputs(prot, network, weights, caches, d_y)
        if network[index].num_weights
    ]
    factor = _factor(prot, parts, clip_norm) * taken
    for part in parts:
        factor = prot.mul_ab(factor, part.is_small)
    parts = [part.times(prot, factor) for part in parts]
    within = _is_within(prot, parts, clip_norm)
    sums = []
    for part in reversed(parts):
        sums += part.sums(prot, prot.mul_ab(part.d, within))
    return sums


def clamp(prot: Protocol, x: PrivateTensor, low: float, high: float) -> PrivateTensor:
    """Returns `x` within [low, high], whatever element of the ring it is."""
    x = _select(prot, x > high, high, x)
    return _select(prot, x < low, low, x)


def _factor(prot, parts, clip_norm):
    """Returns about AIM * clip_norm / max(norm, clip_norm), and surely in [0, 1], [batch, 1]."""
    squared = None
    for part in parts:
        part_squared = part.squared(prot)
        squared = part_squared if squared is None else squared + part_squared
    above = squared > clip_norm**2
    squared = _select(prot, above, squared, clip_norm**2)
    squared = fixed_point.on_own_grid(prot, squared)
    low = math.floor(2 * math.log2(clip_norm)) - 1
    root = smooth.inverse_square_root(prot, squared, low, _LARGEST_SQUARE, squared.bits)
    root = fixed_point.from_own_grid(prot, root)
    factor = fixed_point.multiply(prot, root, AIM * clip_norm)
    return clamp(prot, factor, 0.0, 1.0)


def _is_within(prot, parts, clip_norm):
    """Returns a bit for each example: whether its whole gradient is within the clip, for certain.

    With A and D the numbers of a part in steps of the grid, the example adds the whole numbers
    A D^T, of the squared norm |A|^2 |D|^2. Both factors are truncated and one step is added, which
    makes them at least what they were.
    """
    # As many bits behind the point as leave room for |a|^2 above it, relative to the clip.
    bits = min(_BITS - math.ceil(2 * math.log2(clip_norm)), 32)
    fraction = prot.fixedpoint_config.precision_fractional
    limit = math.floor(clip_norm**2 * 2.0**bits)
    total = None
    for part in parts:
        squared = prot.truncate(square_sum(prot, part.d), amount=2 * fraction - bits)
        squared = fixed_point.raw(prot, squared) + 1
        # More than the limit is too much already, and twice the limit stays in the ring.
        squared = _select(prot, squared > 2 * limit, 2 * limit, squared)
        part_squared = prot.mul(squared, fixed_point.raw(prot, part.a_squared))
        total = part_squared if total is None else total + part_squared
    return total <= limit << fraction


def _select(prot, bit, if_true, if_false):
    """Returns one of two, of which one may be a public number."""
    if isinstance(if_true, int | float):
        return prot.mul_ab(if_false, ~bit) + _where(prot, bit, if_true, if_false.is_scaled)
    return prot.mul_ab(if_true, bit) + _where(prot, ~bit, if_false, if_true.is_scaled)


def _where(prot, bit, number, is_scaled):
    """Returns a public number where the bit is 1, and 0 elsewhere."""
    shape = [int(n) for n in bit.shape]
    constant = prot.define_constant(np.full(shape, number), apply_scaling=is_scaled)
    return prot.mul_ab(constant, bit)
