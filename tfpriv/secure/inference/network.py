"""A trained Keras model as a row of stages that a protocol can compute on shares.

What can be done in plaintext beforehand, by the owner of the model, is done: the normalization of a
BatchNormalization that follows a Dense or convolution goes into its weights.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.layers import keras_layers, stages_of
from tfpriv.secure.layers.normalization import Normalization
from tfpriv.secure.layers.pooling import MaxPooling
from tfpriv.secure.layers.stage import Stage
from tfpriv.secure.layers.weighted import Linear

_RISING = ("relu", "tanh", "sigmoid", "softplus", "elu", "selu", "exponential", "hard_sigmoid")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """What a Keras model is on shares.

    Attributes:
        stages: In order.
        opened: The activation that the client applies to what is revealed; None if none is left.
        input_shape: The shape of one example.
    """

    stages: tuple[Stage, ...]
    opened: str | None
    input_shape: tuple[int, ...]

    def as_examples(self, examples: np.ndarray, most: int | None = None) -> np.ndarray:
        """Returns examples as float64, [n, ...], n >= 1.

        Args:
            examples: Numbers of any type.
            most: The most that may be given; any number if None.

        Raises:
            UserError: They are no numbers, or of another shape, or too few or too many.
        """
        given = np.asarray(examples)
        if given.dtype.kind not in "fiub":
            raise UserError(
                f"the examples are of type {given.dtype}, and shares are of real numbers; give "
                "numbers."
            )
        if given.shape[1:] != self.input_shape or given.ndim == 0:
            raise UserError(
                f"the examples have the shape {list(given.shape)}, and the model takes "
                f"{['n', *self.input_shape]}; give examples of that shape."
            )
        if not len(given) or (most is not None and len(given) > most):
            raise UserError(
                f"{len(given)} examples were given; give at least one"
                + (f", and at most a batch of {most}." if most is not None else ".")
            )
        return given.astype(np.float64)


def from_keras(model: tf.keras.Model, *, softmax: str = "reveal") -> Network:
    """Returns the stages of a Keras model.

    Args:
        model: A built model, in which each layer feeds the next.
        softmax: What becomes of a softmax or sigmoid at the end: "reveal" has the client apply it
            to the revealed logits; "approximate" computes it on shares.

    Raises:
        UserError: A layer, or a setting of one, cannot be computed on shares; it is named.
    """
    layers = keras_layers.in_order(model)
    input_shape = tuple(model.input_shape[1:])
    if None in input_shape:
        raise UserError(
            f"the model takes examples of shape {input_shape}, and shares need a known shape; give "
            "the first layer an input_shape without None."
        )
    row: list[Stage] = []
    for layer in layers:
        row += stages_of(layer)
    row = _pool_before_activation(_fold_normalization(row))
    opened = None
    if row and row[-1].kind in ("softmax", "sigmoid") and softmax == "reveal":
        opened = row.pop().kind
    if not row:
        raise UserError("the model has no layers; there is nothing to compute on shares.")
    return Network(stages=tuple(row), opened=opened, input_shape=input_shape)


def _fold_normalization(row: Sequence[Stage]) -> list[Stage]:
    folded: list[Stage] = []
    for stage in row:
        if isinstance(stage, Normalization) and folded and isinstance(folded[-1], Linear):
            folded[-1] = folded[-1].with_normalization(stage.factors, stage.summands)
        else:
            folded.append(stage)
    return folded


def _pool_before_activation(row: Sequence[Stage]) -> list[Stage]:
    """Takes maxima before activations that rise: they are the same, of fewer numbers."""
    row = list(row)
    for i in range(len(row) - 1):
        if row[i].kind in _RISING and isinstance(row[i + 1], MaxPooling):
            row[i], row[i + 1] = row[i + 1], row[i]
    return row
