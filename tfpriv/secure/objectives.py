"""The gradient of each loss with respect to the network's output, on shares, for each example."""

SOFTMAX = "softmax"
SIGMOID = "sigmoid"
SQUARED = "squared"


def gradient(prot, objective: str, outputs, labels):
    """Returns the gradient of each example's loss, [batch, outputs]; not divided by the batch.

    Args:
        prot: The protocol.
        objective: SOFTMAX (cross-entropy of logits), SIGMOID (binary cross-entropy of one logit,
            with tf-encrypted's sigmoid in five straight pieces) or SQUARED (squared error).
        outputs: Private [batch, outputs].
        labels: Private, of the same shape: one-hot rows, 0 or 1, or numbers.
    """
    if objective == SOFTMAX:
        return softmax(prot, outputs) - labels
    if objective == SIGMOID:
        return prot.sigmoid(outputs) - labels
    return (outputs - labels) * 2


def softmax(prot, logits):
    """Returns the softmax over the last axis of private [batch, classes] logits."""
    # One step of the grid below zero: tf-encrypted's exponential wants its input negative.
    step = 2.0**-prot.fixedpoint_config.precision_fractional
    powers = prot.exp(logits - _largest(prot, logits) - step, sign=-1)
    return powers * prot.reciprocal(powers.reduce_sum(axis=1, keepdims=True), nonsigned=True)


def _largest(prot, x):
    """Returns the maximum over the last axis, whose halves meet value against value."""
    count = int(x.shape[1])
    while count > 1:
        half = count // 2
        left, right, odd = x[:, :half], x[:, half : 2 * half], x[:, 2 * half : count]
        best = prot.mul_ab(left - right, left > right) + right
        x = prot.concat([best, odd], axis=1) if count % 2 else best
        count -= half
    return x
