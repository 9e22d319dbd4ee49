"""What is added to a step's sum, and what that is worth before any sampling.

A mechanism is its clip, its noise and what is accounted for them, in one class. How it goes
together with a sampler is in `tfpriv.privacy.plan`.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import dp_accounting
import numpy as np

from tfpriv import noise, user_code
from tfpriv.errors import UserError
from tfpriv.noise import factorization
from tfpriv.privacy.accounting import Event
from tfpriv.privacy.sampling import Sampler

# The standard deviation of the noise on the count of unclipped members, as a fraction of the
# expected number of members in a step (Andrew et al. 2021, section 3.1).
_COUNT_STDDEV = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mechanism(abc.ABC):
    """The clip of members' contributions to a step's sum, and the noise on the sum.

    The trainers bound the contribution of one member (a client or an example) in L2 norm by
    `clip_norm`. A subclass is a frozen dataclass, and immutable: `plan.calibrate` makes copies with
    other noise multipliers. More noise must mean less epsilon.

    The noise of a subclass is private if its `event` or `step_event` is true of what `build_noise`
    gives, for every sum that is within the clip.

    Attributes:
        name: As the privacy statement calls it.
        sampler: The name of the sampler that it needs; None if any will do whose steps are
            independent of each other.
        restarts: Whether the noise starts anew after each pass over the members.
        adapts_clip: Whether the clip follows a quantile; then it is an `AdaptiveGaussian`.
        clip_norm: The L2 bound on one member's contribution, above 0.
        noise_multiplier: The scale of the noise over `clip_norm`, at least 0; None until it is
            calibrated. For Gaussian noise the scale is a standard deviation.
    """

    name: ClassVar[str]
    sampler: ClassVar[str | None] = None
    restarts: ClassVar[bool] = False
    adapts_clip: ClassVar[bool] = False

    clip_norm: float
    noise_multiplier: float | None = None

    def __post_init__(self) -> None:
        _check(self.clip_norm, self.noise_multiplier)

    @property
    def calibrated_multiplier(self) -> float:
        """The noise multiplier of a mechanism that has one."""
        assert self.noise_multiplier is not None, "the noise is not calibrated"
        return self.noise_multiplier

    @abc.abstractmethod
    def in_words(self, unit: str) -> str:
        """Returns what was clipped and what noise was added, as the privacy statement says it."""

    @abc.abstractmethod
    def build_noise(self, size: int, steps_per_pass: int | None = None) -> noise.Noise:
        """Returns the noise on the clipped sums of a run, each of `size` numbers.

        Args:
            size: How many numbers a sum has.
            steps_per_pass: After how many steps it is started anew, if it `restarts`.

        Raises:
            UserError: if the grid would be too coarse.
        """

    def step_event(self, moved: float) -> dp_accounting.DpEvent:
        """Returns the event of one step, if every member takes part and steps are independent.

        Args:
            moved: By how many clips a change of one member can move the sum, in L2 norm: 1 or 2.
        """
        return dp_accounting.GaussianDpEvent(self.calibrated_multiplier / moved)

    def event(self, sampler: Sampler, segments: Sequence[int]) -> Event | None:
        """Returns the event of a whole run, for a mechanism whose steps are not independent.

        None stands for steps that are: the plan then composes `step_event`, sampled.

        Args:
            sampler: Who takes part in a step.
            segments: Steps of each segment, each at least 1 and at least one segment.
        """
        del sampler, segments
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian(Mechanism):
    """Independent Gaussian noise on the clipped sum (Abadi et al. 2016, section 3.1)."""

    name: ClassVar[str] = "gaussian"

    def build_noise(self, size: int, steps_per_pass: int | None = None) -> noise.Noise:
        """See `Mechanism.build_noise`."""
        del steps_per_pass
        return noise.IndependentNoise(size, self.calibrated_multiplier)

    def in_words(self, unit: str) -> str:
        """Returns what was clipped and what noise was added, as the privacy statement says it."""
        return f"{_clipped(self, unit)} and {_noise(self)} was added to the sum."


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveGaussian(Mechanism):
    """Gaussian noise with a clip that follows a quantile (Andrew et al. 2021, section 3).

    A step releases two sums: the clipped contributions, and how many were within the clip, each
    with noise of its own. `noise_multiplier` z is for both together: the sums get the noise
    multiplier `(z^-2 - (2 s_b)^-2)^(-1/2)` and the standard deviation s_b (their Theorem 1).

    Attributes:
        clip_norm: The clip of the first step, above 0.
        noise_multiplier: z; None until it is calibrated.
        target_quantile: The fraction of contributions that the clip should leave alone, in [0, 1].
        clip_learning_rate: The step size of the geometric update of the clip, at least 0.
        count_stddev: s_b, the standard deviation of the noise on the count, above z / 2.
    """

    name: ClassVar[str] = "adaptive"
    adapts_clip: ClassVar[bool] = True

    target_quantile: float
    clip_learning_rate: float
    count_stddev: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.target_quantile <= 1:
            raise UserError(f"target_quantile is {self.target_quantile}; it must be in [0, 1].")
        if not self.clip_learning_rate >= 0:
            raise UserError(
                f"clip_learning_rate is {self.clip_learning_rate}; it must be a number at least 0."
            )
        if not self.count_stddev >= 0:
            raise UserError(f"count_stddev is {self.count_stddev}; it must be a number at least 0.")
        if self.noise_multiplier and self.noise_multiplier >= 2 * self.count_stddev:
            raise UserError(
                f"a noise multiplier of {self.noise_multiplier:.4g} cannot be reached with a noise "
                f"of {self.count_stddev:.4g} on the clipped count, only one below "
                f"{2 * self.count_stddev:.4g} can; have more members a step, or a fixed clip."
            )

    def in_words(self, unit: str) -> str:
        """Returns what was clipped and what noise was added, as the privacy statement says it."""
        return (
            f"Each {unit}'s contribution was clipped to a norm that follows the "
            f"{self.target_quantile:g} quantile, from {self.clip_norm:g}; {_noise(self)} is spent "
            f"on the sum ({self.value_noise_multiplier:.4g}) and on the count of clipped {unit}s "
            f"({self.count_stddev:.4g}) together."
        )

    def build_noise(self, size: int, steps_per_pass: int | None = None) -> noise.Noise:
        """See `Mechanism.build_noise`; that of the clipped sum alone."""
        del steps_per_pass
        return noise.IndependentNoise(size, self.value_noise_multiplier)

    def build_count_noise(self) -> noise.Noise:
        """Returns the noise on the count of the unclipped, of one number.

        A member adds 1/2 or -1/2 to the count; `width` is a fraction of that half.
        """
        return noise.IndependentNoise(1, 2 * self.count_stddev)

    @property
    def value_noise_multiplier(self) -> float:
        """The noise multiplier of the clipped sum alone; larger than z, or 0 where z is 0."""
        if self.noise_multiplier == 0:
            return 0.0
        return (self.calibrated_multiplier**-2 - (2 * self.count_stddev) ** -2) ** -0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tree(Mechanism):
    """Gaussian noise correlated over steps by a binary tree (Kairouz et al. 2021, section 3).

    The noise of a prefix sum is that of Honaker's estimates (see `tfpriv.noise.TreeNoise`).
    What is protected is every prefix sum of the steps since the tree was last started anew.
    `noise_multiplier` is of the noise on a node of the tree.
    """

    name: ClassVar[str] = "tree"
    sampler: ClassVar[str | None] = "shuffled"
    restarts: ClassVar[bool] = True

    def build_noise(self, size: int, steps_per_pass: int | None = None) -> noise.Noise:
        """See `Mechanism.build_noise`."""
        assert steps_per_pass is not None, "a tree is started anew after each pass"
        return noise.TreeNoise(size, self.calibrated_multiplier, steps_per_pass)

    def in_words(self, unit: str) -> str:
        """Returns what was clipped and what noise was added, as the privacy statement says it."""
        return (
            f"{_clipped(self, unit)}; {_noise(self)} went to each node of a tree over the steps, "
            "started anew with each pass."
        )

    def sensitivity(self, steps: int) -> float:
        """Returns by how much a member in one leaf moves what a tree releases.

        The unit is the clip over the deviation of a node's own noise. Nodes that are never released
        but through Honaker's estimates do not count (see `factorization.tree_sensitivity`).

        Args:
            steps: The number of leaves, at least 1.
        """
        return factorization.tree_sensitivity(steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Banded(Mechanism):
    """Gaussian noise correlated over steps by a banded factorization of the prefix sums.

    Training sees x + C^-1 z for the steps' clipped sums x, so that later noise takes some of the
    earlier back. What is protected is all that is released since the mechanism was last started.

    Attributes:
        noise_multiplier: Standard deviation of z over `clip_norm`; None until it is calibrated.
        factorization: "optimized", where C is the banded matrix with the least error of prefix
            sums (Choquette-Choo et al. 2023, arXiv 2306.08153), "sqrt", where it is the banded
            square root of the prefix-sum matrix (Kalinin and Lampert 2024, arXiv 2405.13763), both
            with columns of norm 1, or "inverse_sqrt", where C^-1 is the banded inverse of that
            square root (arXiv 2505.12128).
        bands: The number of bands, at least 1; with 1 the noise is independent.
        horizon: The number of steps over which "optimized" has the least error, at least 1; others
            need none.
    """

    name: ClassVar[str] = "banded"
    sampler: ClassVar[str | None] = "cyclic_poisson"

    factorization: str = "sqrt"
    bands: int = 16
    horizon: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factorization not in FACTORIZATIONS:
            raise UserError(
                f"factorization is {self.factorization!r}; choose one of "
                f"{', '.join(FACTORIZATIONS)}."
            )
        if self.bands < 1:
            raise UserError(f"bands is {self.bands}; it must be at least 1.")
        if self.factorization == "optimized" and (self.horizon or 0) < 1:
            raise UserError(
                f"horizon is {self.horizon}; the factorization optimized needs a number of steps "
                "of at least 1."
            )

    def in_words(self, unit: str) -> str:
        """Returns what was clipped and what noise was added, as the privacy statement says it."""
        return (
            f"{_clipped(self, unit)}; {_noise(self)} was correlated over the steps by "
            f"{_FACTORIZATION_WORDS[self.factorization]} with {self.bands} bands."
        )

    def build_noise(self, size: int, steps_per_pass: int | None = None) -> noise.Noise:
        """See `Mechanism.build_noise`."""
        del steps_per_pass
        return noise.BandedNoise(
            size, self.calibrated_multiplier, self.coefficients(), is_inverse=self.is_inverse
        )

    @property
    def is_inverse(self) -> bool:
        """Whether it is the inverse of C that is banded; then no amplification is known."""
        return self.factorization == "inverse_sqrt"

    def coefficients(self) -> np.ndarray:
        """Returns the first column of C, or if it `is_inverse` of C^-1, [bands]."""
        if self.is_inverse:
            return factorization.inverse_square_root(self.bands)
        if self.factorization == "optimized":
            assert self.horizon is not None
            column = np.array(factorization.optimized(self.bands, self.horizon))
        else:
            column = factorization.square_root(self.bands)
        return column / np.linalg.norm(column)

    def prefix_error(self, steps: int) -> float:
        """Returns the root mean square noise of the prefix sums of `steps` steps, in units of z."""
        column = self.coefficients()
        if self.is_inverse:
            column = factorization.inverse(column, steps)
        return factorization.prefix_error(column, steps)

    def sensitivity(self, steps: int, separation: int) -> float:
        """Returns by how much one member moves C x over `steps` steps, in units of the clip.

        Args:
            steps: At least 1.
            separation: The least number of steps from one of the member's to its next.
        """
        if self.is_inverse:
            column = factorization.inverse(self.coefficients(), steps)
        else:
            column = np.zeros(steps)
            known = self.coefficients()[:steps]
            column[: len(known)] = known
        return factorization.sensitivity(column, separation)


_FACTORIZATION_WORDS = {
    "optimized": "the banded matrix with the least error of prefix sums",
    "sqrt": "a banded square root",
    "inverse_sqrt": "a banded inverse square root",
}
FACTORIZATIONS = ("optimized", "sqrt", "inverse_sqrt")

# Outside, the squares of float32 gradients would vanish or overflow, and the clip would not hold.
CLIP_NORMS = (1e-10, 1e10)

# Outside, the accountants' arithmetic overflows; and less noise protects nobody.
_NOISE_MULTIPLIERS = (1e-3, 1e5)

_CLASSES: tuple[type[Mechanism], ...] = (Gaussian, AdaptiveGaussian, Tree, Banded)
BUILT_IN = {cls.name: cls for cls in _CLASSES}
NAMES = tuple(BUILT_IN)
# What a function of the user's own must be.
OWN = "a function (clip_norm, noise_multiplier) -> tfpriv.privacy.Mechanism"


def sampler_of(name: str) -> str | None:
    """Returns the name of the sampler that a mechanism needs; None if any, or not known."""
    return BUILT_IN[name].sampler if name in BUILT_IN else None


def build_mechanism(
    name: str,
    *,
    clip_norm: float,
    noise_multiplier: float | None,
    members_per_step: float,
    horizon: int,
    factorization: str | None = None,
    target_quantile: float | None = None,
    clip_learning_rate: float | None = None,
) -> Mechanism:
    """Returns the mechanism of a name, with what it takes of the settings.

    Args:
        name: Of one in `BUILT_IN`, or of a function of the user's own; see `OWN`.
        clip_norm: The L2 bound on one member's contribution.
        noise_multiplier: Of the noise on the sum; None if it is to be calibrated.
        members_per_step: The expected number of members in a step.
        horizon: The number of steps.
        factorization: Of "banded".
        target_quantile: Of "adaptive".
        clip_learning_rate: Of "adaptive".

    Raises:
        UserError: if the user's function returns something else, or with other noise.
    """
    known: dict[str, Any] = {"clip_norm": clip_norm, "noise_multiplier": noise_multiplier}
    if user_code.is_user_code(name):
        return _own(name, known)
    if name == "tree":
        return Tree(**known)
    if name == "banded":
        assert factorization is not None
        return Banded(**known, factorization=factorization, bands=1, horizon=horizon)
    if name == "adaptive":
        assert target_quantile is not None and clip_learning_rate is not None
        return AdaptiveGaussian(
            **known,
            target_quantile=target_quantile,
            clip_learning_rate=clip_learning_rate,
            count_stddev=_COUNT_STDDEV * members_per_step,
        )
    return Gaussian(**known)


def _own(name, known):
    mechanism = user_code.call(name, "--mechanism", Mechanism, **known)
    for field, value in known.items():
        if getattr(mechanism, field) != value:
            raise UserError(
                f"--mechanism={name} returned a mechanism whose {field} is "
                f"{getattr(mechanism, field)}, not the run's {value}; pass it on as it is."
            )
    return mechanism


def _clipped(mechanism, unit):
    return f"Each {unit}'s contribution was clipped to an L2 norm of {mechanism.clip_norm:g}"


def _noise(mechanism):
    return f"Gaussian noise of {mechanism.noise_multiplier:.4g} times the clip"


def _check(clip_norm, noise_multiplier):
    smallest, largest = CLIP_NORMS
    if not smallest <= clip_norm <= largest:
        raise UserError(
            f"clip_norm is {clip_norm}; it must be a number from {smallest:g} to {largest:g}."
        )
    smallest, largest = _NOISE_MULTIPLIERS
    if noise_multiplier and not smallest <= noise_multiplier <= largest:
        raise UserError(
            f"noise_multiplier is {noise_multiplier}; it must be 0 or a number from {smallest:g} "
            f"to {largest:g}."
        )
