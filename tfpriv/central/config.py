"""What a central run is told to do, complete and checked."""

import dataclasses

from tfpriv import settings
from tfpriv.datasets import features, scaling
from tfpriv.datasets.canaries import KINDS as CANARIES
from tfpriv.errors import UserError
from tfpriv.privacy.mechanisms import FACTORIZATIONS

FEATURES = (*features.NAMES, "dp_pca")
OPTIMIZERS = ("sgd", "momentum", "adam", "adagrad")
MECHANISMS = ("dpsgd", "tree", "banded", "none")
CLIPPINGS = ("fixed", "adaptive", "per_layer")
SAMPLERS = ("poisson", "shuffled", "cyclic_poisson")

_PRIVATE = ("dpsgd", "tree", "banded")

_CHOICES = {
    "scaling": scaling.NAMES,
    "features": FEATURES,
    "optimizer": OPTIMIZERS,
    "mechanism": MECHANISMS,
    "clipping": CLIPPINGS,
    "factorization": FACTORIZATIONS,
    "sampler": SAMPLERS,
    "audit_canary_kind": CANARIES,
}

# What a setting belongs to: the setting that decides, and the values of it that leave it a meaning.
_BELONGS_TO = {
    "pca_components": ("features", ("dp_pca",)),
    "pca_noise_multiplier": ("features", ("dp_pca",)),
    "momentum": ("optimizer", ("momentum",)),
    "clipping": ("mechanism", ("dpsgd",)),
    "clip_norm": ("mechanism", _PRIVATE),
    "noise_multiplier": ("mechanism", _PRIVATE),
    "target_epsilon": ("mechanism", _PRIVATE),
    "delta": ("mechanism", _PRIVATE),
    "insecure_sampling_seed": ("mechanism", _PRIVATE),
    "target_quantile": ("clipping", ("adaptive",)),
    "clip_learning_rate": ("clipping", ("adaptive",)),
    "factorization": ("mechanism", ("banded",)),
    "bands": ("mechanism", ("banded",)),
    "separation": ("mechanism", ("banded",)),
}

# Taken where a setting is not given but has a meaning.
_DEFAULTS = {
    "pca_components": 60,
    "momentum": 0.9,
    "clipping": "fixed",
    "clip_norm": 1.0,
    "delta": 1e-5,
    "target_quantile": 0.5,
    "clip_learning_rate": 0.2,
    "factorization": "optimized",
}

# Keras' own, but for SGD, whose 0.01 is too little for clipped gradients.
_LEARNING_RATES = {"sgd": 0.25, "momentum": 0.05, "adam": 0.001, "adagrad": 0.05}

_SAMPLER_OF = {"tree": "shuffled", "banded": "cyclic_poisson"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentralConfig:
    """One central run. The flags of experiments/central.py document each field.

    A field that is None was not given; `complete` fills it in if the other choices leave it a
    meaning. Giving one that has none is an error.
    """

    dataset: str = "mnist"
    data_dir: str | None = None
    scaling: str | None = None
    features: str = "none"
    pca_components: int | None = None
    pca_noise_multiplier: float | None = None
    train_fraction: float = 1.0
    model: str = "cnn_tutorial"

    optimizer: str = "sgd"
    learning_rate: float | None = None
    momentum: float | None = None
    schedule: str = "constant"
    expected_batch_size: float = 256
    epochs: int = 15
    accumulate_steps: int = 1

    mechanism: str = "dpsgd"
    sampler: str | None = None
    clipping: str | None = None
    clip_norm: float | None = None
    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float | None = None
    target_quantile: float | None = None
    clip_learning_rate: float | None = None
    factorization: str | None = None
    bands: int | None = None
    separation: int | None = None

    audit_canaries: int = 0
    audit_canary_kind: str | None = None
    audit_secrets: int = 0

    eval_every: int = 1
    checkpoint_every: int = 1
    seed: int = 0
    insecure_sampling_seed: int | None = None
    output_dir: str | None = None
    resume: bool = False

    def complete(self) -> "CentralConfig":
        """Returns this config with every field that has a meaning filled in.

        `separation` and `bands` are left open until the number of examples is known (see
        `privacy.fit_bands`).

        Raises:
            UserError: if a value is not among the choices or out of range, a field belongs to a
                choice not made, or the choices do not go together.
        """
        settings.check_choices(self, _CHOICES)
        filled = settings.fill_in(self, _BELONGS_TO, _DEFAULTS)
        if filled["scaling"] is None:
            filled["scaling"] = scaling.default(is_private=self.claims_privacy)
        if filled["learning_rate"] is None:
            filled["learning_rate"] = _LEARNING_RATES[self.optimizer]
        if filled["sampler"] is None:
            filled["sampler"] = _SAMPLER_OF.get(self.mechanism, "poisson")
        if filled["audit_canaries"] and filled["audit_canary_kind"] is None:
            filled["audit_canary_kind"] = CANARIES[0]
        config = CentralConfig(**filled)
        _check_numbers(config)
        _check_together(config)
        return config

    @property
    def is_private(self) -> bool:
        """Whether a mechanism was chosen."""
        return self.mechanism != "none"

    @property
    def claims_privacy(self) -> bool:
        """Whether noise is added, so that there is an epsilon; who takes part is then a secret."""
        return self.is_private and self.noise_multiplier != 0


def _check_numbers(config):
    settings.check_at_least(
        config,
        {
            "pca_components": 1,
            "epochs": 1,
            "accumulate_steps": 1,
            "bands": 1,
            "separation": 1,
            "audit_canaries": 0,
            "audit_secrets": 0,
            "eval_every": 1,
            "checkpoint_every": 1,
            "seed": 0,
            "insecure_sampling_seed": 0,
        },
    )
    settings.check_positive(
        config,
        (
            "pca_noise_multiplier",
            "learning_rate",
            "expected_batch_size",
            "clip_norm",
            "target_epsilon",
        ),
    )
    settings.check_not_negative(config, ("noise_multiplier", "clip_learning_rate"))
    settings.check_momentum(config, ("momentum",))
    settings.check_between(config, ("target_quantile",))
    settings.check_delta(config)
    settings.check_fraction(config, ("train_fraction",))


def _check_together(config):
    settings.check_sampling_seed(config)
    settings.check_bands(config)
    if config.audit_canaries and config.features == "dp_pca":
        raise UserError(
            f"--audit_canaries={config.audit_canaries} and --features=dp_pca do not go together: "
            "the components would be computed from canaries that take no part; use another "
            "--features."
        )
    if config.audit_canary_kind and not config.audit_canaries:
        raise UserError(
            f"--audit_canary_kind={config.audit_canary_kind} has no meaning without canaries; "
            "leave it out, or give --audit_canaries."
        )
    if config.is_private and (config.target_epsilon is None) == (config.noise_multiplier is None):
        given = "neither was" if config.target_epsilon is None else "both were"
        raise UserError(
            f"--mechanism={config.mechanism} needs one of --target_epsilon and "
            f"--noise_multiplier, and {given} given; give exactly one, or --mechanism=none to "
            "train without privacy."
        )
    if config.accumulate_steps > 1 and not config.is_private:
        raise UserError(
            f"--accumulate_steps={config.accumulate_steps} has no meaning with --mechanism=none, "
            "which takes each batch whole; leave it out, or choose a mechanism."
        )
    if config.features == "dp_pca":
        _check_pca(config)
    wanted = _SAMPLER_OF.get(config.mechanism)
    if wanted and config.sampler != wanted:
        raise UserError(
            f"--mechanism={config.mechanism} has no bound for --sampler={config.sampler}; leave it "
            f"out, or use --sampler={wanted}, by which an example's steps lie far apart."
        )
    if not wanted and config.sampler == "cyclic_poisson":
        raise UserError(
            f"--sampler=cyclic_poisson belongs to --mechanism=banded, not {config.mechanism}; use "
            "poisson or shuffled."
        )
    if config.sampler == "shuffled" and config.expected_batch_size % 1:
        raise UserError(
            f"--expected_batch_size={config.expected_batch_size} must be a whole number with "
            "--sampler=shuffled; round it or use --sampler=poisson."
        )


def _check_pca(config):
    is_noised = config.pca_noise_multiplier is not None
    if config.is_private and not is_noised:
        raise UserError(
            f"--features=dp_pca with --mechanism={config.mechanism} needs --pca_noise_multiplier, "
            "the noise of the principal components, which are computed from the training data; "
            "give it, such as 7."
        )
    if is_noised and not config.is_private:
        raise UserError(
            f"--pca_noise_multiplier={config.pca_noise_multiplier} has no meaning with "
            "--mechanism=none; leave it out, or choose a mechanism."
        )
