"""Per-example gradients of single layers, without a backward pass for each example."""

import tensorflow as tf

from tfpriv.central.layer_rules.convolution import conv1d, conv2d, depthwise_conv2d
from tfpriv.central.layer_rules.dense import dense
from tfpriv.central.layer_rules.embedding import embedding
from tfpriv.central.layer_rules.normalization import group_normalization, layer_normalization
from tfpriv.central.layer_rules.recurrent import lstm
from tfpriv.central.layer_rules.rule import Materialized, PerExample, Rule, Tap, are_sure

# By the layer's very type: a subclass may compute something else.
RULES: dict[type, Rule] = {
    tf.keras.layers.Conv1D: conv1d,
    tf.keras.layers.Conv2D: conv2d,
    tf.keras.layers.Dense: dense,
    tf.keras.layers.DepthwiseConv2D: depthwise_conv2d,
    tf.keras.layers.Embedding: embedding,
    tf.keras.layers.GroupNormalization: group_normalization,
    tf.keras.layers.LSTM: lstm,
    tf.keras.layers.LayerNormalization: layer_normalization,
}

__all__ = ["RULES", "Materialized", "PerExample", "Rule", "Tap", "are_sure"]
