"""What an audit is told to do, complete and checked."""

import dataclasses

from tfpriv import settings
from tfpriv.errors import UserError

ATTACKS = ("membership", "lira", "one_run", "canary_clients", "secret_sharer")
VARIANTS = ("offline", "online", "both")
FEWEST_EXAMPLES = 10
# With fewer, TensorFlow Privacy runs no attack.
FEWEST_FOR_MEMBERSHIP = 20
LARGEST_SEED = 2**32 - 1

_BELONGS_TO = {
    "max_examples": ("attack", ("membership", "lira")),
    "shadow_models": ("attack", ("lira",)),
    "lira_variant": ("attack", ("lira",)),
    "processes": ("attack", ("lira",)),
}
_DEFAULTS = {
    "max_examples": 1000,
    "shadow_models": 32,
    "lira_variant": "both",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """One audit. The flags of experiments/audit.py document each field."""

    run: str | None = None
    attack: str = "membership"
    data_dir: str | None = None
    trust_code: bool = False
    confidence: float = 0.95
    max_examples: int | None = None
    shadow_models: int | None = None
    lira_variant: str | None = None
    processes: int | None = None
    seed: int = 0
    output_dir: str | None = None
    resume: bool = False

    def complete(self) -> "AuditConfig":
        """Returns this config with every field that has a meaning filled in.

        Raises:
            UserError: if a value is not among the choices or out of range, or a field belongs to
                an attack not chosen.
        """
        if not self.run:
            raise UserError("there is nothing to audit; give --run, the directory of a run.")
        settings.check_choices(self, {"attack": ATTACKS, "lira_variant": VARIANTS})
        config = AuditConfig(**settings.fill_in(self, _BELONGS_TO, _DEFAULTS))
        settings.check_at_least(
            config,
            {"max_examples": FEWEST_EXAMPLES, "shadow_models": 4, "processes": 1, "seed": 0},
        )
        if config.attack == "membership":
            settings.check_at_least(config, {"max_examples": FEWEST_FOR_MEMBERSHIP})
        if config.seed > LARGEST_SEED:
            raise UserError(
                f"--seed={config.seed} is too large; it must be at most {LARGEST_SEED}."
            )
        if config.shadow_models and config.shadow_models % 2:
            raise UserError(
                f"--shadow_models={config.shadow_models} must be even; half see an example."
            )
        if not 0.5 <= config.confidence < 1:
            raise UserError(
                f"--confidence={config.confidence} must be at least 0.5 and below 1; 0.95 is usual."
            )
        return config
