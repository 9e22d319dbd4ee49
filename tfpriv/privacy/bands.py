"""Chooses how many bands a banded mechanism has, and how far apart a member's steps lie."""

import dataclasses
from collections.abc import Iterator

from tfpriv.errors import UserError
from tfpriv.privacy.mechanisms import Banded
from tfpriv.privacy.plan import PrivacyPlan

# Where the inverse of C is banded; more of them change little.
_INVERSE_BANDS = 16


def fit(
    plan: PrivacyPlan,
    steps: int,
    *,
    target_epsilon: float | None,
    bands: int | None = None,
    separation: int | None = None,
) -> PrivacyPlan:
    """Returns a plan with all that its mechanism leaves open, and with noise for the target.

    Args:
        plan: Any plan.
        steps: The number of steps of the whole run, at least 1.
        target_epsilon: What the noise is calibrated for; None if the plan has its noise.
        bands: As for `fit_bands`; of no other mechanism.
        separation: As for `fit_bands`; of no other mechanism.

    Raises:
        UserError: as `fit_bands` and `PrivacyPlan.calibrate` do.
    """
    if isinstance(plan.mechanism, Banded):
        return fit_bands(
            plan, steps, bands=bands, separation=separation, target_epsilon=target_epsilon
        )
    return plan if target_epsilon is None else plan.calibrate(target_epsilon, steps)


def fit_bands(
    plan: PrivacyPlan,
    steps: int,
    *,
    bands: int | None = None,
    separation: int | None = None,
    target_epsilon: float | None = None,
) -> PrivacyPlan:
    """Returns the plan of a banded mechanism with the bands and the separation that were left open.

    With both open, they are the number at which prefix sums have the least expected error at the
    target (Choquette-Choo et al. 2023, arXiv 2306.08153, section 5): more bands mean less error for
    the same noise, and fewer mean amplification, as members are sampled from larger parts. One band
    is DP-SGD, which is among those compared. With one open, it is that of the other. Where the
    inverse of C is banded there is no amplification, so members take turns in a fixed order.

    Args:
        plan: A plan of `Banded` and `CyclicPoissonSampler`, whose own numbers do not matter.
        steps: The number of steps of the whole run, at least 1.
        bands: The number of bands, if it is fixed.
        separation: The least number of steps from one of a member's to its next, if it is fixed.
        target_epsilon: What the noise is calibrated for; None if the plan has its noise.

    Raises:
        UserError: if they are open and there is no target; if they do not fit the population or
            each other; if no noise reaches the target.
    """
    largest = max(1, int(plan.sampler.population // plan.sampler.expected_size))
    if _banded(plan).is_inverse:
        separation = separation or largest
        bands = bands or min(_INVERSE_BANDS, separation)
    if bands or separation:
        fixed = _with(plan, steps, bands or separation, separation or bands)
        return fixed if target_epsilon is None else fixed.calibrate(target_epsilon, steps)
    if target_epsilon is None:
        raise UserError(
            "with a noise multiplier that is given there is no telling which number of bands is "
            "best, as each has another epsilon; give bands too, or a target epsilon instead."
        )
    candidates = [_with(plan, steps, n, n) for n in _numbers(min(largest, steps))]
    best = min(
        candidates,
        key=lambda candidate: _error(
            candidate.calibrate(target_epsilon, steps, roughly=True), steps
        ),
    )
    if best is candidates[0]:
        return best.calibrate(target_epsilon, steps)
    # By all of the accounting, lest it be worse than DP-SGD.
    fitted = [candidate.calibrate(target_epsilon, steps) for candidate in (candidates[0], best)]
    return min(fitted, key=lambda candidate: _error(candidate, steps))


def _banded(plan: PrivacyPlan) -> Banded:
    assert isinstance(plan.mechanism, Banded)
    return plan.mechanism


def _with(plan, steps, bands, separation):
    mechanism = dataclasses.replace(_banded(plan), bands=bands, horizon=steps)
    sampler = dataclasses.replace(plan.sampler, separation=separation)
    return dataclasses.replace(plan, sampler=sampler, mechanism=mechanism)


def _error(plan: PrivacyPlan, steps: int) -> float:
    mechanism = _banded(plan)
    return mechanism.calibrated_multiplier * mechanism.prefix_error(steps)


def _numbers(largest) -> Iterator[int]:
    """Yields 1, and then numbers up to the largest that grow by about a half each time."""
    number = 1
    while number < largest:
        yield number
        number = max(number + 1, number * 3 // 2)
    yield largest
