"""What guesses about the coins of one run say against the privacy that the run accounts for."""

import functools
import math

import numpy as np
from scipy import optimize, stats

from tfpriv.audit.one_run_bounds import Curve, refutes
from tfpriv.privacy import accounting

# The noise of one member of the family over that of the next.
_STEP = 1.02
# The noise goes from a 70th of what is accounted for to 70 times as much.
_MOST_STEPS = 214
_LARGEST_EPSILON = 64.0
_POINTS = 200
# Of exp(epsilon), whose logarithm this is, there must not be too much for a float.
_LARGEST_ORDER = 100.0
# The numbers of guesses that are thought of beforehand start here and grow by this factor.
_FEWEST, _GROWTH = 10, 1.3
# A good number of guesses does well even where fewer of them than usual are right.
_UNLUCKY = 0.1
# With a larger probability of never being drawn, a low score says little.
_OFTEN_ENOUGH = 0.1


class Claim:
    """The accounted mechanism, as one of a family: the same with more or with less noise.

    Each has a trade-off curve, between what an attacker gets right and wrong about one member.
    Right guesses that are too improbable under a curve refute it, whatever the attacker did (see
    `one_run_bounds`). The bound on epsilon is that of the member of the family with the least noise
    among those that are refuted together with all that have more. It exceeds the accounted epsilon
    only if the accounted curve itself is refuted; how much epsilon there is instead rests on the
    mechanism's being of the family.
    """

    def __init__(self, event: accounting.Event, delta: float) -> None:
        """Takes what a run accounts for.

        Args:
            event: As `PrivacyPlan.event` returns it.
            delta: Of the guarantee, in (0, 1).
        """
        self._event = event
        self._delta = delta
        self._curves: dict[int, Curve] = {}

    @classmethod
    def of(cls, privacy: dict) -> "Claim | None":
        """Returns the claim of a privacy statement, or None where there is none to refute.

        Args:
            privacy: As `statement.describe` returns it.
        """
        if not privacy["epsilon"] or not privacy.get("event"):
            return None
        return cls(accounting.read_event(privacy["event"]), privacy["delta"])

    def bound(
        self, canaries: int, guesses: int, correct: int, error: float, *, replaces: bool = False
    ) -> float:
        """Returns the lower bound on epsilon, in [0, about 64].

        Args:
            canaries: m, the number of fair coins, independent of each other.
            guesses: r <= m, a number that was fixed beforehand.
            correct: v <= r, how many guesses were right.
            error: The probability that the bound is wrong, in (0, 1).
            replaces: Whether a coin puts one example in the place of another.
        """

        steps = self._refuted(canaries, guesses, correct, error, replaces)
        return 0.0 if steps is None else self._epsilon(steps)

    def guesses(self, canaries: int, error: float, *, replaces: bool = False) -> tuple[int, int]:
        """Returns how many canaries to guess out and in, from what is accounted for alone.

        That is the number with the largest bound if the attacker is as good as the accounted curve
        lets it be, and is somewhat unlucky. Half of them are guessed out, but none where a canary
        that takes part may well never be drawn, so that nothing tells it from one that does not.

        Args:
            canaries: m, at least 1.
            error: As of `bound`.
            replaces: As of `bound`; each of a pair is in or out, so only the sum matters.
        """
        is_one_sided = not replaces and self._never_drawn() > _OFTEN_ENOUGH
        curve, most = self._curve(0), canaries // 2 if is_one_sided else canaries
        best, fewest_steps = most, math.inf
        for number in _numbers(most):
            fraction = number / canaries * (2 if is_one_sided else 1)
            correct = int(stats.binom.ppf(_UNLUCKY, number, _right(curve, fraction, replaces)))
            steps = self._refuted(canaries, number, correct, error, replaces)
            if steps is not None and steps < fewest_steps:
                best, fewest_steps = number, steps
        return (0, best) if is_one_sided else (best // 2, best - best // 2)

    def _never_drawn(self):
        """Returns the probability that no step draws a member."""
        never = 1.0
        for part in accounting.parts(self._event):
            never *= (1 - accounting.sampling_probability(part)) ** part.count
        return never

    def _refuted(self, canaries, guesses, correct, error, replaces):
        """Returns the steps of noise to the last member that is refuted; None if none is."""

        def is_refuted(steps):
            curve = self._curve(steps)
            return refutes(curve, canaries, guesses, correct, error, replaces=replaces)

        # More noise is refuted sooner, so the last one can be found by halving.
        refuted, other = _MOST_STEPS, self._least
        if not is_refuted(refuted):
            return None
        if is_refuted(other):
            return other
        while refuted - other > 1:
            middle = (refuted + other) // 2
            if is_refuted(middle):
                refuted = middle
            else:
                other = middle
        return refuted

    @functools.cached_property
    def _least(self):
        """The steps to the least noise whose epsilon is not beyond all reason, at most 0."""
        least, other = 0, -_MOST_STEPS - 1
        while least - other > 1:
            middle = (least + other) // 2
            if self._roughly(middle) <= _LARGEST_EPSILON:
                least = middle
            else:
                other = middle
        return least

    def _event_at(self, steps):
        """Returns the member with so many steps of noise more than is accounted for."""
        return accounting.with_scaled_noise(self._event, _STEP**steps)

    def _roughly(self, steps):
        event = self._event_at(steps)
        relation = accounting.REPLACE if accounting.has_subsets(event) else accounting.ADD_OR_REMOVE
        return accounting.epsilon_rdp(event, relation, self._delta, accounting.FEW_ORDERS)

    def _epsilon(self, steps):
        largest = self._roughly(steps)
        epsilon = accounting.epsilon_pld(self._event_at(steps), self._delta, largest)
        return largest if epsilon is None else min(epsilon, largest)

    def _curve(self, steps):
        if steps not in self._curves:
            largest = self._roughly(steps)
            epsilons = np.linspace(0, min(largest + 2, _LARGEST_ORDER), _POINTS)
            deltas = accounting.deltas(self._event_at(steps), epsilons, 1e-3 * max(1.0, largest))
            self._curves[steps] = Curve(epsilons, deltas)
        return self._curves[steps]


def _numbers(canaries):
    number = min(_FEWEST, canaries)
    while number < canaries:
        yield number
        number = max(number + 1, round(number * _GROWTH))
    yield canaries


def _right(curve, fraction, replaces):
    """Returns how many of the guesses about the surest fraction of the canaries are right at best.

    A canary is guessed in with a probability of g(a) if it took part and of a if it did not, where
    the threshold's false positive rate a is such that the two make up the fraction; and out
    likewise.
    """

    def least(true_positives):
        wrong = curve.least_false_positives(true_positives)
        return curve.least_false_positives(wrong) if replaces else wrong

    # In terms of true positives, for which the curve is at hand.
    right = optimize.brentq(
        lambda g: g + least(g) - fraction, fraction / 2, min(fraction, 1.0), xtol=1e-12
    )
    return right / fraction
