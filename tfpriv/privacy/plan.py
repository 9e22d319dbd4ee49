"""The privacy plan: sampler, clipping, noise and their accounting, as one object.

Nothing else in tfpriv computes an epsilon, and a trainer takes its participants, its clip and its
noise from the plan, so that no epsilon is reported for a sampling or a noise that did not run.
"""

import dataclasses
import math
from collections.abc import Sequence

import dp_accounting
import numpy as np

from tfpriv.draws import Origin
from tfpriv.errors import UserError
from tfpriv.noise import Noise
from tfpriv.privacy import accounting, mechanisms
from tfpriv.privacy.accounting import Epsilon
from tfpriv.privacy.mechanisms import AdaptiveGaussian, Banded, Gaussian, Mechanism, Tree
from tfpriv.privacy.sampling import BUILT_IN as SAMPLERS
from tfpriv.privacy.sampling import CyclicPoissonSampler, Sampler

UNITS = ("client", "example")
# How many times as long as all clipped contributions together the noise may be before a note.
_DROWNED = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """What one training run releases about one member, and what that costs.

    A run is a list of `segments`: numbers of steps that were taken without a break. The tree and
    banded mechanisms care where the breaks are (each starts anew); elsewhere the steps add up. A
    step that was run again after an interruption counts again.

    Attributes:
        unit: What a member is, "client" or "example".
        sampler: Who takes part in a step.
        mechanism: The clip and the noise, or None for a run that is not private.
        delta: The probability left over, in (0, 1); None for a run that is not private.
        release_noise_multiplier: Noise multiplier of one Gaussian release of all members before the
            first step, such as of principal components, above 0; None for no such release. It is
            made once, however often the run is interrupted.
    """

    unit: str
    sampler: Sampler
    mechanism: Mechanism | None = None
    delta: float | None = None
    release_noise_multiplier: float | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UserError(f"unit is {self.unit!r}; choose one of {', '.join(UNITS)}.")
        if self.mechanism is None:
            return
        accounting.check_delta(self.delta, self.sampler.population)
        release = self.release_noise_multiplier
        if release is not None and not 0 < release < math.inf:
            raise UserError(f"release_noise_multiplier is {release}; it must be a number above 0.")
        mechanism, sampler = self.mechanism, self.sampler
        if mechanism.sampler not in (None, sampler.name):
            raise UserError(
                f"the mechanism {mechanism.name} has no bound for the sampler {sampler.name}; it "
                f"needs the sampler {mechanism.sampler}."
            )
        if isinstance(sampler, CyclicPoissonSampler) and mechanism.sampler is None:
            raise UserError(
                f"the mechanism {mechanism.name} has no bound for the sampler {sampler.name}, "
                "which belongs to the mechanism banded; use another sampler."
            )
        if mechanism.restarts and sampler.steps_per_pass is None:
            raise UserError(
                f"the mechanism {mechanism.name} starts anew after each pass, and the sampler "
                f"{sampler.name} makes none; use the sampler shuffled."
            )
        if isinstance(mechanism, Banded) and not mechanism.is_inverse:
            assert isinstance(sampler, CyclicPoissonSampler)
            separation = sampler.separation
            if mechanism.bands > separation:
                raise UserError(
                    f"{mechanism.bands} bands reach beyond a separation of {separation} "
                    f"steps, where no bound holds; use at most {separation} bands."
                )

    @property
    def noise_multiplier(self) -> float:
        """That of the mechanism; 0 without one, or if it is yet to be calibrated."""
        return self.mechanism.noise_multiplier or 0.0 if self.mechanism is not None else 0.0

    @property
    def is_private(self) -> bool:
        """Whether noise is added at all."""
        return bool(self.noise_multiplier)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to show the user: what is allowed here and still weak."""
        if not self.is_private:
            return ()
        warning = accounting.check_delta(self.delta, self.sampler.population)
        return (*([warning] if warning else []), *self._unproved())

    def _unproved(self):
        proved = {*mechanisms.BUILT_IN.values(), *SAMPLERS.values()}
        parts: tuple[Mechanism | Sampler, ...] = (self._noisy(), self.sampler)
        for part in parts:
            if type(part) not in proved:
                yield (
                    f"this epsilon is true if {type(part).__qualname__} ({part.name}) does what "
                    "it says of itself, which tfpriv has not proved."
                )

    @property
    def neighboring_relation(self) -> str:
        """In words, which two populations must be hard to tell apart."""
        return self.sampler.neighboring_relation(self.unit)

    @property
    def steps_per_pass(self) -> int | None:
        """How many steps a tree may grow before it must be started anew; None for no limit."""
        restarts = self.mechanism is not None and self.mechanism.restarts
        return self.sampler.steps_per_pass if restarts else None

    def _noisy(self) -> Mechanism:
        """Returns the mechanism of a plan that has one."""
        assert self.mechanism is not None, "a plan without a mechanism adds no noise"
        return self.mechanism

    def _known_delta(self) -> float:
        """Returns the delta of a plan that has a mechanism, which `check_delta` let pass."""
        assert self.delta is not None
        return self.delta

    def event(self, segments: Sequence[int]) -> dp_accounting.DpEvent:
        """Returns the DpEvent of a run of these segments, for `neighboring_relation`.

        Replacing one member moves a sum of clipped contributions by up to twice the clip, so
        there the event's noise multiplier is half of the mechanism's. A release before the first
        step counts even if there are no steps.

        Args:
            segments: Steps run in each segment, each at least 0.

        Raises:
            ValueError: if a segment is negative, or is a tree that spans more than one pass.
        """
        if min(segments, default=0) < 0:
            raise ValueError(f"a segment has a negative number of steps: {segments}.")
        if not self.is_private:
            return dp_accounting.NonPrivateDpEvent()
        steps = self._steps_event(segments)
        if self.release_noise_multiplier is None:
            return steps
        release = dp_accounting.SelfComposedDpEvent(
            dp_accounting.GaussianDpEvent(self.release_noise_multiplier / self.sampler.moved), 1
        )
        if isinstance(steps, dp_accounting.NoOpDpEvent):
            return release
        return dp_accounting.ComposedDpEvent([release, *accounting.parts(steps)])

    def _steps_event(self, segments):
        segments = [n for n in segments if n]
        if not segments:
            return dp_accounting.NoOpDpEvent()
        mechanism, sampler = self._noisy(), self.sampler
        if isinstance(mechanism, Tree):
            if max(segments) > (sampler.steps_per_pass or 0):
                raise ValueError(f"a tree of {max(segments)} steps spans more than one pass.")
            # A tree is one Gaussian release, and so are all trees together.
            return _one_release(mechanism, math.hypot(*map(mechanism.sensitivity, segments)))
        if isinstance(mechanism, Banded) and mechanism.is_inverse:
            # C is not banded, so no amplification by sampling is known. Each segment is one
            # Gaussian release, and so are all of them together.
            assert isinstance(sampler, CyclicPoissonSampler)
            moved = math.hypot(*(mechanism.sensitivity(n, sampler.separation) for n in segments))
            return _one_release(mechanism, moved)
        whole_event = mechanism.event(sampler, segments)
        if whole_event is not None:
            return accounting.checked(whole_event, mechanism.name)
        # Steps are independent releases, of which those that can see a member count, each
        # amplified. So it is with a banded C: the columns that a member's steps touch are
        # orthogonal and of norm 1 (Choquette-Choo et al. 2023, Theorem 4).
        step = sampler.sampled(mechanism.step_event(sampler.moved))
        event = dp_accounting.SelfComposedDpEvent(step, sampler.steps_with_member(segments))
        return accounting.checked(event, mechanism.name)

    def epsilon(self, segments: Sequence[int]) -> Epsilon:
        """Returns the epsilon of a run of these segments at `delta`.

        Raises:
            ValueError: if the plan is not private: there is no epsilon to return.
        """
        rdp = self.epsilon_rdp(segments)
        event = self.event(segments)
        if isinstance(event, dp_accounting.NoOpDpEvent):
            return accounting.ZERO
        return Epsilon(pld=accounting.epsilon_pld(event, self._known_delta(), rdp), rdp=rdp)

    def epsilon_rdp(self, segments: Sequence[int]) -> float:
        """Returns the epsilon by RDP alone, which is quicker: that of `epsilon(...).rdp`.

        Raises:
            ValueError: if the plan is not private.
        """
        return self._epsilon_rdp(segments)

    def participants(self, step: int, seed: Origin, segment: int) -> np.ndarray:
        """Returns who takes part in a step, as the accounting takes it that they were drawn.

        A private plan draws anew in each segment. Were a step that is run again to see the same
        sample under new noise, the two would be amplified together, and cost more than two steps.

        Args:
            step: The step's number in the run, from 0.
            seed: What the run's sampling comes from: a secret key, or a number of at least 0.
            segment: The number of the segment, from 0: how often the run was interrupted before.

        Returns:
            Members, ascending, int64 of the length that the sampler draws.
        """
        drawn = self.sampler.sample(step, seed, segment if self.is_private else 0)
        if type(self.sampler) not in SAMPLERS.values():
            _check_drawn(drawn, self.sampler)
        return drawn

    def build_noise(self, size: int) -> Noise:
        """Returns the noise on the clipped sum of a private plan's steps, each of `size` numbers.

        Raises:
            UserError: if the grid would be too coarse.
        """
        return self._noisy().build_noise(size, self.steps_per_pass)

    def notes_on_noise(self, size: int, steps: int) -> tuple[str, ...]:
        """Returns what to say if the noise drowns what members contribute.

        Independent noise on the mean of a step has the length z C sqrt(d) / m, in expectation, for
        a noise multiplier z, a clip C, d numbers and m members, and no mean of clipped
        contributions is longer than C. Over T steps the noise grows by sqrt(T) only.

        Args:
            size: How many numbers a sum has.
            steps: The steps of the whole run, at least 1.
        """
        if not self.is_private or not isinstance(self.mechanism, Gaussian | AdaptiveGaussian):
            return ()
        expected = self.sampler.expected_size
        of_step = self.noise_multiplier * math.sqrt(size) / expected
        of_all = of_step / math.sqrt(steps)
        if of_all <= _DROWNED:
            return ()
        step = "round" if self.unit == "client" else "step"
        sentence = (
            f"the noise on the mean of a {step} is {of_step:.3g} times as long as the clip, and "
            f"that of all {steps} together {of_all:.2g} times as long as all that {expected:g} "
            f"{self.unit}s a {step} could say, so the model will learn little; take more "
            f"{self.unit}s a {step} (with this noise, {expected * of_all / _DROWNED:.2g} or more) "
            "of a larger population, a model of fewer weights, or a larger epsilon."
        )
        return (sentence,)

    def segments(self, steps: int) -> list[int]:
        """Returns the segments of an uninterrupted run of `steps` steps."""
        if self.steps_per_pass is None:
            return [steps]
        passes, rest = divmod(steps, self.steps_per_pass)
        return [self.steps_per_pass] * passes + [rest] * bool(rest)

    def calibrate(
        self, target_epsilon: float, steps: int, *, roughly: bool = False
    ) -> "PrivacyPlan":
        """Returns this plan with the least noise whose epsilon after `steps` is in the target.

        Args:
            target_epsilon: The epsilon to stay within, above 0, at `delta`.
            steps: The number of steps of the whole run, at least 1.
            roughly: Whether RDP at a few orders will do, which takes milliseconds, to compare plans
                with each other.

        Raises:
            UserError: if there is no such noise multiplier.
        """
        if steps < 1:
            raise UserError(f"noise cannot be calibrated for {steps} steps; run at least one.")
        accounting.check_target(target_epsilon)
        segments = self.segments(steps)
        self._check_release(target_epsilon)
        plan = self
        if isinstance(self.mechanism, AdaptiveGaussian):
            # Its two releases are accounted as one; how far they can go is seen at the end.
            plan = dataclasses.replace(self, mechanism=Gaussian(clip_norm=self.mechanism.clip_norm))
        near = accounting.calibrate(
            lambda z: plan._with_noise(z)._epsilon_rdp(segments, accounting.FEW_ORDERS),
            target_epsilon,
            start=1.0,
        )
        if roughly:
            return self._with_noise(near)
        noise_multiplier = accounting.calibrate(
            lambda z: plan._with_noise(z).epsilon(segments).value, target_epsilon, start=near
        )
        return self._with_noise(noise_multiplier)

    def _epsilon_rdp(self, segments, orders=None):
        if not self.is_private:
            raise ValueError("a plan without noise has no epsilon.")
        event = self.event(segments)
        if isinstance(event, dp_accounting.NoOpDpEvent):
            return 0.0
        if accounting.has_subsets(event):
            # The bound for subsets (Wang et al. 2019) can exceed the one without amplification.
            return min(
                accounting.epsilon_rdp(release, accounting.REPLACE, self._known_delta(), orders)
                for release in (event, _unamplified(event))
            )
        # For Gaussian releases, replacing by nothing, and replacing with the noise multiplier
        # halved, shift the sum exactly as adding or removing does.
        return accounting.epsilon_rdp(event, accounting.ADD_OR_REMOVE, self._known_delta(), orders)

    def _check_release(self, target_epsilon):
        if self.release_noise_multiplier is None:
            return
        spent = self._with_noise(1.0).epsilon([]).value
        if spent >= target_epsilon:
            raise UserError(
                "the release before the first step, with a noise multiplier of "
                f"{self.release_noise_multiplier:g}, alone costs an epsilon of {spent:.4g}, and "
                f"target_epsilon is {target_epsilon:g}; give it more noise, or raise the target."
            )

    def _with_noise(self, noise_multiplier):
        mechanism = dataclasses.replace(self._noisy(), noise_multiplier=noise_multiplier)
        return dataclasses.replace(self, mechanism=mechanism)


def _check_drawn(drawn, sampler):
    """Refuses what is no set of members."""
    drawn = np.asarray(drawn)
    is_whole = drawn.ndim == 1 and np.issubdtype(drawn.dtype, np.integer)
    if is_whole and np.all(np.diff(drawn, prepend=-1, append=sampler.population) > 0):
        return
    raise UserError(
        f"the sampler {sampler.name} drew {drawn!r}; it must return whole numbers from 0 to "
        f"{sampler.population - 1}, ascending, each at most once."
    )


def _one_release(mechanism, moved):
    gaussian = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier / moved)
    return dp_accounting.SelfComposedDpEvent(gaussian, 1)


def _unamplified(event):
    """Returns the event with samples of everybody for those of a fixed size."""
    if isinstance(event, dp_accounting.ComposedDpEvent):
        return dp_accounting.ComposedDpEvent([_unamplified(part) for part in event.events])
    step = event.event
    if isinstance(step, dp_accounting.SampledWithoutReplacementDpEvent):
        step = step.event
    return dp_accounting.SelfComposedDpEvent(step, event.count)
