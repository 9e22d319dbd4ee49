"""The gradient of each loss with respect to the network's output, on shares, for each example."""

from tfpriv.secure.protocols import fixed_point, smooth
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.protocol import Protocol

SOFTMAX = "softmax"
SIGMOID = "sigmoid"
SQUARED = "squared"


def gradient(
    prot: Protocol, objective: str, outputs: PrivateTensor, labels: PrivateTensor
) -> PrivateTensor:
    """Returns the gradient of each example's loss, [batch, outputs]; not divided by the batch.

    Args:
        prot: The protocol.
        objective: SOFTMAX (cross-entropy of logits), SIGMOID (binary cross-entropy of one logit)
            or SQUARED (squared error).
        outputs: Private [batch, outputs].
        labels: Private, of the same shape: one-hot rows, 0 or 1, or numbers.
    """
    if objective == SOFTMAX:
        return _smooth(prot, smooth.softmax, outputs) - labels
    if objective == SIGMOID:
        return _smooth(prot, smooth.sigmoid, outputs) - labels
    return (outputs - labels) * 2


def _smooth(prot, function, x):
    x = fixed_point.on_own_grid(prot, x)
    return fixed_point.from_own_grid(prot, function(prot, x, x.bits))
