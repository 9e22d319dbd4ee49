"""What a layer leaves behind in the forward pass, so that its per-example gradients can be had.

A rule does a layer's forward computation and says whose gradient it wants (for a dense layer its
outputs before the activation). With that gradient, one backward pass gives the norm of each
example's gradient and the clipped sum over examples; no second one is needed.
"""

import abc
import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import tensorflow as tf

# More than float32 loses in sums of a thousand products.
_ROUNDING = 1e-5
# What may be missing in a squared norm, as a fraction of it or of the squared clip.
_NEGLIGIBLE = 1e-6
# The smallest normal float32; processors that flush take what is below it for zero.
FLUSHED = 2.0**-126


class PerExample(abc.ABC):
    """The gradients of a layer's trainable weights, for each example of a batch."""

    def __init__(self, rows: Sequence[tf.Tensor]) -> None:
        """Takes the tensors of shape [batch, ...] that the gradients are computed from."""
        self._rows = list(rows)

    @abc.abstractmethod
    def squared_norms(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the squared L2 norm of each example's gradient, and what may be missing in it.

        Returns:
            float32 [batch], in float32's own arithmetic: not finite if a gradient is not, or if its
            squares overflow. And a bound on what the squares and products below the smallest normal
            float32 would have added, float32 [batch] or a scalar; it need not be finite either.
        """

    @abc.abstractmethod
    def weighted_sum(self, weights: tf.Tensor) -> list[tf.Tensor]:
        """Returns the sum over examples of each one's gradient times its weight.

        Args:
            weights: float32 [batch].

        Returns:
            A tensor for each of the layer's trainable weights, in their order and shapes.
        """

    def with_rows(self, change: Callable[[tf.Tensor], tf.Tensor]) -> "PerExample":
        """Returns gradients that are computed from changed tensors.

        Args:
            change: What becomes of each tensor, [batch, ...] to [any batch, ...].
        """
        changed = copy.copy(self)
        changed._rows = [change(tensor) for tensor in self._rows]
        return changed

    def kept(self, is_kept: tf.Tensor) -> "PerExample":
        """Returns these gradients, with zeros in place of the examples not kept, NaN or not.

        Args:
            is_kept: bool [batch].
        """

        def keep(tensor):
            by_row = tf.reshape(is_kept, [-1] + [1] * (tensor.shape.rank - 1))
            return tf.where(by_row, tensor, tf.zeros_like(tensor))

        return self.with_rows(keep)

    def one(self, example: tf.Tensor) -> list[tf.Tensor]:
        """Returns one example's gradient in float64, a tensor for each weight, in its shape.

        Args:
            example: Its number in the batch, a scalar integer.
        """

        def widen(tensor):
            row = tf.gather(tensor, [example])
            return tf.cast(row, tf.float64) if row.dtype.is_floating else row

        return self.with_rows(widen).weighted_sum(tf.ones([1], tf.float64))


class Materialized(PerExample):
    """Gradients that are held in memory, one tensor of shape [batch, ...] for each weight."""

    def __init__(
        self, gradients: Sequence[tf.Tensor], shapes: Sequence[tf.TensorShape] = ()
    ) -> None:
        """Takes the gradients, and the weights' shapes where they differ from the gradients'."""
        super().__init__(gradients)
        self._shapes = list(shapes) or [g.shape[1:] for g in gradients]

    def squared_norms(self) -> tuple[tf.Tensor, tf.Tensor]:
        """See `PerExample`."""
        size = sum(g.shape[1:].num_elements() for g in self._rows)
        return tf.add_n([squared_norms(g) for g in self._rows]), tf.constant(size * FLUSHED)

    def weighted_sum(self, weights: tf.Tensor) -> list[tf.Tensor]:
        """See `PerExample`."""
        return [
            tf.reshape(tf.linalg.matvec(flat(g), weights, transpose_a=True), shape)
            for g, shape in zip(self._rows, self._shapes, strict=True)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tap:
    """One call of a layer, as a rule made it.

    Attributes:
        output: What the layer returns for these inputs.
        watched: The tensors whose gradients are wanted, each with the batch as its first axis. The
            rule has had them watched before it went on to compute with them.
        per_example: From the gradients of the summed loss with respect to `watched`, the gradients
            of the layer's trainable weights.
    """

    output: tf.Tensor
    watched: Sequence[tf.Tensor]
    per_example: Callable[[Sequence[tf.Tensor]], PerExample]


# What a rule is given to have a tensor watched.
Watch: TypeAlias = Callable[[tf.Tensor], None]
# (layer, inputs, watch) -> Tap, or None where the rule does not know this configuration.
Rule: TypeAlias = Callable[[tf.keras.layers.Layer, tf.Tensor, Watch], Tap | None]


def flat(values: tf.Tensor) -> tf.Tensor:
    """Returns values of shape [batch, ...] as [batch, n]."""
    size = values.shape[1:].num_elements()
    return values if values.shape.rank == 2 else tf.reshape(values, [-1, size])


def squared_norms(values: tf.Tensor) -> tf.Tensor:
    """Returns the squared L2 norm of each row of [batch, ...], [batch]."""
    values = flat(values)
    return tf.reduce_sum(values * values, axis=1)


def are_sure(squares: tf.Tensor, missing: tf.Tensor, clip_norm: tf.Tensor | float) -> tf.Tensor:
    """Returns for which examples squared norms in float32 are right to clip by, bool [batch].

    Args:
        squares: float32 [batch], as of `PerExample.squared_norms`.
        missing: The bound on what they lack, float32 [batch] or a scalar.
        clip_norm: The clip. A norm so far below it that it is surely within need not be right.
    """
    enough = missing <= _NEGLIGIBLE * tf.maximum(squares, tf.square(clip_norm))
    return enough & tf.math.is_finite(squares)


def sum_of_products(products: tf.Tensor) -> tf.Tensor:
    """Returns the sum of each example's products, [batch, n, n] to [batch], rounded up.

    Products of both signs can cancel to less than their rounding. A squared norm that came out too
    low would let an example through beyond the clip, so what rounding could hide is added.
    """
    return tf.reduce_sum(products + _ROUNDING * tf.abs(products), axis=[1, 2])


def activate(layer: tf.keras.layers.Layer, values: tf.Tensor) -> tf.Tensor:
    """Returns a layer's activation of its outputs."""
    return values if layer.activation is None else layer.activation(values)
