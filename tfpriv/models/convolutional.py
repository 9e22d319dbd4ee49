"""Convolutional models for images."""

from collections.abc import Sequence

import tensorflow as tf


def cnn_mcmahan(input_shape: Sequence[int], num_classes: int) -> tf.keras.Model:
    """Returns the CNN of McMahan et al. 2017 (arXiv 1602.05629), section 3.

    Two 5x5 convolutions with 32 and 64 channels, each followed by 2x2 max pooling, then 512 ReLU
    units; 1,663,370 parameters on MNIST.

    Args:
        input_shape: `(height, width, channels)`, at least 4 x 4 pixels.
        num_classes: The number of logits.
    """
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(input_shape),
            tf.keras.layers.Conv2D(32, 5, padding="same", activation="relu"),
            tf.keras.layers.MaxPool2D(),
            tf.keras.layers.Conv2D(64, 5, padding="same", activation="relu"),
            tf.keras.layers.MaxPool2D(),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(512, activation="relu"),
            tf.keras.layers.Dense(num_classes),
        ],
        name="cnn_mcmahan",
    )


def cnn_tutorial(input_shape: Sequence[int], num_classes: int) -> tf.keras.Model:
    """Returns the small CNN of TensorFlow Privacy's tutorial and Opacus's MNIST example.

    26,010 parameters on MNIST.

    Args:
        input_shape: `(height, width, channels)`, at least 13 x 13 pixels.
        num_classes: The number of logits.
    """
    return _small_cnn("cnn_tutorial", input_shape, num_classes, "relu")


def cnn_tanh(input_shape: Sequence[int], num_classes: int) -> tf.keras.Model:
    """Returns `cnn_tutorial` with tanh for ReLU (Papernot et al. 2020, arXiv 2007.14191).

    Bounded activations keep gradients smaller, so clipping loses less of them.

    Args:
        input_shape: `(height, width, channels)`, at least 13 x 13 pixels.
        num_classes: The number of logits.
    """
    return _small_cnn("cnn_tanh", input_shape, num_classes, "tanh")


def _small_cnn(name, input_shape, num_classes, activation):
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(input_shape),
            tf.keras.layers.Conv2D(16, 8, strides=2, padding="same", activation=activation),
            tf.keras.layers.MaxPool2D(2, strides=1),
            tf.keras.layers.Conv2D(32, 4, strides=2, padding="valid", activation=activation),
            tf.keras.layers.MaxPool2D(2, strides=1),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(32, activation=activation),
            tf.keras.layers.Dense(num_classes),
        ],
        name=name,
    )
