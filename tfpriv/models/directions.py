"""Random directions in the space of a model's weights, the same wherever they are computed."""

import math
from collections.abc import Sequence

import tensorflow as tf


def random_direction(
    seed: int | tf.Tensor, number: int | tf.Tensor, shapes: Sequence[Sequence[int]], norm: float
) -> tuple[tf.Tensor, ...]:
    """Returns a vector of all weights together in a uniformly random direction.

    Seed and number decide it, in a graph as in eager mode, in every process: whoever knows them
    knows the vector.

    Args:
        seed: In [0, 2^31).
        number: Which of the directions of this seed, in [0, 2^31).
        shapes: Of the weights.
        norm: The L2 norm of the whole.

    Returns:
        A float32 tensor for each shape.
    """
    sizes = [math.prod(shape) for shape in shapes]
    # One draw for all: weights of one shape would otherwise get the same numbers.
    flat = tf.random.stateless_normal([sum(sizes)], tf.stack([seed, number]), alg="philox")
    flat *= norm / tf.norm(flat)
    return tuple(
        tf.reshape(part, shape) for part, shape in zip(tf.split(flat, sizes), shapes, strict=True)
    )
