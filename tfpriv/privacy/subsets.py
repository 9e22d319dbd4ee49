"""Privacy loss of Gaussian releases of random subsets of a fixed size, when a member is replaced.

Let a step release the clipped sum of m of N members with Gaussian noise, and let two populations
differ in one member, who is in the subset with probability q = m / N. Write D(a) for the
hockey-stick divergence of order a = exp(epsilon) between the two distributions of the release.

- For a >= 1, D(a) <= q G(1 + (a - 1) / q), where G bounds the divergence of the release of a subset
  when one of its members is replaced (Balle, Barthe and Gaboardi 2018, arXiv 1807.01647, Theorem
  10): a subset with the member differs in one member from one without, and from itself with the
  member replaced. G is that of the Gaussian mechanism whose sum moves by twice the clip. The right
  side is the divergence of (1 - q) N(0, s^2) + q N(1, s^2) from N(0, s^2), with s half the noise
  multiplier.
- For a < 1, D(a) = 1 - a + a D'(1 / a), with D' between the two in the other order. Replacing is
  symmetric, so the first case bounds D' as well, and one curve bounds both orders.

The curve is 1 at 0, does not increase, is convex and at least 1 - a: it is the divergence curve of
one pair of distributions, which therefore dominates every step. The product of dominating pairs
dominates the composition, also when a step depends on those before (Zhu, Dong and Wang 2022, arXiv
2106.08567, Proposition 8 and Theorem 10).
"""

import functools
import math
from collections.abc import Sequence

import dp_accounting
import numpy as np
from dp_accounting.pld import pld_pmf, privacy_loss_distribution
from scipy import special

# The grid of losses ends where a normal variable of variance 1 ends up with probability 1e-23.
_TAIL = 10.0


def divergence(epsilon: np.ndarray, noise_multiplier: float, probability: float) -> np.ndarray:
    """Returns the bound on the hockey-stick divergence of one release, replacing one member.

    Args:
        epsilon: Logarithms of the orders, of any sign and shape.
        noise_multiplier: Standard deviation over what replacing a member can move, above 0.
        probability: That of a member to be in the subset, in (0, 1].
    """
    size = np.abs(epsilon)
    # The logarithm of 1 + (exp(size) - 1) / probability.
    order = size + np.log1p((probability - 1) * np.exp(-size)) - math.log(probability)
    half, along = 1 / (2 * noise_multiplier), noise_multiplier * order
    bound = special.ndtr(half - along) - np.exp(order + special.log_ndtr(-half - along))
    bound = probability * np.clip(bound, 0, 1)
    return np.where(epsilon < 0, np.exp(-size) * bound - np.expm1(-size), bound)


def compose(
    parts: Sequence[dp_accounting.SelfComposedDpEvent], interval: float
) -> privacy_loss_distribution.PrivacyLossDistribution:
    """Returns the privacy loss of groups of Gaussian releases together, replacing one member.

    Args:
        parts: Each a number of equal Gaussian releases, of everybody or of subsets of a fixed size;
            their noise multiplier is over what replacing a member can move.
        interval: The distance between two losses of the grid, above 0. Losses are spread over it
            such that the result is an upper bound (Doroshenko et al. 2022, arXiv 2207.04380,
            Algorithm 1).
    """
    total = privacy_loss_distribution.identity(interval)
    for part in parts:
        event, probability = part.event, 1.0
        if isinstance(event, dp_accounting.SampledWithoutReplacementDpEvent):
            probability = event.sample_size / event.source_dataset_size
            event = event.event
        loss = _loss(event.noise_multiplier, probability, interval)
        total = total.compose(loss.self_compose(part.count))
    return total


@functools.lru_cache(maxsize=16)
def _loss(noise_multiplier, probability, interval):
    largest = (1 / (2 * noise_multiplier) + _TAIL) / noise_multiplier
    if probability < 1:
        largest = np.logaddexp(math.log1p(-probability), math.log(probability) + largest)
    last = math.ceil(largest / interval)
    deltas = divergence(np.arange(-last, last + 1) * interval, noise_multiplier, probability)
    # Rounding may let a divergence rise again by its last digits.
    deltas = np.maximum.accumulate(deltas[::-1])[::-1]
    # What lies beyond the last loss counts as lost, and below the first as the first.
    pmf = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(interval, -last, last, deltas)
    return privacy_loss_distribution.PrivacyLossDistribution(pmf)
