"""Epsilon for an event, and the noise for an epsilon, by dp_accounting."""

import ast
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import dp_accounting
import numpy as np
from dp_accounting import rdp
from dp_accounting.pld import pld_pmf, privacy_loss_distribution, privacy_loss_mechanism
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

# What events are made of, by their names in `repr`.
_EVENTS = (
    "ComposedDpEvent",
    "GaussianDpEvent",
    "PoissonSampledDpEvent",
    "SampledWithoutReplacementDpEvent",
    "SelfComposedDpEvent",
)

# Equal releases, or several such groups of them.
Event: TypeAlias = dp_accounting.SelfComposedDpEvent | dp_accounting.ComposedDpEvent


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
        return self.rdp if self.pld is None else min(self.pld, self.rdp)

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
    orders = tuple(rdp.RdpAccountant(orders, relation).orders)
    composed = sum(part.count * _divergences(part.event, relation, orders) for part in parts(event))
    rounding = _releases(event) * _RDP_ROUNDING / (np.array(orders) - 1)
    return float(rdp.compute_epsilon(orders, np.maximum(composed, 0) + rounding, delta)[0])


@functools.lru_cache(maxsize=64)
def _divergences(release, relation, orders):
    """Returns the Rényi divergences of one release at some orders.

    They take a second or two, and each evaluation of a run composes the same once more.
    """
    return rdp.RdpAccountant(orders, relation).compose(release).rdp


def epsilon_pld(event: Event, delta: float, scale: float) -> float | None:
    """Returns epsilon by privacy loss distributions (Doroshenko et al. 2022).

    Args:
        event: What was released: read for replacing one member if there are subsets of a fixed size
            in it (see `tfpriv.privacy.subsets`), else for adding or removing one.
        delta: The probability left over, in (0, 1).
        scale: About how large epsilon is. Losses are rounded up to a multiple of 1e-4 times the
            power of two below it, at least 1e-4, which keeps the time to seconds and the result a
            bound; and the losses of a step serve many evaluations of a run.

    Returns:
        Epsilon, or None where this arithmetic has no bound: for an epsilon beyond 1e6, or a delta
        as small as the rounding of the Fourier transform that composes the steps.
    """
    rounding = _fourier_rounding(event)
    if scale > _LARGEST_PLD or delta <= 2 * rounding:
        return None
    loss = _privacy_loss(event, 1e-4 * 2.0 ** math.floor(math.log2(max(1.0, scale))))
    epsilon = loss.get_epsilon_for_delta(delta - rounding)
    return float(epsilon) if math.isfinite(epsilon) else None


def deltas(event: Event, epsilons: np.ndarray, interval: float) -> np.ndarray:
    """Returns the least deltas at which an event is known to be (epsilon, delta)-DP, by PLD.

    Args:
        event: What was released, read as by `epsilon_pld`.
        epsilons: [n], each at least 0.
        interval: Losses are rounded up to a multiple of this, above 0.

    Returns:
        [n] in [0, 1].
    """
    loss = _privacy_loss(event, interval)
    computed = np.asarray(loss.get_delta_for_epsilon(epsilons), np.float64)
    return np.clip(computed + _fourier_rounding(event), 0.0, 1.0)


def _privacy_loss(event, interval):
    """Returns the privacy loss distribution of an event."""
    if has_subsets(event):
        return subsets.compose(parts(event), interval)
    losses = [_loss_of_group(part, interval) for part in parts(event)]
    return functools.reduce(lambda total, loss: total.compose(loss), losses)


def _loss_of_group(part, interval):
    """Returns the privacy loss of equal releases, for adding or removing a member."""
    if not isinstance(part.event, dp_accounting.PoissonSampledDpEvent):
        # Gaussian releases of everybody are together one of less noise.
        return _gaussian_loss(part.event.noise_multiplier / math.sqrt(part.count), 1.0, interval)
    release, probability = part.event.event, part.event.sampling_probability
    loss = _gaussian_loss(release.noise_multiplier, probability, interval)
    return loss.self_compose(part.count)


@functools.lru_cache(maxsize=16)
def _gaussian_loss(noise_multiplier, sampling_probability, interval):
    """Returns the privacy loss of a Gaussian release of a Poisson sample.

    It is that of dp_accounting's `from_gaussian_mechanism`, which takes a number of the grid at a
    time and so a hundred times as long.
    """

    def losses(adjacency):
        release = privacy_loss_mechanism.GaussianPrivacyLoss(
            noise_multiplier, sampling_prob=sampling_probability, adjacency_type=adjacency
        )
        ends = release.connect_dots_bounds()
        first = math.floor(ends.epsilon_lower / interval)
        last = math.ceil(ends.epsilon_upper / interval)
        deltas = gaussian_deltas(release, np.arange(first, last + 1) * interval)
        # Rounding may let one rise again by its last digits.
        deltas = np.maximum.accumulate(deltas[::-1])[::-1]
        return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(interval, first, last, deltas)

    adjacency = privacy_loss_mechanism.AdjacencyType
    if sampling_probability == 1:
        return privacy_loss_distribution.PrivacyLossDistribution(losses(adjacency.REMOVE))
    return privacy_loss_distribution.PrivacyLossDistribution(
        losses(adjacency.REMOVE), losses(adjacency.ADD)
    )


def gaussian_deltas(
    release: privacy_loss_mechanism.GaussianPrivacyLoss, epsilons: np.ndarray
) -> np.ndarray:
    """Returns `release.get_delta_for_epsilon(epsilons)`, of all numbers at once.

    Args:
        release: Of sensitivity 1.
        epsilons: [n].
    """
    is_removed = release.adjacency_type == privacy_loss_mechanism.AdjacencyType.REMOVE
    sign = 1.0 if is_removed else -1.0
    q = release.sampling_prob
    # The loss is log(1 - q + q exp(l)), or less its negative where one is added, of a loss l of the
    # release of everybody, which falls along the axis.
    deltas = -np.expm1(np.minimum(epsilons, 0.0)) if is_removed else np.zeros_like(epsilons)
    can_be = sign * epsilons > (math.log1p(-q) if q < 1 else -math.inf)
    loss = sign * epsilons[can_be]
    positive, negative = np.maximum(loss, 0.0), np.minimum(loss, 0.0)
    with np.errstate(divide="ignore"):
        of_all = np.where(
            loss > 0,
            positive + np.log1p((q - 1) * np.exp(-positive)) - math.log(q),
            np.log1p(np.expm1(negative) / q) if q < 1 else negative,
        )
    cut = -sign * (0.5 + of_all * release.standard_deviation**2)
    deltas[can_be] = release.mu_upper_cdf(cut) - np.exp(
        epsilons[can_be] + release.mu_lower_log_cdf(cut)
    )
    return np.clip(deltas, 0.0, 1.0)


def _fourier_rounding(event):
    """Returns what to add to a delta that is composed by Fourier transforms.

    Rounding moved it by up to a fourth of this, in comparison with sums that do not cancel.
    """
    return _releases(event) * np.finfo(float).eps


def parts(event: Event) -> list[dp_accounting.SelfComposedDpEvent]:
    """Returns the groups of equal releases in an event."""
    return event.events if isinstance(event, dp_accounting.ComposedDpEvent) else [event]


def checked(event: Event, name: str) -> Event:
    """Returns an event, if it is one that both accountants are right for.

    Args:
        event: What a mechanism and a sampler say that a run releases.
        name: The mechanism's, for the message.

    Raises:
        UserError: if it is something else.
    """
    if isinstance(event, dp_accounting.ComposedDpEvent | dp_accounting.SelfComposedDpEvent) and all(
        isinstance(part, dp_accounting.SelfComposedDpEvent)
        and part.count >= 0
        and part.count == int(part.count)
        and _is_accounted(part.event)
        for part in parts(event)
    ):
        return event
    raise UserError(
        f"the mechanism {name} says that it releases {event!r}, for which there is no accounting "
        "here; let it be a SelfComposedDpEvent, or a ComposedDpEvent of several, of a "
        "GaussianDpEvent with noise above 0, as it is or in a PoissonSampledDpEvent or "
        "SampledWithoutReplacementDpEvent."
    )


def _is_accounted(release):
    if isinstance(release, dp_accounting.PoissonSampledDpEvent):
        if not 0 < release.sampling_probability <= 1:
            return False
        release = release.event
    elif isinstance(release, dp_accounting.SampledWithoutReplacementDpEvent):
        if not 0 < release.sample_size <= release.source_dataset_size:
            return False
        release = release.event
    is_gaussian = isinstance(release, dp_accounting.GaussianDpEvent)
    return is_gaussian and 0 < release.noise_multiplier < math.inf


def read_event(text: str) -> Event:
    """Returns the event whose `repr` a text is, as the privacy statement holds it.

    Raises:
        ValueError: if it is the `repr` of no such event.
    """

    def value(node):
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.List):
            return [value(element) for element in node.elts]
        is_event = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if is_event and node.func.id in _EVENTS and not node.args:
            named = {keyword.arg: value(keyword.value) for keyword in node.keywords}
            return getattr(dp_accounting, node.func.id)(**named)
        raise ValueError(f"{ast.unparse(node)} is no event of tfpriv.")

    try:
        return value(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"{text} is no event of tfpriv: {error}.") from error


def with_scaled_noise(event: Event, factor: float) -> Event:
    """Returns an event with `factor` times the noise in each of its Gaussian releases."""
    if isinstance(event, dp_accounting.GaussianDpEvent):
        return dp_accounting.GaussianDpEvent(event.noise_multiplier * factor)
    if isinstance(event, dp_accounting.ComposedDpEvent):
        parts_scaled = [with_scaled_noise(part, factor) for part in event.events]
        return dp_accounting.ComposedDpEvent(parts_scaled)
    scaled = with_scaled_noise(event.event, factor)
    if isinstance(event, dp_accounting.SelfComposedDpEvent):
        return dp_accounting.SelfComposedDpEvent(scaled, event.count)
    if isinstance(event, dp_accounting.PoissonSampledDpEvent):
        return dp_accounting.PoissonSampledDpEvent(event.sampling_probability, scaled)
    return dp_accounting.SampledWithoutReplacementDpEvent(
        event.source_dataset_size, event.sample_size, scaled
    )


def has_subsets(event: Event) -> bool:
    """Returns whether there are releases of subsets of a fixed size in an event."""
    return any(
        isinstance(part.event, dp_accounting.SampledWithoutReplacementDpEvent)
        for part in parts(event)
    )


def sampling_probability(part: dp_accounting.SelfComposedDpEvent) -> float:
    """Returns the probability of a member to be in a sample of a group of equal releases."""
    if isinstance(part.event, dp_accounting.PoissonSampledDpEvent):
        return part.event.sampling_probability
    if isinstance(part.event, dp_accounting.SampledWithoutReplacementDpEvent):
        return part.event.sample_size / part.event.source_dataset_size
    return 1.0


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
