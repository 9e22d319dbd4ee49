"""Changes a model's weights for a while, to try the model."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf


@contextlib.contextmanager
def weights_kept(variables: Sequence[tf.Variable]) -> Iterator[None]:
    """Gives variables their values back after the block, whatever happened in it."""
    values = [variable.numpy() for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


@contextlib.contextmanager
def weights_moved(model: tf.keras.Model, seed: int) -> Iterator[None]:
    """Adds a little noise to the trainable weights for the block.

    A head or a gate of zeros hides all that lies before it.

    Args:
        model: The model.
        seed: Of the noise, whose standard deviation is a tenth of the root of the fan-in's inverse.
    """
    weights = [weight for weight in model.trainable_weights if weight.dtype.is_floating]
    generator = np.random.default_rng(seed)
    with weights_kept(weights):
        for weight in weights:
            scale = 0.1 / np.sqrt(max(1, np.prod(weight.shape[:-1])))
            weight.assign_add(scale * generator.normal(size=weight.shape))
        yield


def weights_moved_in_turn(model: tf.keras.Model, number: int) -> contextlib.AbstractContextManager:
    """Moves the weights, as `weights_moved` does, in rounds of an even number only."""
    return contextlib.nullcontext() if number % 2 else weights_moved(model, number)
