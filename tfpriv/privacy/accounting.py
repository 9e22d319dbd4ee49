"""Epsilon for an event, and the noise for an epsilon, by dp_accounting."""

import dataclasses
import math
from collections.abc import Callable

import dp_accounting
from dp_accounting import pld, rdp
from scipy import optimize

from tfpriv.errors import UserError

ADD_OR_REMOVE = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
REPLACE = dp_accounting.NeighboringRelation.REPLACE_ONE
_LARGEST_NOISE_MULTIPLIER = 1e5
_SMALLEST_NOISE_MULTIPLIER = 1e-2
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epsilon:
    """The epsilon of one event at one delta, under two accountants.

    Attributes:
        pld: By privacy loss distributions, the tighter; None if no bound by it is known for the
            event.
        rdp: By Rényi differential privacy.
    """

    pld: float | None
    rdp: float

    @property
    def value(self) -> float:
        """The epsilon to report: PLD's where it is known, RDP's where not.

        Both are upper bounds; PLD's discretization can leave it above RDP's by a hair.
        """
        return self.rdp if self.pld is None else min(self.pld, self.rdp)

    @property
    def accountant(self) -> str:
        """The accountant behind `value`: "PLD" or "RDP"."""
        return "RDP" if self.pld is None else "PLD"


ZERO = Epsilon(pld=0.0, rdp=0.0)


def epsilon_rdp(event: dp_accounting.DpEvent, relation, delta: float) -> float:
    """Returns epsilon by Rényi differential privacy (Mironov 2017)."""
    return rdp.RdpAccountant(neighboring_relation=relation).compose(event).get_epsilon(delta)


def epsilon_pld(event: dp_accounting.DpEvent, delta: float, scale: float) -> float:
    """Returns epsilon by privacy loss distributions (Doroshenko et al. 2022), add or remove one.

    Args:
        event: What was released.
        delta: The probability left over, in (0, 1).
        scale: About how large epsilon is. Losses are rounded up to a multiple of
            max(1e-4, 1e-4 scale), which keeps the time below a second and the result a bound.
    """
    accountant = pld.PLDAccountant(
        neighboring_relation=ADD_OR_REMOVE,
        value_discretization_interval=1e-4 * max(1.0, scale),
    )
    return accountant.compose(event).get_epsilon(delta)


def calibrate(epsilon_of: Callable[[float], float], target_epsilon: float, start: float) -> float:
    """Returns the smallest noise multiplier, to 0.1 %, whose epsilon is at most the target.

    Args:
        epsilon_of: Epsilon as a decreasing function of the noise multiplier.
        target_epsilon: The epsilon to stay within, above 0.
        start: A noise multiplier to start from, above 0.

    Raises:
        UserError: if the target is not a positive number or no noise is enough.
    """
    if not (target_epsilon > 0 and math.isfinite(target_epsilon)):
        raise UserError(f"target_epsilon is {target_epsilon}; it must be a number above 0.")

    def excess(log_noise):
        return math.log(epsilon_of(math.exp(log_noise)) / target_epsilon)

    # Epsilon falls about as 1 / noise: a step of the excess itself lands beyond the root or close.
    low = high = math.log(start)
    while excess(high) > 0:
        low, high = high, high + 0.3
        if high > math.log(_LARGEST_NOISE_MULTIPLIER):
            raise UserError(
                f"no noise multiplier up to {_LARGEST_NOISE_MULTIPLIER:g} gives an epsilon of "
                f"{target_epsilon}; raise target_epsilon."
            )
    while low == high or excess(low) <= 0:
        high, low = low, low - 0.3
        if low < math.log(_SMALLEST_NOISE_MULTIPLIER):
            raise UserError(
                f"a target_epsilon of {target_epsilon} needs next to no noise; set "
                "noise_multiplier instead."
            )
    root = optimize.brentq(excess, low, high, xtol=_TOLERANCE / 2)
    while excess(root) > 0:
        root += _TOLERANCE / 2
    return math.exp(root)


def check_delta(delta: float, population: int) -> str | None:
    """Refuses a delta outside (0, 1); returns a warning for one not below 1 / population."""
    if not 0 < delta < 1:
        raise UserError(f"delta is {delta}; it must be above 0 and below 1.")
    if delta * population >= 1:
        return (
            f"delta = {delta:g} is not below 1/{population}, one over the population: a mechanism "
            "that publishes one member outright would pass; choose a smaller delta."
        )
    return None
