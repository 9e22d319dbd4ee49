"""Models made of dense layers, for tables and for flattened images."""

from collections.abc import Sequence

import tensorflow as tf


def logistic(input_shape: Sequence[int], num_classes: int) -> tf.keras.Model:
    """Returns multinomial logistic regression: one dense layer, no hidden one.

    With one output it is linear regression.

    Args:
        input_shape: The shape of one example.
        num_classes: The number of logits.
    """
    return _dense("logistic", input_shape, (), num_classes)


def two_nn(input_shape: Sequence[int], num_classes: int) -> tf.keras.Model:
    """Returns the 2NN of McMahan et al. 2017 (arXiv 1602.05629), section 3.

    Two hidden layers of 200 ReLU units; 199,210 parameters on MNIST.

    Args:
        input_shape: The shape of one example.
        num_classes: The number of logits.
    """
    return _dense("two_nn", input_shape, (200, 200), num_classes)


def mlp(input_shape: Sequence[int], num_classes: int) -> tf.keras.Model:
    """Returns a small network for tables: one hidden layer of 10 ReLU units.

    It is 10-10-1 on the 10 columns of diabetes. Few parameters suit tables of a few hundred rows,
    and differential privacy, whose noise grows with the number of parameters.

    Args:
        input_shape: The shape of one example.
        num_classes: The number of logits; 1 for regression.
    """
    return _dense("mlp", input_shape, (10,), num_classes)


def mlp_abadi(input_shape: Sequence[int], num_classes: int) -> tf.keras.Model:
    """Returns the network of Abadi et al. 2016 (arXiv 1607.00133), section 5.2.

    One hidden layer of 1,000 ReLU units; 71,010 parameters on 60 principal components of MNIST.

    Args:
        input_shape: The shape of one example.
        num_classes: The number of logits.
    """
    return _dense("mlp_abadi", input_shape, (1000,), num_classes)


def _dense(name, input_shape, hidden_units, num_outputs):
    layers = [tf.keras.layers.InputLayer(input_shape)]
    if len(input_shape) > 1:
        layers.append(tf.keras.layers.Flatten())
    layers += [tf.keras.layers.Dense(units, activation="relu") for units in hidden_units]
    layers.append(tf.keras.layers.Dense(num_outputs))
    return tf.keras.Sequential(layers, name=name)
