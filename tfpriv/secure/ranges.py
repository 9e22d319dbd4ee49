"""Numbers that shares can hold: checked in the clear, before anything is shared.

On shares an overflow gives a wrong number without a sign of it.
"""

import numpy as np

from tfpriv.errors import UserError
from tfpriv.secure.network import Network

_BATCH = 256


def largest_value(protocol) -> float:
    """Returns the bound on the magnitude of inputs and weights."""
    return float(2**protocol.fixedpoint_config.precision_integral)


def largest_result(protocol) -> float:
    """Returns the bound on the magnitude of what a layer gives.

    A product has twice the fractional bits, and the truncation that follows needs room above it:
    ABY3's needs one bit, and SecureNN's, which each server does by itself, fails with probability
    2^-20 at this bound, and in proportion below it.
    """
    fixed = protocol.fixedpoint_config
    room = 20 if fixed.use_noninteractive_truncation else 2
    return 2.0 ** (fixed.nbits - room - 2 * fixed.precision_fractional)


def check(net: Network, examples: np.ndarray, protocol) -> np.ndarray:
    """Computes the network in the clear and returns its outputs, float64 of shape [n, ...].

    Args:
        net: The network.
        examples: Shape [n, ...].
        protocol: The protocol that is to compute it.

    Raises:
        UserError: An input, a weight or a result is out of the protocol's range, or not finite.
    """
    limit = largest_value(protocol)
    for stage in net.stages:
        for weight in stage.weights:
            _refuse_beyond(weight, limit, f"layer {stage.name} of the model has the weight")
    for start in range(0, len(examples), _BATCH):
        batch = examples[start : start + _BATCH]
        largest = np.argmax(np.abs(batch).reshape(len(batch), -1).max(axis=1))
        _refuse_beyond(batch, limit, f"example {start + largest} has the value")
    limit = largest_result(protocol)
    outputs = []
    for start in range(0, len(examples), _BATCH):
        x = examples[start : start + _BATCH].astype(np.float64)
        for stage in net.stages:
            x = stage.plain(x, stage.weights)
            _refuse_beyond(x, limit, f"layer {stage.name} of the model gives")
        outputs.append(x)
    return np.concatenate(outputs)


def _refuse_beyond(values, limit, what):
    inside = np.abs(values) < limit  # False for NaN
    if inside.all():
        return
    raise UserError(
        f"{what} {values[~inside].flat[0]:.6g}, and on shares a number must stay below {limit:.0f} "
        "in magnitude; scale the features or the model."
    )
