"""Epsilon for an event, and the noise for an epsilon, by dp_accounting."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import dp_accounting
import numpy as np
from dp_accounting import pld, rdp
from scipy import optimize

from tfpriv.errors import UserError
from tfpriv.privacy import subsets

ADD_OR_REMOVE = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
REPLACE = dp_accounting.NeighboringRelation.REPLACE_ONE
_NOISE_MULTIPLIERS = (1e-2, 1e5)
_TARGETS = (1e-3, 1e5)
_TOLERANCE = 1e-3
# A bound by these alone takes a hundredth of the time that one by all orders can take.
FEW_ORDERS = (2, 3, 4, 6, 8, 12, 18, 28, 42, 63, 128, 512, 1024)
# Above this, a step of PLD's grid would be a factor of e^100 between probabilities.
_LARGEST_PLD = 1e6
# The sums behind a step's Rényi divergence D at order a come out up to 4e-13 / (a - 1) below it, in
# comparison with quadrature; over many steps of tiny divergence that is all there is of epsilon.
_RDP_ROUNDING = 1e-12

# Equal releases, or several such groups of them.
Event = dp_accounting.SelfComposedDpEvent | dp_accounting.ComposedDpEvent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epsilon:
    """The epsilon of one event at one delta, under two accountants.

    Attributes:
        pld: By privacy loss distributions, the tighter; None where its arithmetic has no bound.
        rdp: By Rényi differential privacy.
    """

    pld: float | None
    rdp: float

    @property
    def value(self) -> float:
        """The epsilon to report: PLD's where it is known, RDP's where not.

        Both are upper bounds, and the lesser is taken: an epsilon in the thousands can be larger
        by PLD, whose grid is coarse there.
        """
        return self.pld if self.accountant == "PLD" else self.rdp

    @property
    def accountant(self) -> str:
        """The accountant behind `value`: "PLD" or "RDP"."""
        return "RDP" if self.pld is None or self.pld > self.rdp else "PLD"


ZERO = Epsilon(pld=0.0, rdp=0.0)


def epsilon_rdp(
    event: Event,
    relation: dp_accounting.NeighboringRelation,
    delta: float,
    orders: Sequence[float] | None = None,
) -> float:
    """Returns epsilon by Rényi differential privacy (Mironov 2017), rounding allowed for.

    Args:
        event: What was released.
        relation: The neighboring relation that `event` is to be read under.
        delta: The probability left over, in (0, 1).
        orders: The orders to choose the best of, each above 1; dp_accounting's if None.
    """
    accountant = rdp.RdpAccountant(orders, relation).compose(event)
    rounding = _releases(event) * _RDP_ROUNDING / (accountant.orders - 1)
    divergences = np.maximum(accountant.rdp, 0) + rounding
    return float(rdp.compute_epsilon(accountant.orders, divergences, delta)[0])


def epsilon_pld(event: Event, delta: float, scale: float) -> float | None:
    """Returns epsilon by privacy loss distributions (Doroshenko et al. 2022).

    Args:
        event: What was released: read for replacing one member if there are subsets of a fixed size
            in it (see `tfpriv.privacy.subsets`), else for adding or removing one.
        delta: The probability left over, in (0, 1).
        scale: About how large epsilon is. Losses are rounded up to a multiple of
            max(1e-4, 1e-4 scale), which keeps the time to seconds and the result a bound.

    Returns:
        Epsilon, or None where this arithmetic has no bound: for an epsilon beyond 1e6, or a delta
        as small as the rounding of the Fourier transform that composes the steps.
    """
    # Rounding moved delta by up to a fourth of this, in comparison with sums that do not cancel.
    rounding = _releases(event) * np.finfo(float).eps
    if scale > _LARGEST_PLD or delta <= 2 * rounding:
        return None
    interval = 1e-4 * max(1.0, scale)
    if has_subsets(event):
        loss = subsets.compose(parts(event), interval)
        epsilon = loss.get_epsilon_for_delta(delta - rounding)
    else:
        accountant = pld.PLDAccountant(
            neighboring_relation=ADD_OR_REMOVE, value_discretization_interval=interval
        )
        epsilon = accountant.compose(event).get_epsilon(delta - rounding)
    return float(epsilon) if math.isfinite(epsilon) else None


def parts(event: Event) -> list[dp_accounting.SelfComposedDpEvent]:
    """Returns the groups of equal releases in an event."""
    return event.events if isinstance(event, dp_accounting.ComposedDpEvent) else [event]


def has_subsets(event: Event) -> bool:
    """Returns whether there are releases of subsets of a fixed size in an event."""
    return any(
        isinstance(part.event, dp_accounting.SampledWithoutReplacementDpEvent)
        for part in parts(event)
    )


def _releases(event):
    return sum(part.count for part in parts(event))


def check_target(target_epsilon: float) -> None:
    """Refuses a target for which no noise can be sought."""
    if not _TARGETS[0] <= target_epsilon <= _TARGETS[1]:
        raise UserError(
            f"target_epsilon is {target_epsilon}; it must be a number from {_TARGETS[0]:g} to "
            f"{_TARGETS[1]:g}."
        )


def calibrate(epsilon_of: Callable[[float], float], target_epsilon: float, start: float) -> float:
    """Returns the smallest noise multiplier, to 0.1 %, whose epsilon is at most the target.

    Args:
        epsilon_of: Epsilon as a decreasing function of the noise multiplier.
        target_epsilon: The epsilon to stay within, as `check_target` takes it.
        start: A noise multiplier to start from, above 0.

    Raises:
        UserError: if no noise is enough, or next to none is.
    """

    @functools.cache
    def excess(log_noise):
        # exp(log(x)) can lie beyond x.
        epsilon = epsilon_of(min(math.exp(log_noise), _NOISE_MULTIPLIERS[1]))
        # Log against log is nearly a line; an epsilon of 0 is as good as a very small one.
        return math.log(max(epsilon, 1e-9) / target_epsilon)

    smallest, largest = (math.log(bound) for bound in _NOISE_MULTIPLIERS)
    low = high = min(max(math.log(start), smallest), largest)
    # Epsilon falls about as 1 / noise or faster: a step of the excess mostly lands beyond the root.
    step = 1.1 * abs(excess(low)) + _TOLERANCE
    while excess(high) > 0:
        if high == largest:
            raise UserError(
                f"no noise multiplier up to {_NOISE_MULTIPLIERS[1]:g} gives an epsilon of "
                f"{target_epsilon}; raise target_epsilon."
            )
        low, high, step = high, min(high + step, largest), 2 * step
    while excess(low) <= 0:
        if low == smallest:
            raise UserError(
                f"a target_epsilon of {target_epsilon} needs next to no noise; set "
                "noise_multiplier instead."
            )
        high, low, step = low, max(low - step, smallest), 2 * step
    root = optimize.brentq(excess, low, high, xtol=_TOLERANCE / 2)
    while excess(root) > 0:
        root += _TOLERANCE / 2
    return min(math.exp(root), _NOISE_MULTIPLIERS[1])


def check_delta(delta: float | None, population: int) -> str | None:
    """Refuses a delta outside (0, 1); returns a warning for one not below 1 / population."""
    if delta is None or not 0 < delta < 1:
        raise UserError(f"delta is {delta}; it must be above 0 and below 1.")
    if delta * population >= 1:
        return (
            f"delta = {delta:g} is not below 1/{population}, one over the population: a mechanism "
            "that publishes one member outright would pass; choose a smaller delta."
        )
    return None
