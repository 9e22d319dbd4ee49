"""Factorizations of the matrix of prefix sums, for noise that is correlated over steps.

A matrix mechanism releases C x + z instead of x + z, for the steps' sums x, independent noise z and
a lower-triangular Toeplitz matrix C, which is given by its first column; what training sees is
x + C^-1 z. With C the square root of the prefix-sum matrix, prefix sums have little error.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from scipy import fft, optimize, signal


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


def inverse(coefficients: Sequence[float] | np.ndarray, steps: int) -> np.ndarray:
    """Returns the first column, [steps], of the inverse of a lower-triangular Toeplitz matrix."""
    impulse = np.zeros(steps)
    impulse[0] = 1.0
    return signal.lfilter([1.0], coefficients, impulse)


@functools.cache
def optimized(bands: int, steps: int) -> tuple[float, ...]:
    """Returns the first column of the banded C under which prefix sums have the least error.

    That is the column of `bands` coefficients c, positive and not increasing, with the least
    `prefix_error` times its norm, which is what one member moves (Choquette-Choo et al. 2023, arXiv
    2306.08153; by gradients over Toeplitz matrices as in McKenna 2024, arXiv 2405.15913).
    Not increasing, its inverse does not grow (Eneström and Kakeya).

    Args:
        bands: The number of coefficients, at least 1.
        steps: The number of steps of the whole run, at least 1.
    """
    left = np.arange(steps, 0, -1.0)
    size = fft.next_fast_len(2 * steps - 1, real=True)
    known = min(bands, steps)

    def column_of(logarithms):
        """Returns the column whose coefficients have these logarithms of successive ratios."""
        return np.exp(np.concatenate([[0.0], np.cumsum(logarithms)]))

    def loss(logarithms):
        """Returns the logarithm of the squared product, and its gradient."""
        column = column_of(logarithms)
        inverted = inverse(column, steps)
        errors = np.cumsum(inverted)
        total = left @ errors**2
        # The derivative of the errors by c_j is minus their convolution with the inverse, j later.
        spectrum = fft.rfft(errors, size) * fft.rfft(inverted, size)
        moved = fft.rfft(fft.irfft(spectrum, size)[:steps], size)
        slopes = fft.irfft(fft.rfft(left * errors, size) * np.conj(moved), size)[:known]
        norm = column @ column
        slopes = 2 * column / norm - 2 * np.pad(slopes, (0, bands - known)) / total
        by_ratio = np.cumsum((slopes * column)[:0:-1])[::-1].copy()
        return np.log(total) + np.log(norm), by_ratio

    if bands == 1:
        return (1.0,)
    start = np.diff(np.log(square_root(bands)))
    minimum = optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(None, -1e-6)] * (bands - 1)
    )
    return tuple(map(float, column_of(minimum.x)))


def prefix_error(column: Sequence[float] | np.ndarray, steps: int) -> float:
    """Returns the root mean square error of the prefix sums of C^-1 z, for z of deviation 1.

    Args:
        column: The first column of C, up to its last band.
        steps: Over how many prefix sums the mean goes, at least 1.
    """
    errors = np.cumsum(inverse(column, steps))
    return math.sqrt(np.arange(steps, 0, -1.0) @ errors**2 / steps)


def sensitivity(column: Sequence[float] | np.ndarray, separation: int) -> float:
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


@functools.cache
def tree_variance(level: int) -> Fraction:
    """Returns the variance of the fresh part of a node of 2^level leaves.

    The unit is the variance of a node's own noise. A node's estimate weighs its own noise and the
    sum of the two estimates below it by the inverse of their variances (Honaker 2015), so its own
    by 2^level / (2^(level+1) - 1). The estimate on the left was released before. All the rest came
    with the last leaf: a node's own noise and the fresh part of the node on the right.
    """
    if not level:
        return Fraction(1)
    own_weight = Fraction(2**level, 2 ** (level + 1) - 1)
    return own_weight**2 + (1 - own_weight) ** 2 * tree_variance(level - 1)


@functools.cache
def tree_sensitivity(steps: int) -> float:
    """Returns by how much one leaf moves what a binary tree releases, with Honaker's estimates.

    Each step releases the difference of two prefix sums. With noise A z over the steps, for the
    nodes' own noise z, the result is the root of the largest diagonal entry of (A A^T)^-1. The
    releases tell the estimates of the nodes that the sums are made of, and each of these is a fixed
    combination of those that it replaces and a fresh part, independent of the others. A member's
    own leaf completes a node of some level k, and moves its fresh part by 1. Then, a release at a
    time, a node of a higher level h takes the place of the last one, of level k: it weighs that one
    by (2^(k+1) - 1) / (2^(h+1) - 1), and its fresh part moves by what is left. Every sequence of
    levels belongs to some leaf; the worst one counts.

    Args:
        steps: The number of leaves, at least 1.

    Returns:
        The L2 norm of the moves over the deviations of the fresh parts, at least 1, where a node's
        own noise has a deviation of 1.
    """
    # The worst sum of squares up to a node, by its level.
    worst: list[Fraction] = []
    for level in range(steps.bit_length()):
        variance = tree_variance(level)
        replaced = (Fraction(2 ** (below + 1) - 1, 2 ** (level + 1) - 1) for below in range(level))
        later = [sum_ + (1 - w) ** 2 / variance for sum_, w in zip(worst, replaced, strict=True)]
        worst.append(max([1 / variance, *later]))
    return math.sqrt(max(worst))
