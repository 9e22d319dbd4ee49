"""Settings: what stands beside each field of a config, and the checks that follow from it.

A config is a dataclass whose fields are made by the functions that `group` returns. Help texts,
flags, documentation and checks all come from there.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, TypeVar

from tfpriv import user_code
from tfpriv.errors import UserError

# Among the values that a setting belongs to: any function of the user's own.
OWN = "your own"

# What a flag can have; in Python a field may have more.
_KINDS = (str, int, float, bool)


class Config(Protocol):
    """A dataclass whose fields are settings."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class SampledConfig(Config, Protocol):
    """The config of a run in which who takes part may be a secret."""

    @property
    def claims_privacy(self) -> bool:
        """Whether it is one."""

    @property
    def insecure_sampling_seed(self) -> int | None:
        """The number that decides about it; None for a key."""


class BandedConfig(Config, Protocol):
    """The config of a run whose mechanism may be banded."""

    @property
    def bands(self) -> int | None:
        """The number of bands."""

    @property
    def separation(self) -> int | None:
        """The least number of steps from one of a member's to its next."""

    @property
    def mechanism(self) -> str | Callable | None:
        """The mechanism's name."""

    @property
    def factorization(self) -> str | None:
        """What the noise is correlated by."""

    @property
    def noise_multiplier(self) -> float | None:
        """The noise multiplier; None if a target decides about it."""


_Config = TypeVar("_Config", bound=Config)
_Class = TypeVar("_Class", bound=type)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limit:
    """What a number must be.

    Attributes:
        least: The least value, or, if it is `above`, what the number must be above.
        most: The largest value, or, if it is `below`, what the number must be below.
        words: What to say of a number that is not within.
        above: Whether `least` itself is too small.
        below: Whether `most` itself is too large.
        is_capped: Whether `words` leave `most` out, as few come near it.
    """

    least: float
    most: float
    words: str
    above: bool = False
    below: bool = False
    is_capped: bool = False

    def holds(self, value: float) -> bool:
        """Says whether a number is within the limit; NaN is not."""
        is_large_enough = value > self.least if self.above else value >= self.least
        return is_large_enough and (value < self.most if self.below else value <= self.most)

    def check(self, name: str, value: float | None) -> None:
        """Raises UserError if a value, unless None, is not within the limit."""
        if value is None or self.holds(value):
            return
        if self.is_capped and self.most < value < math.inf:
            most = f"{self.most:g}" if isinstance(self.most, float) else self.most
            raise UserError(f"--{name}={value} is too large; it must be at most {most}.")
        raise UserError(f"--{name}={value} {self.words}.")


# Steps, rounds, clients and the like: what a run of years or a machine's memory ends before.
MOST = 100_000_000
# Where float32 ends.
_LARGEST = 3e38


def at_least(least: int, most: int = MOST) -> Limit:
    """Returns the limit of whole numbers that have a least value."""
    words = f"is too small; it must be at least {least}"
    return Limit(least=least, most=most, words=words, is_capped=True)


def between(least: float, most: float) -> Limit:
    """Returns the limit of numbers from one to another, both included."""
    words = f"must be a number from {least:g} to {most:g}"
    return Limit(least=least, most=most, words=words)


POSITIVE = Limit(
    least=0.0, above=True, most=_LARGEST, words="must be a number above 0", is_capped=True
)
NOT_NEGATIVE = Limit(least=0.0, most=_LARGEST, words="must be a number at least 0", is_capped=True)
BETWEEN_0_AND_1 = Limit(least=0.0, most=1.0, words="must be between 0 and 1")
BELOW_1 = Limit(least=0.0, most=1.0, below=True, words="must be at least 0 and below 1")
FRACTION = Limit(least=0.0, above=True, most=1.0, words="must be a number above 0 and at most 1")
BELOW_HALF = Limit(least=0.0, most=0.5, below=True, words="must be at least 0 and below 0.5")
# Below, the rounding of float64 is all that there is.
DELTA = Limit(least=1e-30, most=1.0, below=True, words="must be at least 1e-30 and below 1")
CONFIDENCE = Limit(
    least=0.5, most=1.0, below=True, words="must be at least 0.5 and below 1; 0.95 is usual"
)
SEED = at_least(0, 2**32 - 1)
SAMPLING_SEED = at_least(0, 2**63 - 1)
PROBABILITY = Limit(
    least=0.0, above=True, most=1.0, below=True, words="must be above 0 and below 1"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What is to be known of a field of a config.

    Attributes:
        name: The field's.
        kind: str, int, float or bool.
        default: The field's default; None stands for not given.
        group: Under which heading the help has it.
        text: What it is, as the help says it.
        choices: The values that it may have; None if there are others.
        own: What a function of the user's own must be, which may be named in the place of a choice
            as module:function or path/to/file.py:function; None if none may.
        belongs_to: The setting that decides whether it has a meaning, and the values of that one
            under which it has, with `OWN` for the user's own; None if it always has.
        otherwise: What is taken where it has a meaning and was not given.
        shown: In words, what is taken where it was not given and `otherwise` is None.
        limit: What a number must be.
    """

    name: str
    kind: type
    default: object
    group: str
    text: str
    choices: tuple[str, ...] | None = None
    own: str | None = None
    belongs_to: tuple[str, tuple[str, ...]] | None = None
    otherwise: object = None
    shown: str | None = None
    limit: Limit | None = None

    @property
    def help(self) -> str:
        """The text with what it belongs to before it, and what is taken by default after it."""
        text = self.text
        if self.own:
            text += f" Or your own, as module:function or path/to/file.py:function: {self.own}."
        if self.belongs_to:
            decider, values = self.belongs_to
            start = text[0] if text[1:2].isupper() else text[0].lower()
            text = f"With --{decider}={' or '.join(values)}: {start}{text[1:]}"
        taken = self.shown
        if self.otherwise is not None:
            taken = str(self.otherwise).lower() if self.kind is bool else str(self.otherwise)
        return f"{text} [{taken}]" if taken else text


def group(name: str) -> Callable[..., Any]:
    """Returns a function that makes fields of a heading of the help.

    Its arguments are the default and the text, and by keyword what `Setting` has besides.
    """

    def make(default: Any, text: str, **more: object) -> Any:
        return dataclasses.field(
            default=default, metadata={"setting": {"group": name, "text": text, **more}}
        )

    return make


def of(config: type[Config] | Config) -> Iterator[Setting]:
    """Yields the settings of a config, or of its class, in the order of its fields."""
    cls = config if isinstance(config, type) else type(config)
    kinds = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = kinds[field.name]
        if isinstance(kind, types.UnionType):
            kind = next(member for member in typing.get_args(kind) if member in _KINDS)
        more = field.metadata["setting"]
        yield Setting(name=field.name, kind=kind, default=field.default, **more)


def documented(cls: _Class) -> _Class:
    """Adds what the settings say to the docstring of a config class."""
    lines = []
    for setting in of(cls):
        choices = f" One of {', '.join(setting.choices)}." if setting.choices else ""
        # In backticks a page of HTML shows <date>.
        text = re.sub(r"[\w/-]*(?:<\w+>[\w/-]*)+", r"`\g<0>`", setting.help)
        lines.append(f"        {setting.name}: {text}{choices}")
    text = (cls.__doc__ or "").rstrip()
    cls.__doc__ = f"{text}\n\n    Attributes:\n" + "\n".join(lines) + "\n    "
    return cls


def with_names(config: _Config, **named: Callable[[Any], str]) -> _Config:
    """Returns a config in which objects that were given in Python are replaced by their names.

    Args:
        config: A dataclass.
        **named: By field, the function that gives the name of what it holds.
    """
    named |= {setting.name: user_code.give for setting in of(config) if setting.own}
    names = {
        field: name_of(getattr(config, field))
        for field, name_of in named.items()
        if not isinstance(getattr(config, field), str | None)
    }
    return dataclasses.replace(config, **names)


def check_choices(config: Config) -> None:
    """Raises UserError if a field, unless None, is not among its choices."""
    for setting in of(config):
        value = getattr(config, setting.name)
        if not setting.choices or value is None or value in setting.choices:
            continue
        if setting.own and user_code.is_user_code(value):
            continue
        own_choice = f", or {setting.own} as path/to/file.py:function" if setting.own else ""
        raise UserError(
            f"--{setting.name}={value} is not known; choose one of {', '.join(setting.choices)}"
            f"{own_choice}."
        )


def check_limits(config: Config) -> None:
    """Raises UserError if a number, unless None, is not within its limit."""
    for setting in of(config):
        if setting.limit is not None:
            setting.limit.check(setting.name, getattr(config, setting.name))


def fill_in(config: Config) -> dict[str, Any]:
    """Returns a config's fields, with what is taken where one has a meaning and was not given.

    A setting comes after the one that decides about it.

    Raises:
        UserError: A field was given that has no meaning.
    """
    filled = dataclasses.asdict(config)
    for setting in of(config):
        if setting.belongs_to is None:
            continue
        name, (decider, values) = setting.name, setting.belongs_to
        decided = filled[decider]
        has_meaning = decided in values
        if OWN in values and isinstance(decided, str):
            has_meaning |= user_code.is_user_code(decided)
        if filled[name] is not None and not has_meaning:
            raise UserError(
                f"--{name}={filled[name]} has no meaning with --{decider}={decided}; "
                f"leave it out, or choose --{decider}={' or '.join(values)}."
            )
        if filled[name] is None and has_meaning:
            filled[name] = setting.otherwise
    return filled


def belonging_to(config: Config, decider: str, value: str) -> dict[str, object]:
    """Returns by name the settings that have a meaning under one value of `decider` alone."""
    return {
        setting.name: getattr(config, setting.name)
        for setting in of(config)
        if setting.belongs_to == (decider, (value,))
    }


def check_sampling_seed(config: SampledConfig) -> None:
    """Raises UserError if `insecure_sampling_seed` is given where no draw is a secret."""
    seed = config.insecure_sampling_seed
    if seed is not None and not config.claims_privacy:
        raise UserError(
            f"--insecure_sampling_seed={seed} has no meaning with --noise_multiplier=0, where "
            "--seed decides who takes part; leave it out, or add noise."
        )


def check_bands(config: BandedConfig) -> None:
    """Refuses a noise multiplier that is given for a banded mechanism without a number of bands."""
    is_open = config.bands is None and config.separation is None
    if config.mechanism != "banded" or config.factorization == "inverse_sqrt":
        return
    if is_open and config.noise_multiplier is not None:
        raise UserError(
            f"--mechanism=banded with --noise_multiplier={config.noise_multiplier} needs --bands: "
            "each number of bands has another epsilon; give it, such as 16, or give "
            "--target_epsilon instead, for which the best number is chosen."
        )
