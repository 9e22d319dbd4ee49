"""Factorizations of the matrix of prefix sums, for noise that is correlated over steps.

A matrix mechanism releases C x + z instead of x + z, for the steps' sums x, independent noise z and
a lower-triangular Toeplitz matrix C, which is given by its first column; what training sees is
x + C^-1 z. With C the square root of the prefix-sum matrix, prefix sums have little error.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import signal


def square_root(bands: int) -> np.ndarray:
    """Returns the first column of the prefix-sum matrix's square root, up to its last band.

    c_0 = 1 and c_k = (2k - 1) / (2k) c_(k-1) (Fichtenberger et al. 2022, arXiv 2202.11205).

    Args:
        bands: The number of coefficients, at least 1.
    """
    k = np.arange(1, bands)
    return np.concatenate([[1.0], np.cumprod((2 * k - 1) / (2 * k))])


def inverse_square_root(bands: int) -> np.ndarray:
    """Returns the first column of the inverse of that square root, up to its last band.

    d_0 = 1 and d_k = c_k - c_(k-1), with c of `square_root` (arXiv 2505.12128).

    Args:
        bands: The number of coefficients, at least 1.
    """
    return np.diff(square_root(bands), prepend=0.0)


def inverse(coefficients: Sequence[float], steps: int) -> np.ndarray:
    """Returns the first column, [steps], of the inverse of a lower-triangular Toeplitz matrix."""
    impulse = np.zeros(steps)
    impulse[0] = 1.0
    return signal.lfilter([1.0], coefficients, impulse)


def sensitivity(column: Sequence[float], separation: int) -> float:
    """Returns by how much one member moves C x, in units of the clip.

    The member takes part in steps that lie at least `separation` apart. For coefficients that are
    nonnegative and do not increase, steps 0, separation, 2 separation, ... are the worst case
    (Kalinin and Lampert 2024, arXiv 2405.13763, Theorem 2).

    Args:
        column: [steps] the first column of C over the whole mechanism.
        separation: At least 1.

    Raises:
        ValueError: if the coefficients are negative or increase.
    """
    column = np.asarray(column)
    if np.any(column < 0) or np.any(np.diff(column) > 1e-12):
        raise ValueError("the coefficients are negative or increase; the bound does not hold.")
    total = np.zeros_like(column)
    for start in range(0, len(column), separation):
        total[start:] += column[: len(column) - start]
    return math.sqrt(float(total @ total))
