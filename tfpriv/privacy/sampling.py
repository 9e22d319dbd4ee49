"""Who takes part in a step: clients in a round, or examples in a batch.

A sampler is a pure function of the seed, the step and the segment (how often the run was
interrupted before), so that a resumed run can draw what the interrupted run would have drawn, or
draw anew; a private run draws anew (`PrivacyPlan.participants`). Its seed is a secret key there,
and elsewhere a public number (see `tfpriv.draws`). How a draw amplifies privacy is the business of
`tfpriv.privacy.plan`, to which a sampler says what it needs to know of it.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import ClassVar

import dp_accounting
import numpy as np
from scipy import stats

from tfpriv import draws, user_code
from tfpriv.draws import Origin
from tfpriv.errors import UserError

# Streams drawn from one seed for different purposes must not collide.
_SAMPLING_STREAM = 0x5A4D
_DEALING_STREAM = 0xDEA1


class Sampler(abc.ABC):
    """Draws the members of each step, and says what the accounting must know of the draws.

    A subclass is a frozen dataclass. Its draws come from `tfpriv.draws` with the origin that
    `sample` is given, and from nothing else: in a private run that is a secret key.

    Attributes:
        name: As flags and the privacy statement call it.
        moved: By how many clips the change of one member that the `neighboring_relation` names can
            move the sum of a step: 1 to add, remove or zero one out, 2 to replace it by another.
        takes_whole_numbers: Whether a step has the same number of members each time.
        steps_per_pass: In how many steps every member has its turn once; None if that is chance.
        population: The number of members N, at least 1.
        expected_size: The expected number m of members in a step, in (0, N].
    """

    name: ClassVar[str]
    moved: ClassVar[int] = 1
    takes_whole_numbers: ClassVar[bool] = False

    population: int
    expected_size: float

    def __post_init__(self) -> None:
        _check_size(self.population, self.expected_size)

    @property
    def steps_per_pass(self) -> int | None:
        """See the class."""
        return None

    @abc.abstractmethod
    def neighboring_relation(self, unit: str) -> str:
        """Returns in words which two populations its accounting tells apart."""

    @abc.abstractmethod
    def in_words(self, unit: str) -> str:
        """Returns what happens in a step, as the privacy statement says it."""

    @abc.abstractmethod
    def sample(self, step: int, seed: Origin, segment: int = 0) -> np.ndarray:
        """Returns the members of a step, ascending and each at most once, int64 from 0 to N - 1.

        Args:
            step: The number of the step in the run, from 0.
            seed: Where draws come from; see `tfpriv.draws`.
            segment: How often the run was interrupted before.
        """

    def sampled(self, release: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
        """Returns the event of a step that can see a member, from that of all members.

        As it stands, no amplification by sampling is claimed.
        """
        return release

    def steps_with_member(self, segments: Sequence[int]) -> int:
        """Returns the largest number of steps that can see one member.

        Args:
            segments: The numbers of steps of each segment.
        """
        return sum(segments)

    def largest_size(self, probability: float) -> int:
        """Returns the number of members that a step exceeds with at most this probability."""
        del probability
        return self.population


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoissonSampler(Sampler):
    """Every member takes part in every step independently, with the same probability.

    Attributes:
        population: The number of members N, at least 1.
        expected_size: The expected number m of members in a step, in (0, N].
    """

    name: ClassVar[str] = "poisson"

    population: int
    expected_size: float

    def sampled(self, release: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
        """See `Sampler.sampled`."""
        return _poisson_sampled(release, self.sampling_probability)

    def largest_size(self, probability: float) -> int:
        """See `Sampler.largest_size`."""
        return _binomial_size(self.population, self.sampling_probability, probability)

    def neighboring_relation(self, unit: str) -> str:
        """Returns in words which two populations its accounting tells apart."""
        return f"add or remove one {unit}"

    def in_words(self, unit: str) -> str:
        """Returns what happens in a step, as the privacy statement says it."""
        return (
            f"each of {self.population} {unit}s took part with probability "
            f"{self.sampling_probability:.4g}, independently"
        )

    @property
    def sampling_probability(self) -> float:
        """m / N, in (0, 1]."""
        return self.expected_size / self.population

    def sample(self, step: int, seed: Origin, segment: int = 0) -> np.ndarray:
        """Returns the members of a step, ascending, int64 of any length from 0 to N."""
        stream = (_SAMPLING_STREAM, step, segment)
        return np.flatnonzero(
            draws.bernoulli(seed, stream, self.sampling_probability, self.population)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedSizeSampler(Sampler):
    """Every step takes a uniformly random subset of fixed size, anew.

    Attributes:
        population: The number of members N, at least 1.
        size: The number m of members in a step, in [1, N].
    """

    name: ClassVar[str] = "fixed_size"
    moved: ClassVar[int] = 2
    takes_whole_numbers: ClassVar[bool] = True

    population: int
    size: int

    def sampled(self, release: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
        """See `Sampler.sampled`."""
        if self.size == self.population:
            return release
        return dp_accounting.SampledWithoutReplacementDpEvent(self.population, self.size, release)

    def largest_size(self, probability: float) -> int:
        """See `Sampler.largest_size`."""
        del probability
        return self.size

    def neighboring_relation(self, unit: str) -> str:
        """Returns in words which two populations its accounting tells apart."""
        return f"replace one {unit} by another"

    def in_words(self, unit: str) -> str:
        """Returns what happens in a step, as the privacy statement says it."""
        return f"{self.size} of {self.population} {unit}s took part, drawn anew"

    @property
    def expected_size(self) -> float:  # type: ignore[override]  # it is `size`
        """The number of members in a step."""
        return self.size

    def sample(self, step: int, seed: Origin, segment: int = 0) -> np.ndarray:
        """Returns the members of a step, ascending, int64[size]."""
        stream = (_SAMPLING_STREAM, step, segment)
        return draws.subset(seed, stream, self.population, self.size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShuffledSampler(Sampler):
    """The population is shuffled and dealt out in groups; each pass shuffles it anew.

    A member takes part at most once in a pass. The members that fill no group sit the pass out.

    Attributes:
        population: The number of members N, at least 1.
        size: The number m of members in a step, in [1, N].
    """

    name: ClassVar[str] = "shuffled"
    takes_whole_numbers: ClassVar[bool] = True

    population: int
    size: int

    def steps_with_member(self, segments: Sequence[int]) -> int:
        """See `Sampler.steps_with_member`."""
        # One step of each pass sees the member. A segment after the first may start anywhere in a
        # pass, even at steps that were run before: it touches one pass more than its length.
        passes = sum(math.ceil(n / self.steps_per_pass) for n in segments)
        return passes + sum(1 for n in segments if n) - 1

    def largest_size(self, probability: float) -> int:
        """See `Sampler.largest_size`."""
        del probability
        return self.size

    def neighboring_relation(self, unit: str) -> str:
        """Returns in words which two populations its accounting tells apart."""
        return f"replace one {unit} by one that contributes nothing (zero-out)"

    def in_words(self, unit: str) -> str:
        """Returns what happens in a step, as the privacy statement says it."""
        return (
            f"{self.size} of {self.population} {unit}s took part, dealt out so that none is seen "
            "twice in a pass; no amplification is claimed"
        )

    @property
    def expected_size(self) -> float:  # type: ignore[override]  # it is `size`
        """The number of members in a step."""
        return self.size

    @property
    def steps_per_pass(self) -> int:
        """The number of groups that one shuffle gives, floor(N / m)."""
        return self.population // self.size

    def sample(self, step: int, seed: Origin, segment: int = 0) -> np.ndarray:
        """Returns the members of a step, ascending, int64[size]; the same in every segment."""
        current_pass, group = divmod(step, self.steps_per_pass)
        order = draws.permutation(seed, (_SAMPLING_STREAM, current_pass, 0), self.population)
        return np.sort(order[group * self.size : (group + 1) * self.size])


@dataclasses.dataclass(frozen=True, kw_only=True)
class CyclicPoissonSampler(Sampler):
    """Parts of the population take turns; a part's members take part independently.

    The population is dealt once, at random, over `separation` parts, so a member's steps lie at
    least `separation` apart (Choquette-Choo et al. 2023, arXiv 2306.08153, Algorithm 2).

    Attributes:
        population: The number of members N, at least 1.
        expected_size: The expected number m of members in a step, in (0, N].
        separation: The number b of parts, from 1 (Poisson sampling) to N / m (a fixed order).
    """

    name: ClassVar[str] = "cyclic_poisson"

    population: int
    expected_size: float
    separation: int

    def __post_init__(self) -> None:
        super().__post_init__()
        largest = int(self.population // self.expected_size)
        if not 1 <= self.separation <= largest:
            raise UserError(
                f"steps {self.separation} apart leave too few of {self.population} members for an "
                f"expected {self.expected_size:g} in a step; choose a separation from 1 to "
                f"{largest}."
            )

    def neighboring_relation(self, unit: str) -> str:
        """Returns in words which two populations its accounting tells apart."""
        return f"replace one {unit} by one that contributes nothing (zero-out)"

    def in_words(self, unit: str) -> str:
        """Returns what happens in a step, as the privacy statement says it."""
        return (
            f"one of {self.separation} parts of {self.population} {unit}s had its turn, and each "
            f"of its {unit}s took part with probability {self.sampling_probability:.4g}, "
            "independently"
        )

    def sampled(self, release: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
        """See `Sampler.sampled`."""
        return _poisson_sampled(release, self.sampling_probability)

    def steps_with_member(self, segments: Sequence[int]) -> int:
        """See `Sampler.steps_with_member`."""
        return sum(math.ceil(n / self.separation) for n in segments)

    def largest_size(self, probability: float) -> int:
        """See `Sampler.largest_size`."""
        largest_part = -(-self.population // self.separation)
        return _binomial_size(largest_part, self.sampling_probability, probability)

    @property
    def sampling_probability(self) -> float:
        """b m / N, in (0, 1]: that of a member in a step of its part."""
        return self.separation * self.expected_size / self.population

    def sample(self, step: int, seed: Origin, segment: int = 0) -> np.ndarray:
        """Returns the members of a step, ascending, int64 of any length up to that of a part."""
        order = _dealt(self.population, seed)
        part = np.sort(order[step % self.separation :: self.separation])
        stream = (_SAMPLING_STREAM, step, segment)
        return part[draws.bernoulli(seed, stream, self.sampling_probability, len(part))]


_CLASSES: tuple[type[Sampler], ...] = (
    PoissonSampler,
    FixedSizeSampler,
    ShuffledSampler,
    CyclicPoissonSampler,
)
BUILT_IN = {cls.name: cls for cls in _CLASSES}
NAMES = tuple(BUILT_IN)
# What a function of the user's own must be.
OWN = "a function (population, expected_size) -> tfpriv.privacy.Sampler"


def takes_whole_numbers(name: str) -> bool:
    """Says whether the sampler of a name needs a whole number of members a step."""
    return name in BUILT_IN and BUILT_IN[name].takes_whole_numbers


def build_sampler(
    name: str, population: int, expected_size: float, *, separation: int | None = None
) -> Sampler:
    """Returns the sampler called `name`.

    Args:
        name: One of `NAMES`, or of a function of the user's own; see `OWN`.
        population: The number of members.
        expected_size: The expected number of members in a step.
        separation: For cyclic_poisson, 1 if None; others have none.

    Raises:
        UserError: if there is no such sampler, or the size does not fit the population; or the
            user's function returns something else, or for other numbers.
    """
    if user_code.is_user_code(name):
        known = {"population": population, "expected_size": expected_size}
        return user_code.call(name, "--sampler", Sampler, **known)
    if name == PoissonSampler.name:
        return PoissonSampler(population=population, expected_size=expected_size)
    if name == CyclicPoissonSampler.name:
        return CyclicPoissonSampler(
            population=population, expected_size=expected_size, separation=separation or 1
        )
    if name not in NAMES:
        raise UserError(f"there is no sampler {name!r}; choose one of {', '.join(NAMES)}.")
    if expected_size % 1 != 0:
        raise UserError(
            f"the sampler {name} takes a whole number of members, not {expected_size}; round it "
            "or use poisson."
        )
    if name == FixedSizeSampler.name:
        return FixedSizeSampler(population=population, size=int(expected_size))
    return ShuffledSampler(population=population, size=int(expected_size))


@functools.lru_cache(maxsize=4)
def _dealt(population, seed):
    return draws.permutation(seed, (_DEALING_STREAM,), population)


def _poisson_sampled(release, probability):
    if probability >= 1:
        return release
    return dp_accounting.PoissonSampledDpEvent(probability, release)


def _binomial_size(population, sampling_probability, probability):
    sampling_probability = min(1.0, sampling_probability)
    return max(1, int(stats.binom.isf(probability, population, sampling_probability)))


def _check_size(population, size):
    if population < 1:
        raise UserError(f"the population is {population}; there must be at least one member.")
    if not 0 < size <= population:
        raise UserError(
            f"{size} of a population of {population} cannot be sampled; choose a number above 0 "
            f"and at most {population}."
        )
