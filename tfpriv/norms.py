"""L2 norms and clips of whole gradients and updates, right for numbers of any size.

Squares of float32 numbers below 1e-19 underflow and those above 1.8e19 overflow, and a clip by a
norm of such squares lets through what is beyond it. Here all numbers are divided by the largest
first, so that the squares lie in [0, 1]. There are no branches and no variables: the functions work
in any graph and in `tf.vectorized_map`.
"""

from collections.abc import Sequence

import tensorflow as tf


def global_norm(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the L2 norm over all numbers of all tensors, float32.

    Right to float32's rounding from 1e-37 on; denormal numbers count as zeros where the processor
    flushes them.

    Args:
        tensors: At least one tensor, float32 of any shapes.

    Returns:
        A scalar: infinity if a number is infinite or the norm is beyond float32, NaN if a number
        is NaN.
    """
    largest, of_scaled, _ = _scaled(tensors)
    return largest * of_scaled


def clip_by_global_norm(tensors: Sequence[tf.Tensor], clip: tf.Tensor | float) -> list[tf.Tensor]:
    """Returns the tensors times min(1, clip / norm), whose norm exceeds the clip by rounding only.

    As `tf.clip_by_global_norm`, but for numbers of any size: a finite tensor is clipped even where
    its norm is beyond float32.

    Args:
        tensors: At least one tensor, float32 of any shapes. With a number that is not finite the
            result means nothing; look for them first (`is_finite`).
        clip: The largest norm, a scalar above 0.

    Returns:
        Tensors of the same shapes.
    """
    largest, of_scaled, scaled = _scaled(tensors)
    # The norm may be beyond float32, and its two factors are not.
    is_clipped = of_scaled > clip / largest
    factor = clip / of_scaled
    return [
        tf.where(is_clipped, s * factor, tensor) for s, tensor in zip(scaled, tensors, strict=True)
    ]


def is_finite(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns whether all numbers of all tensors are finite, a bool scalar."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors])


def _scaled(tensors):
    """Returns the largest magnitude, 1 for zeros alone; the norm over it; and the tensors over it.

    Where a magnitude is infinite they are over 1.
    """
    largest = tf.reduce_max([tf.reduce_max(tf.abs(tensor)) for tensor in tensors])
    usable = (largest > 0.0) & tf.math.is_finite(largest)
    largest = tf.where(usable, largest, 1.0)
    scaled = [tensor / largest for tensor in tensors]
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(s)) for s in scaled]))
    return largest, norm, scaled
