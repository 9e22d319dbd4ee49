"""Sums of per-example gradients, each clipped to an L2 norm, in one backward pass.

TensorFlow Privacy's fast gradient clipping finds each example's norm in a backward pass, and the
clipped sum in a second forward and backward pass over a weighted loss. Where the layers' inputs and
the gradients of their outputs are at hand they give the clipped sum as well, so the second pass is
left out; with dropout it would also draw other masks than those whose norms were taken.
"""

import math

import tensorflow as tf

from tfpriv.central.layer_rules import are_sure
from tfpriv.central.per_example import Part, PerExampleGradients, by_weight
from tfpriv.models import Objective


class ClippedSum:
    """The sum over a batch of the per-example gradients of a model, each clipped.

    No example adds more than the clip, whatever its gradient. Norms are taken in float32 where that
    is surely right; the examples whose squares could overflow or underflow are clipped one by one
    in float64. An example whose gradient is not finite adds exactly zero.

    Attributes:
        largest_batch: The number of rows that one call should not exceed; None for no limit.
        notes: Sentences to show the user.
    """

    def __init__(
        self,
        model: tf.keras.Model,
        objective: Objective,
        examples: tuple[tf.Tensor, tf.Tensor],
        *,
        per_layer: bool = False,
    ) -> None:
        """Chooses how the gradients are computed.

        Args:
            model: A built model. The gradients are with respect to its trainable weights.
            objective: What the outputs mean.
            examples: Some (features, labels) that are not private; see `PerExampleGradients`.
            per_layer: Whether each of the L layers with weights is clipped by itself, to the clip
                over the root of L (McMahan et al. 2018, arXiv 1710.06963, Algorithm 1,
                PerLayerClip, with equal parts).
        """
        self._gradients = PerExampleGradients(model, objective, examples)
        self._weights = model.trainable_weights
        self._per_layer = per_layer
        self.largest_batch = self._gradients.largest_batch
        self.notes = self._gradients.notes

    def __call__(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        present: tf.Tensor,
        clip_norm: tf.Tensor,
        training: bool = True,
        scale: float = 1.0,
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns the clipped sum, and the norms before clipping; for use in a `tf.function`.

        Args:
            features: [batch, ...].
            labels: [batch] or [batch, length].
            present: float32 [batch], 1 for an example and 0 for padding, which counts nothing.
            clip_norm: The L2 bound C on one example's gradient, float32. An example counts times
                min(1, C / norm) (Abadi et al. 2016, Algorithm 1), or layer by layer times
                min(1, C / sqrt(L) / norm of that layer's part).
            training: Whether layers such as dropout act as in training.
            scale: What the sum is multiplied by, which costs nothing here.

        Returns:
            The sum by trainable weight, and float32 [batch], the norm of each example's gradient:
            0 for padding, NaN for an example whose gradient is not finite and which adds nothing,
            infinity where the norm is beyond float32.
        """
        parts = self._gradients(features, labels, present, training)
        groups = [[part] for part in parts] if self._per_layer else [parts]
        bound = clip_norm / math.sqrt(len(groups))
        squares, are_sure = zip(*(_squares(group, bound) for group in groups), strict=True)
        total = tf.add_n(squares)
        is_sure = tf.reduce_all([*are_sure, tf.math.is_finite(total)], axis=0)
        norms = tf.sqrt(total)
        factors = [_factors(tf.sqrt(square), bound) * (scale * present) for square in squares]

        def in_float32():
            return self._weighted_sum(groups, factors), norms

        def with_some_in_float64():
            # Nothing times infinity would ruin the sum, so the rows go as well as their factors.
            sure = [
                [Part(part.weights, part.rows.kept(is_sure)) for part in group] for group in groups
            ]
            sums = self._weighted_sum(sure, [tf.where(is_sure, f, 0.0) for f in factors])
            others = tf.where(~is_sure & (present > 0.0))[:, 0]
            more, other_norms = self._one_by_one(groups, others, bound)
            every = tf.where(is_sure, norms, 0.0)
            return (
                [a + tf.cast(scale * b, tf.float32) for a, b in zip(sums, more, strict=True)],
                tf.tensor_scatter_nd_update(every, others[:, tf.newaxis], other_norms),
            )

        return tf.cond(tf.reduce_all(is_sure), in_float32, with_some_in_float64)

    def _weighted_sum(self, groups, factors):
        """Returns by trainable weight the sum of the examples' gradients, each times a factor."""
        sums = [
            (part, part.rows.weighted_sum(group_factors))
            for group, group_factors in zip(groups, factors, strict=True)
            for part in group
        ]
        return by_weight(self._weights, sums)

    def _one_by_one(self, groups, examples, bound):
        """Returns the sum of some examples' clipped gradients, float64, and their norms, float32.

        One at a time, as a whole batch of a wide layer's gradients may not fit in memory.
        """

        def add(number, sums, norms):
            gradients, norm = self._clipped(groups, examples[number], bound)
            sums = [s + g for s, g in zip(sums, gradients, strict=True)]
            return number + 1, sums, tf.tensor_scatter_nd_update(norms, [[number]], [norm])

        count = tf.size(examples)
        zeros = [tf.zeros(v.shape, tf.float64) for v in self._weights]
        _, sums, norms = tf.while_loop(
            lambda number, *_: number < count,
            add,
            (0, zeros, tf.zeros([count])),
            parallel_iterations=1,
        )
        return sums, norms

    def _clipped(self, groups, example, bound):
        """Returns one example's clipped gradient, float64, and its norm, float32."""
        bound = tf.cast(bound, tf.float64)
        scaled, squares = [], []
        for group in groups:
            gradients = [(part, part.rows.one(example)) for part in group]
            # The square of a float32 is far within the range of a float64.
            square = tf.add_n(
                [tf.reduce_sum(g * g) for _, part_gradients in gradients for g in part_gradients]
            )
            factor = _factors(tf.sqrt(square), bound)
            scaled += [
                (part, [factor * g for g in part_gradients]) for part, part_gradients in gradients
            ]
            squares.append(square)
        norm = tf.sqrt(tf.add_n(squares))
        is_finite = tf.math.is_finite(norm)
        gradients = [
            tf.where(is_finite, g, tf.zeros_like(g)) for g in by_weight(self._weights, scaled)
        ]
        return gradients, tf.where(is_finite, tf.cast(norm, tf.float32), math.nan)


def _squares(parts, bound):
    """Returns the squared norms over some parts, and for which examples float32 will do."""
    squares, missing = zip(*(part.rows.squared_norms() for part in parts), strict=True)
    square = tf.add_n(squares)
    return square, are_sure(square, sum(missing), bound)


def _factors(norms, bound):
    """Returns min(1, bound / norm)."""
    return bound / tf.maximum(norms, bound)
