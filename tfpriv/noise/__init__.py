"""Noise for everybody: whole numbers from an exact discrete Gaussian, and the grid they lie on.

A release is `width * (round(sum / width) + noise)`, for which no low bit of the sum matters.
Numpy and a library in C++; no TensorFlow.
"""

from tfpriv.noise.grid import release, step_width
from tfpriv.noise.mechanisms import (
    BandedNoise,
    IndependentNoise,
    Noise,
    TreeNoise,
)

__all__ = [
    "BandedNoise",
    "IndependentNoise",
    "Noise",
    "TreeNoise",
    "release",
    "step_width",
]
