"""Recurrent models for text."""

from collections.abc import Sequence

import tensorflow as tf


def char_lstm(input_shape: Sequence[int], num_classes: int) -> tf.keras.Model:
    """Returns the character model of McMahan et al. 2017 and Reddi et al. 2021 (arXiv 2003.00295).

    Characters are embedded in 8 dimensions and read by two LSTM layers of 256 units; at each
    position the output holds a logit for each character that may come next: `[batch, length,
    num_classes]`. It has 796,672 parameters and 265 more for each character: 820,522 for Reddi et
    al.'s 90.

    Args:
        input_shape: `(length,)`; tokens are integers from 0 to `num_classes` - 1.
        num_classes: The number of characters.
    """
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(input_shape, dtype="int32"),
            tf.keras.layers.Embedding(num_classes, 8),
            tf.keras.layers.LSTM(256, return_sequences=True),
            tf.keras.layers.LSTM(256, return_sequences=True),
            tf.keras.layers.Dense(num_classes),
        ],
        name="char_lstm",
    )
