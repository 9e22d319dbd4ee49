"""The grid of what is released: a sum is rounded to it before noise of whole steps is added.

A release is then a function of integers that carry noise, and of nothing else: the low bits of a
sum, by which floating-point noise tells one sum from another (Mironov 2012), are gone before the
noise comes, and those of the release are the grid's.
"""

import math

import numpy as np

from tfpriv.errors import UserError
from tfpriv.noise import native
from tfpriv.noise.discrete_gaussian import PROVED_UNIT

# Rounding is paid for with so much more noise at most; for millions of weights it takes 10^-5.
_LARGEST_PRICE = 0.1
# In bytes.
_ALIGNMENT = 64


def step_width(noise_multiplier: float, size: int, rounding: float = 1.0) -> float:
    """Returns the width of a step, as a fraction of the clip.

    To round a sum of `size` numbers moves a member's contribution by up to sqrt(size) steps beyond
    the clip. The width is such that the noise, which is PROVED_UNIT steps, is `noise_multiplier`
    times the clip and that together.

    Args:
        noise_multiplier: The accounted ratio of a standard deviation to the clip, above 0.
        size: How many numbers are released at a time.
        rounding: The factor on sqrt(size) for a mechanism that rounds more than the sum.

    Raises:
        UserError: if rounding would cost more than a tenth of the noise.
    """
    price = noise_multiplier * math.sqrt(size) * rounding / PROVED_UNIT
    if price > _LARGEST_PRICE:
        raise UserError(
            f"a noise multiplier of {noise_multiplier:g} on {size} numbers is too much for the "
            "grid of the noise; have less noise or a smaller model."
        )
    return noise_multiplier / (PROVED_UNIT * (1 - price))


def release(total: np.ndarray, noise: np.ndarray, width: float) -> np.ndarray:
    """Returns width * (round(total / width) + noise), computed in float64.

    Args:
        total: The sum, float32 or float64 of any shape.
        noise: In steps, int64 of the same number of entries.
        width: The width of a step.

    Returns:
        The release, of the sum's shape and dtype.
    """
    total, noise = np.asarray(total, order="C"), np.ascontiguousarray(noise)
    if total.size != noise.size or noise.dtype != np.int64:
        raise ValueError(f"noise of {noise.size} {noise.dtype} for a sum of {total.size} numbers.")
    library = native.load()
    kernels = {np.float32: library.release_float, np.float64: library.release_double}
    released = _aligned(total.shape, total.dtype)
    kernels[total.dtype.type](
        total.ctypes.data, noise.ctypes.data, total.size, width, released.ctypes.data
    )
    return released


def _aligned(shape, dtype):
    """Returns an empty array that TensorFlow takes as it is; one aligned otherwise it copies."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)
