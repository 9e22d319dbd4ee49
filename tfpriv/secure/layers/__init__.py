"""Keras layers on shares, a file a family: what a layer is in inference, and in training.

Each file registers its layers when it is imported; see `registry`.
"""

from tfpriv.secure.layers import activation, convolution, dense, normalization, pooling, shapes
from tfpriv.secure.layers.registry import register, stages_of, trained_of

__all__ = ["BUILT_IN", "register", "stages_of", "trained_of"]

BUILT_IN = (dense, convolution, pooling, normalization, shapes, activation)
