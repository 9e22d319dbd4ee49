"""The noise of each mechanism, as one flat vector of whole steps of the grid at a time.

A correlated mechanism adds n_t = z_t + round(a_t) to the integers X_t of step t, with z_t fresh and
a_t = L_t(n_1, ..., n_(t-1)) a fixed linear function of the noise before. It sees no sum of private
data, and yet it is proved as if it did: given the releases y_s = X_s + n_s so far,

    y_t = u_t + z_t,     u_t = X_t + round(L_t(y_1 - X_1, ..., y_(t-1) - X_(t-1))),

where u_t is an integer that does not depend on z_t. Between neighbors it moves by at most what the
real-valued mechanism moves by, X'_t - X_t - L_t(X'_1 - X_1, ...), and a rounding of each
coordinate, whatever was released before. The noise looks the same in all directions, so that this
is as private as one Gaussian release of which a member moves row t by that bound; sampling of
members changes nothing about the argument. Here z_t is a discrete Gaussian on integers, which is a
post-processing of the Gaussian (see `discrete_gaussian`), and `width` pays for the roundings.
"""

import abc
import math
from collections.abc import Sequence

import numpy as np

from tfpriv.errors import UserError
from tfpriv.noise import factorization
from tfpriv.noise.discrete_gaussian import Sampler
from tfpriv.noise.grid import step_width

# More steps than a run has, for which the arithmetic of banded noise is bounded.
_MOST_STEPS = 2**18
# A number of the sampler's times the relative rounding of float64.
_FLOAT_STEPS = 2.0 ** (31 - 53)


class Noise(abc.ABC):
    """The noise of the steps of a run, one vector after the other.

    Attributes:
        width: The width of the grid, as a fraction of the clip.
    """

    width: float

    @abc.abstractmethod
    def next(self) -> np.ndarray:
        """Returns the noise of the next step in widths of the grid, int64 [size]."""

    @abc.abstractmethod
    def restart(self) -> None:
        """Starts anew; no number that was drawn before comes again."""


class IndependentNoise(Noise):
    """Independent discrete Gaussian noise in each step."""

    def __init__(self, size: int, noise_multiplier: float) -> None:
        """Prepares the noise.

        Args:
            size: How many numbers a step needs.
            noise_multiplier: Standard deviation of each, over the clip, above 0.

        Raises:
            UserError: if the grid would be too coarse.
        """
        self.width = step_width(noise_multiplier, size)
        self._size = size
        self._sampler = Sampler()

    def next(self) -> np.ndarray:
        """Returns the noise of the next step in widths of the grid, int64 [size]."""
        return self._sampler.draw(self._size)

    def restart(self) -> None:
        """Does nothing: every step is a fresh start."""


class TreeNoise(Noise):
    """The noise of binary-tree aggregation, as differences between successive prefix sums.

    Kairouz et al. 2021 (arXiv 2103.00039), section 3, with the estimates of Honaker 2015: a node's
    own noise and the estimate from the two nodes below it, weighted by the inverse of their
    variances. A node of 2^h leaves weighs its own by 2^h / (2^(h+1) - 1); multiplied out, the node
    that a step completes has the noise

        e_h = z + sum over k < h of (2^(k+1) - 1) / (2^(h+1) - 1) e_k

    with e_k of the nodes that it replaces. All that is fresh in it, the noise of the step's leaf
    and of the nodes above, enters z and nothing else that is released, so z is drawn at once.
    """

    def __init__(self, size: int, noise_multiplier: float, steps: int) -> None:
        """Starts a tree.

        Args:
            size: How many numbers a step needs.
            noise_multiplier: Standard deviation of a node's own noise, over the clip, above 0.
            steps: The largest number of steps of a tree.

        Raises:
            UserError: if the grid would be too coarse.
        """
        levels = steps.bit_length()
        # A leaf's node is replaced once a level at most, by a release whose z has a third of a
        # node's variance or more: each moves by a rounding of less than two steps.
        self.width = step_width(noise_multiplier, size, 1 + 2 * math.sqrt(3 * levels))
        self._size = size
        self._steps = steps
        self._sampler = Sampler()
        self._step = 0
        # By level, the noise of the last complete node; whole numbers below 2^53.
        self._nodes = np.zeros([levels, size])

    def next(self) -> np.ndarray:
        """Returns the noise of the next step; see `Noise`.

        Raises:
            ValueError: if the tree is complete.
        """
        if self._step == self._steps:
            raise ValueError(f"the tree has no more than {self._steps} steps; start it anew.")
        self._step += 1
        # The step completes a node at the level of its lowest set bit, over one of each below.
        level = (self._step & -self._step).bit_length() - 1
        noise = self._sampler.draw(self._size, factorization.tree_variance(level))
        replaced = self._nodes[:level]
        weights = (2.0 ** np.arange(1, level + 1) - 1) / (2.0 ** (level + 1) - 1)
        noise += np.rint((weights - 1) @ replaced).astype(np.int64)
        self._nodes[level] = noise + replaced.sum(axis=0)
        return noise

    def restart(self) -> None:
        """Starts a new tree; no number of the old one comes again."""
        self._step = 0


class BandedNoise(Noise):
    """C^-1 z for independent z and a lower-triangular Toeplitz matrix C, step by step.

    Either C is banded, and a step's noise is solved for from those before, or its inverse is. There
    the rounding of a step is passed on to the next ones as a part of z, so that it moves C times
    the releases in its own row alone.
    """

    def __init__(
        self,
        size: int,
        noise_multiplier: float,
        coefficients: Sequence[float] | np.ndarray,
        *,
        is_inverse: bool,
    ) -> None:
        """Starts a mechanism.

        Args:
            size: How many numbers a step needs.
            noise_multiplier: Standard deviation of z, over the clip, above 0.
            coefficients: The first column of C, or of its inverse, up to its last band; the first
                is not 0.
            is_inverse: Whether they are those of the inverse.

        Raises:
            UserError: if the grid would be too coarse.
        """
        column = np.asarray(coefficients, np.float64)
        first, rest = column[0], column[1:] / column[0]
        # Of 1, the fresh noise of a step takes so much.
        first_scale = abs(first if is_inverse else 1 / first)
        rows = _MOST_STEPS if is_inverse else len(rest)
        growth = np.abs(factorization.inverse(column / first, _MOST_STEPS)).sum()
        slack = 2 * _FLOAT_STEPS * len(column) * np.abs(rest).sum() * growth
        rounding = 1 + math.sqrt(rows) * (1 + slack) if len(rest) else 1.0
        self.width = step_width(noise_multiplier * first_scale, size, rounding)
        self._size = size
        self._sampler = Sampler()
        self._step = 0
        self._is_inverse = is_inverse
        self._weights = rest if is_inverse else -rest
        # What the weights are applied to, a row a step, in turn.
        self._before = np.zeros([len(rest), size])

    def next(self) -> np.ndarray:
        """Returns the noise of the next step; see `Noise`.

        Raises:
            UserError: if there were too many steps since the start.
        """
        if self._step == _MOST_STEPS:
            raise UserError(
                f"banded noise is proved for {_MOST_STEPS} steps in a row; take no more of them."
            )
        fresh, count = self._sampler.draw(self._size), len(self._weights)
        if count:
            # Row r holds what came (step - 1 - r) mod count steps before the last one.
            ages = (self._step - 1 - np.arange(count)) % count
            past = self._weights[ages] @ self._before
            noise = fresh + np.rint(past).astype(np.int64)
            self._before[self._step % count] = noise - past if self._is_inverse else noise
        else:
            noise = fresh
        self._step += 1
        return noise

    def restart(self) -> None:
        """Starts anew; no number that was drawn before comes again."""
        self._step = 0
        self._before[:] = 0
