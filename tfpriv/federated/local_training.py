"""What algorithms make their clients' work of: a loop over batches, steps of an optimizer.

A client's data is one dense element, its batches (see `tfpriv.federated.batches`), and its work is
one `tf.while_loop`. TFF's own client loop is a `dataset.reduce`, which sets its body up again at
every call and is several times slower for small models.
"""

import collections
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfpriv.federated.local_model import LocalModel, Sums, Weights

Step = Callable[[Weights, Any, tf.Tensor], tuple[Weights, Any, Sums]]


def full_gradient(
    model: LocalModel, weights: Weights, frozen: Weights, batches: tf.Tensor
) -> tuple[Weights, Sums]:
    """Returns the gradient of the mean loss over all examples of the batches, and the sums."""
    zeros = tuple(tf.zeros_like(w) for w in weights)

    def step(total, state, batch):
        features, labels = model.read(batch)
        gradient, sums = model.gradient(weights, frozen, features, labels)
        count = tf.cast(tf.shape(labels)[0], tf.float32)
        return tuple(t + count * g for t, g in zip(total, gradient, strict=True)), state, sums

    total, sums = loop(step, zeros, (), batches)
    count = tf.cast(count_examples(batches), tf.float32)
    return tuple(tf.math.divide_no_nan(t, count) for t in total), sums


def count_examples(batches: tf.Tensor) -> tf.Tensor:
    """Returns how many row numbers batches hold, int32."""
    return tf.math.count_nonzero(batches >= 0, dtype=tf.int32)


def loop(step: Step, values: Weights, state: Any, batches: tf.Tensor) -> tuple[Weights, Sums]:
    """Folds `step` over batches; returns the last values and the sums of loss and right answers.

    Args:
        step: (values, state, batch) -> (values, state, (loss, correct)).
        values: A tuple of tensors to start from.
        state: A structure of tensors to start from.
        batches: [number of batches, width] int32.
    """
    number = tf.shape(batches)[0]

    def body(i, values, state, loss, correct):
        values, state, (batch_loss, batch_correct) = step(values, state, batches[i])
        return i + 1, tuple(values), state, loss + batch_loss, correct + batch_correct

    zero = tf.zeros([])
    _, values, _, loss, correct = tf.while_loop(
        lambda i, *_: i < number, body, (0, values, state, zero, zero), maximum_iterations=number
    )
    return values, (loss, correct)


def initial_optimizer_state(
    optimizer: tff.learning.optimizers.Optimizer, weights: Weights
) -> collections.OrderedDict[str, Any]:
    """Returns an optimizer's first state for these weights, as tensors."""
    specs = tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), weights)
    return tf.nest.map_structure(tf.convert_to_tensor, optimizer.initialize(specs))


def at_rate(
    state: collections.OrderedDict[str, Any], rate_factor: tf.Tensor
) -> collections.OrderedDict[str, Any]:
    """Returns an optimizer's state with its learning rate times a factor."""
    key = tff.learning.optimizers.LEARNING_RATE_KEY
    return type(state)((k, v * rate_factor if k == key else v) for k, v in state.items())


def difference(start: Weights, end: Weights) -> Weights:
    """Returns start less end, tensor by tensor: the update that the server subtracts."""
    return tuple(a - b for a, b in zip(start, end, strict=True))
