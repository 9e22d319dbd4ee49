"""What a secure training run is told to do, complete and checked; imports no TensorFlow."""

import dataclasses

from tfpriv import settings
from tfpriv.datasets import scaling
from tfpriv.errors import UserError

NETWORKS = ("logistic", "A", "B", "C", "D")
OPTIMIZERS = ("sgd", "adam", "amsgrad")
PROTOCOLS = ("aby3",)
OUTCOMES = ("weights", "predictions")

_CHOICES = {
    "scaling": scaling.NAMES,
    "network": NETWORKS,
    "optimizer": OPTIMIZERS,
    "protocol": PROTOCOLS,
    "outcome": OUTCOMES,
}

_LEARNING_RATES = {"sgd": 0.01, "adam": 0.001, "amsgrad": 0.001}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecureTrainingConfig:
    """One secure training run. The flags of experiments/secure_training.py document each field.

    A field that is None was not given; `complete` fills it in if the other choices leave it a
    meaning. Giving one that has none is an error.
    """

    dataset: str = "mnist"
    data_dir: str | None = None
    scaling: str | None = None
    network: str | None = None
    model: str | None = None

    optimizer: str = "sgd"
    learning_rate: float | None = None
    momentum: float | None = None
    batch_size: int = 128
    epochs: int = 5
    max_steps: int | None = None

    protocol: str = "aby3"
    players: str = "local"
    trusted_network: bool = False
    outcome: str = "weights"

    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    clip_norm: float | None = None
    delta: float | None = None

    eval_every: int = 100
    overflow_check_every: int | None = None
    seed: int = 0
    insecure_sampling_seed: int | None = None
    output_dir: str | None = None
    resume: bool = False

    @property
    def is_private(self) -> bool:
        """Whether noise is to be added."""
        return self.target_epsilon is not None or self.noise_multiplier is not None

    @property
    def claims_privacy(self) -> bool:
        """Whether there is an epsilon; who takes part is then a secret."""
        return self.is_private

    def complete(self) -> "SecureTrainingConfig":
        """Returns this config with every field that has a meaning filled in.

        Raises:
            UserError: if a value is not among the choices or out of range, a field belongs to a
                choice not made, or the choices do not go together.
        """
        settings.check_choices(self, _CHOICES)
        _check_together(self)
        filled = settings.fill_in(self, {"momentum": ("optimizer", ("sgd",))}, {"momentum": 0.9})
        if self.network is None and self.model is None:
            filled["network"] = "A"
        if self.scaling is None:
            filled["scaling"] = scaling.default(is_private=self.claims_privacy)
        if self.overflow_check_every is None and not self.is_private:
            filled["overflow_check_every"] = 50
        if self.learning_rate is None:
            filled["learning_rate"] = _LEARNING_RATES[self.optimizer]
        if self.is_private:
            filled["clip_norm"] = 1.0 if self.clip_norm is None else self.clip_norm
            filled["delta"] = 1e-5 if self.delta is None else self.delta
        config = SecureTrainingConfig(**filled)
        _check_numbers(config)
        return config


def _check_together(config):
    if config.resume:
        raise UserError(
            "secure training cannot be resumed: a checkpoint would be every party's shares in one "
            "place, which are the weights; start anew without --resume."
        )
    if config.network is not None and config.model is not None:
        raise UserError(
            f"--network={config.network} and --model={config.model} both name what to train; give "
            "one of them."
        )
    if config.target_epsilon is not None and config.noise_multiplier is not None:
        raise UserError("--target_epsilon and --noise_multiplier decide the same; give one.")
    if not config.is_private:
        for name in ("clip_norm", "delta", "insecure_sampling_seed"):
            if getattr(config, name) is not None:
                raise UserError(
                    f"--{name}={getattr(config, name)} has no meaning without --target_epsilon or "
                    "--noise_multiplier; leave it out, or give one of them."
                )
    elif config.overflow_check_every is not None:
        raise UserError(
            f"--overflow_check_every={config.overflow_check_every} opens bits that depend on the "
            "examples, which no epsilon covers, and clipping bounds every number of private "
            "training anyway; leave it out."
        )
    elif config.outcome != "weights":
        raise UserError(
            f"--outcome={config.outcome} hides the weights, and under differential privacy every "
            "step's noised gradient, and so the weights, are the outcome; leave it out."
        )


def _check_numbers(config):
    settings.check_at_least(
        config,
        {
            "batch_size": 1,
            "epochs": 1,
            "max_steps": 1,
            "eval_every": 1,
            "overflow_check_every": 1,
            "seed": 0,
            "insecure_sampling_seed": 0,
        },
    )
    settings.check_positive(
        config, ("learning_rate", "clip_norm", "target_epsilon", "noise_multiplier")
    )
    settings.check_momentum(config, ("momentum",))
    settings.check_delta(config)
