"""Who takes part in a step: clients in a round, or examples in a batch.

A sampler is a pure function of the seed, the step and the segment (how often the run was
interrupted before), so that a resumed run can draw what the interrupted run would have drawn, or
draw anew; a private run draws anew (`PrivacyPlan.participants`). Its seed is a secret key there,
and elsewhere a public number (see `tfpriv.draws`). How a draw amplifies privacy is the business of
`tfpriv.privacy.plan`, which knows the sampler it accounts for.
"""

import dataclasses
import functools

import numpy as np

from tfpriv import draws
from tfpriv.draws import Origin
from tfpriv.errors import UserError

# Streams drawn from one seed for different purposes must not collide.
_SAMPLING_STREAM = 0x5A4D
_DEALING_STREAM = 0xDEA1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoissonSampler:
    """Every member takes part in every step independently, with the same probability.

    Attributes:
        population: The number of members N, at least 1.
        expected_size: The expected number m of members in a step, in (0, N].
    """

    population: int
    expected_size: float

    name = "poisson"

    def __post_init__(self):
        _check_size(self.population, self.expected_size)

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
class FixedSizeSampler:
    """Every step takes a uniformly random subset of fixed size, anew.

    Attributes:
        population: The number of members N, at least 1.
        size: The number m of members in a step, in [1, N].
    """

    population: int
    size: int

    name = "fixed_size"

    def __post_init__(self):
        _check_size(self.population, self.size)

    def neighboring_relation(self, unit: str) -> str:
        """Returns in words which two populations its accounting tells apart."""
        return f"replace one {unit} by another"

    def in_words(self, unit: str) -> str:
        """Returns what happens in a step, as the privacy statement says it."""
        return f"{self.size} of {self.population} {unit}s took part, drawn anew"

    @property
    def expected_size(self) -> float:
        """The number of members in a step."""
        return self.size

    def sample(self, step: int, seed: Origin, segment: int = 0) -> np.ndarray:
        """Returns the members of a step, ascending, int64[size]."""
        stream = (_SAMPLING_STREAM, step, segment)
        return draws.subset(seed, stream, self.population, self.size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShuffledSampler:
    """The population is shuffled and dealt out in groups; each pass shuffles it anew.

    A member takes part at most once in a pass. The members that fill no group sit the pass out.

    Attributes:
        population: The number of members N, at least 1.
        size: The number m of members in a step, in [1, N].
    """

    population: int
    size: int

    name = "shuffled"

    def __post_init__(self):
        _check_size(self.population, self.size)

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
    def expected_size(self) -> float:
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
class CyclicPoissonSampler:
    """Parts of the population take turns; a part's members take part independently.

    The population is dealt once, at random, over `separation` parts, so a member's steps lie at
    least `separation` apart (Choquette-Choo et al. 2023, arXiv 2306.08153, Algorithm 2).

    Attributes:
        population: The number of members N, at least 1.
        expected_size: The expected number m of members in a step, in (0, N].
        separation: The number b of parts, from 1 (Poisson sampling) to N / m (a fixed order).
    """

    population: int
    expected_size: float
    separation: int

    name = "cyclic_poisson"

    def __post_init__(self):
        _check_size(self.population, self.expected_size)
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


Sampler = PoissonSampler | FixedSizeSampler | ShuffledSampler | CyclicPoissonSampler
NAMES = (
    PoissonSampler.name,
    FixedSizeSampler.name,
    ShuffledSampler.name,
    CyclicPoissonSampler.name,
)


def build_sampler(
    name: str, population: int, expected_size: float, *, separation: int | None = None
) -> Sampler:
    """Returns the sampler called `name`.

    Args:
        name: One of `NAMES`.
        population: The number of members.
        expected_size: The expected number of members in a step.
        separation: For cyclic_poisson; others have none.

    Raises:
        UserError: if there is no such sampler, or the size does not fit the population.
    """
    if name == PoissonSampler.name:
        return PoissonSampler(population=population, expected_size=expected_size)
    if name == CyclicPoissonSampler.name:
        if separation is None:
            raise UserError(f"the sampler {name} needs a separation; give one of at least 1.")
        return CyclicPoissonSampler(
            population=population, expected_size=expected_size, separation=separation
        )
    if name not in NAMES:
        raise UserError(f"there is no sampler {name!r}; choose one of {', '.join(NAMES)}.")
    if expected_size % 1 != 0:
        raise UserError(
            f"the sampler {name} takes a whole number of members, not {expected_size}; round it "
            "or use poisson."
        )
    sampler = FixedSizeSampler if name == FixedSizeSampler.name else ShuffledSampler
    return sampler(population=population, size=int(expected_size))


@functools.lru_cache(maxsize=4)
def _dealt(population, seed):
    return draws.permutation(seed, (_DEALING_STREAM,), population)


def _check_size(population, size):
    if population < 1:
        raise UserError(f"the population is {population}; there must be at least one member.")
    if not 0 < size <= population:
        raise UserError(
            f"{size} of a population of {population} cannot be sampled; choose a number above 0 "
            f"and at most {population}."
        )
