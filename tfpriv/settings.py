"""Checks that configs share: choices, ranges, and settings that need another choice."""

import dataclasses
import math
from collections.abc import Collection, Mapping

from tfpriv.errors import UserError


def check_choices(config, choices: Mapping[str, Collection[str]]) -> None:
    """Raises UserError if a field, unless None, is not among its choices."""
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value is not None and value not in allowed:
            raise UserError(f"--{name}={value} is not known; choose one of {', '.join(allowed)}.")


def fill_in(
    config, belongs_to: Mapping[str, tuple[str, Collection]], defaults: Mapping[str, object]
) -> dict:
    """Returns a config's fields, with defaults where a field has a meaning and was not given.

    Args:
        config: A dataclass; None stands for not given.
        belongs_to: By field, the field that decides whether it has a meaning, and the values of
            that one under which it has. A decider comes before what it decides.
        defaults: What to take for fields that were not given; None for others.

    Raises:
        UserError: if a field was given that has no meaning.
    """
    filled = dataclasses.asdict(config)
    for name, (decider, values) in belongs_to.items():
        has_meaning = filled[decider] in values
        if filled[name] is not None and not has_meaning:
            raise UserError(
                f"--{name}={filled[name]} has no meaning with --{decider}={filled[decider]}; "
                f"leave it out, or choose --{decider}={' or '.join(values)}."
            )
        if filled[name] is None and has_meaning:
            filled[name] = defaults.get(name)
    return filled


def check_at_least(config, lowest: Mapping[str, int]) -> None:
    """Raises UserError if a whole number, unless None, is below its least value."""
    for name, least in lowest.items():
        value = getattr(config, name)
        if value is not None and value < least:
            raise UserError(f"--{name}={value} is too small; it must be at least {least}.")


def check_positive(config, names: Collection[str]) -> None:
    """Raises UserError if a field, unless None, is not a finite number above 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UserError(f"--{name}={value} must be a number above 0.")


def check_not_negative(config, names: Collection[str]) -> None:
    """Raises UserError if a field, unless None, is not a finite number of at least 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise UserError(f"--{name}={value} must be a number at least 0.")


def check_between(config, names: Collection[str]) -> None:
    """Raises UserError if a field, unless None, is not a number from 0 to 1."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"--{name}={value} must be between 0 and 1.")


def check_momentum(config, names: Collection[str]) -> None:
    """Raises UserError if a field, unless None, is not at least 0 and below 1."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value < 1:
            raise UserError(f"--{name}={value} must be at least 0 and below 1.")


def check_fraction(config, names: Collection[str]) -> None:
    """Raises UserError if a field, unless None, is not a number in (0, 1]."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value <= 1:
            raise UserError(f"--{name}={value} must be a number above 0 and at most 1.")


def check_sampling_seed(config) -> None:
    """Raises UserError if `insecure_sampling_seed` is given where no draw is a secret."""
    seed = config.insecure_sampling_seed
    if seed is not None and not config.claims_privacy:
        raise UserError(
            f"--insecure_sampling_seed={seed} has no meaning with --noise_multiplier=0, where "
            "--seed decides who takes part; leave it out, or add noise."
        )


def check_delta(config) -> None:
    """Raises UserError if `delta`, unless None, is not a probability between 0 and 1."""
    if config.delta is not None and not 0 < config.delta < 1:
        raise UserError(f"--delta={config.delta} must be above 0 and below 1.")


def check_bands(config) -> None:
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
