"""The privacy plan: sampler, clipping, noise and their accounting, as one object.

Nothing else in tfpriv computes an epsilon, and a trainer takes its participants, its clip and its
noise from the plan, so that no epsilon is reported for a sampling or a noise that did not run.
"""

import dataclasses
import math
from collections.abc import Sequence

import dp_accounting

from tfpriv.errors import UserError
from tfpriv.privacy import accounting
from tfpriv.privacy.accounting import Epsilon
from tfpriv.privacy.mechanisms import Mechanism, Tree
from tfpriv.privacy.sampling import FixedSizeSampler, PoissonSampler, Sampler, ShuffledSampler

UNITS = ("client", "example")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """What one training run releases about one member, and what that costs.

    A run is a list of `segments`: numbers of steps that were taken without a break. Only the tree
    mechanism cares where the breaks are (each is a tree of its own); elsewhere the steps add up. A
    step that was run again after an interruption counts again.

    Attributes:
        unit: What a member is, "client" or "example".
        sampler: Who takes part in a step.
        mechanism: The clip and the noise, or None for a run that is not private.
        delta: The probability left over, in (0, 1); None for a run that is not private.
    """

    unit: str
    sampler: Sampler
    mechanism: Mechanism | None = None
    delta: float | None = None

    def __post_init__(self):
        if self.unit not in UNITS:
            raise UserError(f"unit is {self.unit!r}; choose one of {', '.join(UNITS)}.")
        if self.mechanism is None:
            return
        accounting.check_delta(self.delta, self.sampler.population)
        if isinstance(self.mechanism, Tree) and not isinstance(self.sampler, ShuffledSampler):
            raise UserError(
                f"the tree mechanism has no bound for the sampler {self.sampler.name}; it needs "
                "the sampler shuffled, by which a member takes part at most once in a tree."
            )

    @property
    def is_private(self) -> bool:
        """Whether noise is added at all."""
        return self.mechanism is not None and bool(self.mechanism.noise_multiplier)

    @property
    def neighboring_relation(self) -> str:
        """In words, which two populations must be hard to tell apart."""
        if isinstance(self.sampler, PoissonSampler):
            return f"add or remove one {self.unit}"
        if isinstance(self.sampler, FixedSizeSampler):
            return f"replace one {self.unit} by another"
        return f"replace one {self.unit} by one that contributes nothing (zero-out)"

    @property
    def steps_per_pass(self) -> int | None:
        """How many steps a tree may grow before it must be started anew; None for no limit."""
        return self.sampler.steps_per_pass if isinstance(self.mechanism, Tree) else None

    def event(self, segments: Sequence[int]) -> dp_accounting.DpEvent:
        """Returns the DpEvent of a run of these segments, for `neighboring_relation`.

        Replacing one member moves a sum of clipped contributions by up to twice the clip, so
        there the event's noise multiplier is half of the mechanism's.

        Args:
            segments: Steps run in each segment, each at least 0.
        """
        if not self.is_private:
            return dp_accounting.NonPrivateDpEvent()
        steps = sum(segments)
        if not steps:
            return dp_accounting.NoOpDpEvent()
        noise_multiplier = self.mechanism.noise_multiplier
        if isinstance(self.mechanism, Tree):
            trees = [n for n in segments if n]
            if max(trees) > self.sampler.steps_per_pass:
                raise ValueError(f"a tree of {max(trees)} steps spans more than one pass.")
            return dp_accounting.ComposedDpEvent([self.mechanism.event(n) for n in trees])
        gaussian = dp_accounting.GaussianDpEvent
        if isinstance(self.sampler, PoissonSampler):
            step = gaussian(noise_multiplier)
            if self.sampler.sampling_probability < 1:
                step = dp_accounting.PoissonSampledDpEvent(self.sampler.sampling_probability, step)
        elif isinstance(self.sampler, FixedSizeSampler):
            step = gaussian(noise_multiplier / 2)
            if self.sampler.size < self.sampler.population:
                step = dp_accounting.SampledWithoutReplacementDpEvent(
                    self.sampler.population, self.sampler.size, step
                )
        else:
            # One step of each pass sees the member; an unfinished pass counts as a whole one, and
            # so does every segment's, because a repeated step may see the member again.
            steps = sum(math.ceil(n / self.sampler.steps_per_pass) for n in segments)
            steps += sum(1 for n in segments if n) - 1
            step = gaussian(noise_multiplier)
        return dp_accounting.SelfComposedDpEvent(step, steps)

    def epsilon(self, segments: Sequence[int]) -> Epsilon:
        """Returns the epsilon of a run of these segments at `delta`.

        Raises:
            ValueError: if the plan is not private: there is no epsilon to return.
        """
        if not self.is_private:
            raise ValueError("a plan without noise has no epsilon.")
        if not sum(segments):
            return accounting.ZERO
        event = self.event(segments)
        if self._needs_subset_bound:
            amplified = accounting.epsilon_rdp(event, accounting.REPLACE, self.delta)
            # The bound for subsets (Wang et al. 2019) can exceed the one without amplification.
            plain = dp_accounting.SelfComposedDpEvent(event.event.event, event.count)
            plain_rdp = accounting.epsilon_rdp(plain, accounting.REPLACE, self.delta)
            if amplified <= plain_rdp:
                return Epsilon(pld=None, rdp=amplified)
            return Epsilon(pld=accounting.epsilon_pld(plain, self.delta, plain_rdp), rdp=plain_rdp)
        # For Gaussian releases, replacing by nothing, and replacing with the noise multiplier
        # halved, shift the sum exactly as adding or removing does.
        rdp = accounting.epsilon_rdp(event, accounting.ADD_OR_REMOVE, self.delta)
        return Epsilon(pld=accounting.epsilon_pld(event, self.delta, rdp), rdp=rdp)

    def epsilon_rdp(self, segments: Sequence[int]) -> float:
        """Returns the epsilon by RDP alone, which is quick; at least `epsilon(...).value`'s bound.

        Raises:
            ValueError: if the plan is not private.
        """
        if not self.is_private:
            raise ValueError("a plan without noise has no epsilon.")
        if not sum(segments):
            return 0.0
        relation = accounting.REPLACE if self._needs_subset_bound else accounting.ADD_OR_REMOVE
        return accounting.epsilon_rdp(self.event(segments), relation, self.delta)

    def segments(self, steps: int) -> list[int]:
        """Returns the segments of an uninterrupted run of `steps` steps."""
        if self.steps_per_pass is None:
            return [steps]
        passes, rest = divmod(steps, self.steps_per_pass)
        return [self.steps_per_pass] * passes + [rest] * bool(rest)

    def calibrate(self, target_epsilon: float, steps: int) -> "PrivacyPlan":
        """Returns this plan with the least noise whose epsilon after `steps` is in the target.

        Args:
            target_epsilon: The epsilon to stay within, above 0, at `delta`.
            steps: The number of steps of the whole run, at least 1.

        Raises:
            UserError: if there is no such noise multiplier.
        """
        if steps < 1:
            raise UserError(f"noise cannot be calibrated for {steps} steps; run at least one.")
        segments = self.segments(steps)
        # RDP is quick and near: PLD then needs a few evaluations only.
        near = accounting.calibrate(
            lambda z: self._with_noise(z).epsilon_rdp(segments), target_epsilon, start=1.0
        )
        noise_multiplier = accounting.calibrate(
            lambda z: self._with_noise(z).epsilon(segments).value, target_epsilon, start=near
        )
        return self._with_noise(noise_multiplier)

    @property
    def _needs_subset_bound(self):
        return (
            isinstance(self.sampler, FixedSizeSampler)
            and self.sampler.size < self.sampler.population
        )

    def _with_noise(self, noise_multiplier):
        mechanism = dataclasses.replace(self.mechanism, noise_multiplier=noise_multiplier)
        return dataclasses.replace(self, mechanism=mechanism)
