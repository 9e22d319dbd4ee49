"""What a federated run is told to do, complete and checked."""

import dataclasses

from tfpriv import settings
from tfpriv.datasets import scaling
from tfpriv.errors import UserError
from tfpriv.privacy.mechanisms import FACTORIZATIONS

ALGORITHMS = ("fedavg", "fedsgd", "fedprox", "mimelite")
CLIENT_OPTIMIZERS = ("sgd", "momentum", "adam")
SERVER_OPTIMIZERS = ("sgd", "momentum", "adam", "yogi", "adagrad")
WEIGHTINGS = ("examples", "uniform")
PRIVACY_UNITS = ("none", "client", "example")
MECHANISMS = ("gaussian", "adaptive", "tree", "banded")
SAMPLERS = ("poisson", "fixed_size", "shuffled", "cyclic_poisson")

_CHOICES = {
    "scaling": scaling.NAMES,
    "algorithm": ALGORITHMS,
    "sampler": SAMPLERS,
    "weighting": WEIGHTINGS,
    "client_optimizer": CLIENT_OPTIMIZERS,
    "server_optimizer": SERVER_OPTIMIZERS,
    "privacy_unit": PRIVACY_UNITS,
    "mechanism": MECHANISMS,
    "factorization": FACTORIZATIONS,
}

_SAMPLER_OF = {"tree": "shuffled", "banded": "cyclic_poisson"}

_LOCAL_TRAINING = ("fedavg", "fedprox", "mimelite")
_ADAPTIVE_SERVERS = ("adam", "yogi", "adagrad")

# What a setting belongs to: the setting that decides, and the values of it that leave it a meaning.
_BELONGS_TO = {
    "client_epochs": ("algorithm", _LOCAL_TRAINING),
    "client_optimizer": ("algorithm", _LOCAL_TRAINING),
    "client_learning_rate": ("algorithm", _LOCAL_TRAINING),
    "client_schedule": ("algorithm", _LOCAL_TRAINING),
    "client_momentum": ("client_optimizer", ("momentum",)),
    "proximal_strength": ("algorithm", ("fedprox",)),
    "server_momentum": ("server_optimizer", ("momentum",)),
    "server_epsilon": ("server_optimizer", _ADAPTIVE_SERVERS),
    "weighting": ("privacy_unit", ("none",)),
    "mechanism": ("privacy_unit", ("client", "example")),
    "clip_norm": ("privacy_unit", ("client", "example")),
    "target_epsilon": ("privacy_unit", ("client", "example")),
    "noise_multiplier": ("privacy_unit", ("client", "example")),
    "delta": ("privacy_unit", ("client", "example")),
    "insecure_sampling_seed": ("privacy_unit", ("client", "example")),
    "release_train_metrics": ("privacy_unit", ("client",)),
    "target_quantile": ("mechanism", ("adaptive",)),
    "clip_learning_rate": ("mechanism", ("adaptive",)),
    "factorization": ("mechanism", ("banded",)),
    "bands": ("mechanism", ("banded",)),
    "separation": ("mechanism", ("banded",)),
}

# Taken where a setting is not given but has a meaning.
_DEFAULTS = {
    "client_epochs": 1,
    "client_optimizer": "sgd",
    "client_learning_rate": 0.1,
    "client_momentum": 0.9,
    "client_schedule": "constant",
    "proximal_strength": 0.1,
    "server_momentum": 0.9,
    "server_epsilon": 1e-3,
    "weighting": "examples",
    "mechanism": "gaussian",
    "clip_norm": 1.0,
    "delta": 1e-5,
    "release_train_metrics": False,
    "target_quantile": 0.5,
    "clip_learning_rate": 0.2,
    "factorization": "optimized",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FederatedConfig:
    """One federated run. The flags of experiments/federated.py document each field.

    A field that is None was not given; `complete` fills it in if the other choices leave it a
    meaning. Giving one that has none is an error.
    """

    dataset: str = "mnist"
    data_dir: str | None = None
    scaling: str | None = None
    partition: str = "iid"
    num_clients: int | None = None
    model: str = "2nn"

    algorithm: str = "fedavg"
    rounds: int = 100
    clients_per_round: float = 10
    sampler: str | None = None
    weighting: str | None = None
    batch_size: int = 20
    client_epochs: int | None = None
    client_optimizer: str | None = None
    client_learning_rate: float | None = None
    client_momentum: float | None = None
    client_schedule: str | None = None
    proximal_strength: float | None = None
    server_optimizer: str = "sgd"
    server_learning_rate: float = 1.0
    server_momentum: float | None = None
    server_epsilon: float | None = None
    server_schedule: str = "constant"

    privacy_unit: str = "none"
    mechanism: str | None = None
    clip_norm: float | None = None
    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float | None = None
    target_quantile: float | None = None
    clip_learning_rate: float | None = None
    factorization: str | None = None
    bands: int | None = None
    separation: int | None = None
    release_train_metrics: bool | None = None

    audit_canaries: int = 0
    eval_every: int = 1
    target_accuracy: float | None = None
    checkpoint_every: int | None = None
    plot_partition: bool | None = None
    seed: int = 0
    insecure_sampling_seed: int | None = None
    output_dir: str | None = None
    resume: bool = False

    @property
    def is_private(self) -> bool:
        """Whether a privacy unit was chosen."""
        return self.privacy_unit != "none"

    @property
    def claims_privacy(self) -> bool:
        """Whether noise is added, so that there is an epsilon; who takes part is then a secret."""
        return self.is_private and self.noise_multiplier != 0

    def complete(self) -> "FederatedConfig":
        """Returns this config with every field that has a meaning filled in.

        Raises:
            UserError: if a value is not among the choices or out of range, a field belongs to a
                choice not made, or the choices do not go together.
        """
        settings.check_choices(self, _CHOICES)
        filled = settings.fill_in(self, _BELONGS_TO, _DEFAULTS)
        if filled["scaling"] is None:
            filled["scaling"] = scaling.default(is_private=self.claims_privacy)
        if filled["sampler"] is None:
            filled["sampler"] = _default_sampler(filled)
        if filled["num_clients"] is None and self.partition not in ("writers", "natural"):
            filled["num_clients"] = 100
        if filled["checkpoint_every"] is None:
            # A private round that is lost and run again is paid for twice.
            filled["checkpoint_every"] = 1 if self.is_private else 10
        if filled["plot_partition"] is None:
            filled["plot_partition"] = not self.claims_privacy
        config = FederatedConfig(**filled)
        _check_numbers(config)
        _check_together(config)
        return config


def _default_sampler(filled):
    if filled["privacy_unit"] != "client":
        return "fixed_size"
    return _SAMPLER_OF.get(filled["mechanism"], "poisson")


def _check_numbers(config):
    settings.check_at_least(
        config,
        {
            "rounds": 1,
            "num_clients": 1,
            "batch_size": 1,
            "client_epochs": 1,
            "eval_every": 1,
            "checkpoint_every": 1,
            "bands": 1,
            "separation": 1,
            "audit_canaries": 0,
            "seed": 0,
            "insecure_sampling_seed": 0,
        },
    )
    settings.check_positive(
        config,
        (
            "clients_per_round",
            "client_learning_rate",
            "server_learning_rate",
            "server_epsilon",
            "clip_norm",
            "target_epsilon",
        ),
    )
    settings.check_not_negative(
        config, ("proximal_strength", "noise_multiplier", "clip_learning_rate")
    )
    settings.check_momentum(config, ("client_momentum", "server_momentum"))
    settings.check_between(config, ("target_quantile", "target_accuracy"))
    settings.check_delta(config)


def _check_together(config):
    settings.check_sampling_seed(config)
    settings.check_bands(config)
    if config.is_private and (config.target_epsilon is None) == (config.noise_multiplier is None):
        given = "neither was" if config.target_epsilon is None else "both were"
        raise UserError(
            f"--privacy_unit={config.privacy_unit} needs one of --target_epsilon and "
            f"--noise_multiplier, and {given} given; give exactly one."
        )
    if config.is_private and config.algorithm == "mimelite":
        raise UserError(
            "--algorithm=mimelite sends full gradients beside the updates, which no noise here "
            "covers; use fedavg, fedprox or fedsgd with --privacy_unit, or --privacy_unit=none."
        )
    if config.privacy_unit == "example" and config.algorithm != "fedavg":
        raise UserError(
            f"--algorithm={config.algorithm} has no private form of local training; use "
            "--algorithm=fedavg with --privacy_unit=example."
        )
    if config.privacy_unit == "example" and config.mechanism != "gaussian":
        raise UserError(
            f"--mechanism={config.mechanism} works on the server's sum; use --mechanism=gaussian, "
            "or leave it out, with --privacy_unit=example."
        )
    if config.audit_canaries and config.algorithm == "mimelite":
        raise UserError(
            f"--audit_canaries={config.audit_canaries} has no form in --algorithm=mimelite, where "
            "clients send gradients beside updates; use fedavg, fedprox or fedsgd."
        )
    if config.audit_canaries and config.privacy_unit == "example":
        raise UserError(
            f"--audit_canaries={config.audit_canaries} adds whole clients, about which "
            "--privacy_unit=example promises nothing; use --privacy_unit=client or none."
        )
    wanted = _SAMPLER_OF.get(config.mechanism)
    if wanted and config.sampler != wanted:
        raise UserError(
            f"--mechanism={config.mechanism} has no bound for --sampler={config.sampler}; use "
            f"--sampler={wanted}, by which a client's rounds lie far apart."
        )
    if config.sampler == "cyclic_poisson" and config.mechanism != "banded":
        raise UserError(
            "--sampler=cyclic_poisson belongs to --mechanism=banded with --privacy_unit=client; "
            "use another sampler."
        )
    takes_a_mean = config.sampler in ("poisson", "cyclic_poisson")
    if not takes_a_mean and config.clients_per_round != int(config.clients_per_round):
        raise UserError(
            f"--clients_per_round={config.clients_per_round} must be a whole number with "
            f"--sampler={config.sampler}; round it or use --sampler=poisson."
        )
