"""Per-example gradients of dense layers, clipped on shares by a bound that holds exactly.

The gradient of an example in a dense layer is the outer product of the layer's input a (with a 1
for the bias) and the gradient d of its output, so its squared norm is (|a|^2 + 1) |d|^2 (Goodfellow
2015, "Efficient per-example gradient computations"), and scaling it is scaling d.

The factor that clips comes from an approximate square root, which proves nothing. So
what was scaled is measured again, in whole steps of the grid and rounded up, and an example that is
above the bound counts nothing. The sums that follow are exact. Fixed point thus adds nothing to the
sensitivity, which is `clip_norm`; it costs what the clip aims low.
"""

import dataclasses
import math

import numpy as np

from tfpriv.errors import UserError
from tfpriv.secure import fixed_point, layers, objectives, smooth
from tfpriv.secure.backpropagation import forward, gradients_of_outputs

# The clip aims this far below the bound, for the error of the square root and of rounding.
AIM = 0.99

# A gradient of the loss with respect to an output is cut off here: the loss of a classifier has
# none beyond 1, and of a regression on standardized labels hardly any beyond 8.
_LARGEST_D = {objectives.SOFTMAX: 1.0, objectives.SIGMOID: 1.0, objectives.SQUARED: 8.0}

# Squared norms below these keep all sums and products below within the ring.
_LARGEST_INPUT = 2.0**18
_LARGEST_GRADIENT = 2.0**26
# Of a gradient's squared norm, for the square root; one that is beyond counts nothing.
_LARGEST_SQUARE = 28
_MOST_LAYERS = 8
_BITS = 24


def refuse_other_layers(network: list, name: str) -> None:
    """Refuses a network whose per-example gradients have no closed form here."""
    for layer in network:
        if not isinstance(layer, layers.Dense | layers.ReLU | layers.Flatten):
            raise UserError(
                f"{name} has a {type(layer).__name__} layer, and gradients are clipped on shares "
                "in dense layers only; use --network=logistic or A, or a model of dense layers."
            )
    if sum(isinstance(layer, layers.Dense) for layer in network) > _MOST_LAYERS:
        raise UserError(f"{name} has more than {_MOST_LAYERS} dense layers; use fewer.")


def refuse_overflow(network: list, weights: list[np.ndarray], shape, largest, objective) -> None:
    """Refuses weights with which some example could leave the ring, before they are used.

    The weights are public under differential privacy, and so is this bound, which no data enter.

    Args:
        network: The layers.
        weights: In their order, kernel and bias of each dense layer.
        shape: The shape of one example.
        largest: The bound on each feature's magnitude, which the client sees to.
        objective: One of the constants of `objectives`.

    Raises:
        UserError: if the weights are too large.
    """
    if not all(np.isfinite(weight).all() for weight in weights):
        raise UserError("training diverged: the weights are not finite; lower --learning_rate.")
    kernels, biases = weights[0::2], weights[1::2]
    inputs = [largest * math.sqrt(math.prod(shape))]
    norms = [float(np.linalg.norm(kernel, 2)) for kernel in kernels]
    for norm, bias in zip(norms[:-1], biases[:-1], strict=True):
        # One more, for the rounding of each layer.
        inputs.append(inputs[-1] * norm + float(np.linalg.norm(bias)) + 1)
    gradients = [_LARGEST_D[objective] * math.sqrt(len(biases[-1]))]
    for norm in reversed(norms[1:]):
        gradients.append(gradients[-1] * norm + 1)
    if max(inputs) ** 2 >= _LARGEST_INPUT or max(gradients) ** 2 >= _LARGEST_GRADIENT:
        raise UserError(
            "the weights have grown until a clipped gradient could overflow on shares (some "
            f"example could have activations of norm {max(inputs):.3g}); lower --learning_rate."
        )


def clipped_sums(prot, network, weights, objective, x, labels, taken, clip_norm) -> list:
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
        _Part.of(prot, caches[index], d)
        for index, d in gradients_of_outputs(prot, network, weights, caches, d_y)
        if network[index].num_weights
    ]
    factor = _factor(prot, parts, clip_norm) * taken
    parts = [part.times(prot, factor) for part in parts]
    within = _is_within(prot, parts, clip_norm)
    sums = []
    for part in reversed(parts):
        d = prot.mul_ab(part.d, within)
        sums.append(fixed_point.matmul(prot, prot.transpose(part.a), d))
        sums.append(fixed_point.at_twice_the_scale(prot, d.reduce_sum(axis=0)))
    return sums


def clamp(prot, x, low: float, high: float):
    """Returns `x` within [low, high], whatever element of the ring it is."""
    x = _select(prot, x > high, high, x)
    return _select(prot, x < low, low, x)


@dataclasses.dataclass(frozen=True)
class _Part:
    """What an example's gradient in one dense layer is made of.

    Attributes:
        a: [batch, inputs].
        d: [batch, outputs].
        a_squared: [batch, 1], |a|^2 + 1, rounded up.
    """

    a: object
    d: object
    a_squared: object

    @classmethod
    def of(cls, prot, a, d):
        return cls(a, d, prot.truncate(_square_sum(prot, a)) + (1 + _step(prot)))

    def times(self, prot, factor):
        width = int(self.d.shape[1])
        return dataclasses.replace(self, d=self.d * prot.tile(factor, [1, width]))


def _factor(prot, parts, clip_norm):
    """Returns about AIM * clip_norm / max(norm, clip_norm), and surely in [0, 1], [batch, 1]."""
    squared = None
    for part in parts:
        own = part.a_squared * prot.truncate(_square_sum(prot, part.d))
        squared = own if squared is None else squared + own
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
        squared = prot.truncate(_square_sum(prot, part.d), amount=2 * fraction - bits)
        squared = fixed_point.raw(prot, squared) + 1
        # More than the limit is too much already, and twice the limit stays in the ring.
        squared = _select(prot, squared > 2 * limit, 2 * limit, squared)
        own = prot.mul(squared, fixed_point.raw(prot, part.a_squared))
        total = own if total is None else total + own
    return total <= limit << fraction


def _square_sum(prot, x):
    return fixed_point.product(prot, x, x).reduce_sum(axis=1, keepdims=True)


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


def _step(prot):
    return 2.0**-prot.fixedpoint_config.precision_fractional
