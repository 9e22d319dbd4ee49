"""Per-example gradients of single layers, without a backward pass for each example."""

import tensorflow as tf

from tfpriv.central.layer_rules.convolution import conv2d
from tfpriv.central.layer_rules.dense import dense
from tfpriv.central.layer_rules.rule import Materialized, PerExample, Rule, Tap

# By the layer's very type: a subclass may compute something else.
RULES: dict[type, Rule] = {
    tf.keras.layers.Conv2D: conv2d,
    tf.keras.layers.Dense: dense,
}

__all__ = ["RULES", "Materialized", "PerExample", "Rule", "Tap"]
