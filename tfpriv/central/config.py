"""What a central run is told to do, complete and checked."""

import dataclasses
from collections.abc import Callable

from tfpriv import datasets, models, settings
from tfpriv.datasets import features, scaling
from tfpriv.datasets.canaries import KINDS as CANARIES
from tfpriv.errors import UserError
from tfpriv.privacy import mechanisms, sampling

FEATURES = (*features.NAMES, "dp_pca")
OPTIMIZERS = ("sgd", "momentum", "adam", "adagrad")
# dpsgd is gaussian, or adaptive, as --clipping says.
_PRIVATE = ("dpsgd", *(n for n in mechanisms.NAMES if n not in ("gaussian", "adaptive")))
MECHANISMS = (*_PRIVATE, "none")
CLIPPINGS = ("fixed", "adaptive", "per_layer")
SAMPLERS = ("poisson", "shuffled", "cyclic_poisson")

# Keras' own, but for SGD, whose 0.01 is too little for clipped gradients.
_LEARNING_RATES = {"sgd": 0.25, "momentum": 0.05, "adam": 0.001, "adagrad": 0.05}

_data = settings.group("Data")
_model = settings.group("Model")
_training = settings.group("Training")
_privacy = settings.group("Privacy")
_audit = settings.group("Audit")
_output = settings.group("Run")


@settings.documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class CentralConfig:
    """One central run.

    A field that is None was not given; `complete` fills it in if the other choices leave it a
    meaning. Giving one that has none is an error.
    """

    dataset: str | Callable | datasets.Dataset = _data(
        "mnist",
        f"What to train on: {', '.join(datasets.NAMES)}; or your own as module:function or "
        "path/to/file.py:function, a function that returns a tfpriv.datasets.Dataset.",
    )
    data_dir: str | None = _data(
        None,
        "The folder for downloaded data; by default $TFPRIV_DATA_DIR, else tfpriv in the "
        "user's cache.",
    )
    scaling: str | None = _data(
        None,
        "How tables (breast_cancer, diabetes, adult) are scaled: public (by constants) or "
        "standardized (by statistics of the training examples, which no epsilon covers).",
        choices=scaling.NAMES,
        shown="public in a private run, else standardized",
    )
    features: str = _data(
        "none",
        "What the model reads: none (the data as they are) or scattering (the scattering "
        "transform of images, each normalized by itself in 27 groups of maps; Tramer and "
        "Boneh 2021), or dp_pca (projections on principal components of the training data, "
        "released once with noise that counts in epsilon; Abadi et al. 2016; model.keras "
        "reads the data as they are).",
        choices=FEATURES,
    )
    pca_components: int | None = _data(
        None,
        "how many principal components.",
        belongs_to=("features", ("dp_pca",)),
        otherwise=60,
        limit=settings.at_least(1),
    )
    pca_noise_multiplier: float | None = _data(
        None,
        "standard deviation of the noise on the sum of x x^T over examples of norm 1. Needed "
        "unless --mechanism=none, which takes the components without noise.",
        belongs_to=("features", ("dp_pca",)),
        limit=settings.between(1e-3, 1e5),
    )
    train_fraction: float = _data(
        1.0,
        "Train on this random fraction of the training examples; the rest are non-members "
        "for an audit. The seed decides which, in a private run the secret key.",
        limit=settings.FRACTION,
    )
    model: str | Callable = _model(
        "cnn_tutorial",
        f"The Keras model: {', '.join(models.NAMES)}; or your own as module:function or "
        "path/to/file.py:function, a function (input shape, number of classes) -> model.",
    )
    optimizer: str = _training(
        "sgd",
        "What applies the noised mean gradient.",
        choices=OPTIMIZERS,
    )
    learning_rate: float | None = _training(
        None,
        "The learning rate.",
        shown="0.25 for sgd, 0.05 for momentum and adagrad, 0.001 for adam",
        limit=settings.POSITIVE,
    )
    momentum: float | None = _training(
        None,
        "The momentum.",
        belongs_to=("optimizer", ("momentum",)),
        otherwise=0.9,
        limit=settings.BELOW_1,
    )
    schedule: str = _training(
        "constant",
        "How the learning rate goes over the steps: constant, linear (to 0), "
        "linear:END[:FRACTION] (to END times the first rate over a fraction of the steps, then "
        "constant; FRACTION is 1 if left out), cosine (to 0), or exponential:FACTOR, multiplied "
        "each step.",
    )
    expected_batch_size: float = _training(
        256,
        "The mean number of examples in a step; the noised sum is divided by it.",
        limit=settings.at_least(1),
    )
    epochs: int = _training(
        15,
        "Passes over the training set; under Poisson sampling in the mean.",
        limit=settings.at_least(1),
    )
    accumulate_steps: int = _training(
        1,
        "Take each step's sum in so many parts, which needs less memory and gives the same "
        "result; not with --mechanism=none.",
        limit=settings.at_least(1),
    )
    mechanism: str | Callable = _privacy(
        "dpsgd",
        "dpsgd (independent noise; Abadi et al. 2016); tree (DP-FTRL, a tree for each pass; "
        "Kairouz et al. 2021); banded (BandMF: correlated noise by a banded factorization, "
        "with amplification by sampling; Choquette-Choo et al. 2023); none (not private).",
        choices=MECHANISMS,
        own=mechanisms.OWN,
    )
    sampler: str | Callable | None = _training(
        None,
        "How a step's examples are drawn: poisson (each independently; a step may be empty), "
        "shuffled (dealt out in passes, without amplification), cyclic_poisson (parts of the "
        "data take turns). By default poisson, for tree shuffled, for banded cyclic_poisson.",
        choices=SAMPLERS,
        own=sampling.OWN,
    )
    clipping: str | None = _privacy(
        None,
        "fixed, adaptive (the clip follows a quantile, which takes a part of the noise; "
        "Andrew et al. 2021) or per_layer (each of the L layers with weights is clipped by "
        "itself, to --clip_norm over the root of L; McMahan et al. 2018).",
        choices=CLIPPINGS,
        belongs_to=("mechanism", ("dpsgd",)),
        otherwise="fixed",
    )
    clip_norm: float | None = _privacy(
        None,
        "The L2 bound on one example's gradient; the first one with --clipping=adaptive.",
        belongs_to=("mechanism", (*_PRIVATE, settings.OWN)),
        otherwise=1.0,
        limit=settings.POSITIVE,
    )
    target_epsilon: float | None = _privacy(
        None,
        "Calibrate the noise so that the whole run costs at most this epsilon. Either this or"
        " --noise_multiplier.",
        belongs_to=("mechanism", (*_PRIVATE, settings.OWN)),
        limit=settings.POSITIVE,
    )
    noise_multiplier: float | None = _privacy(
        None,
        "Standard deviation of the noise over the clip. 0 clips without noise and is not private.",
        belongs_to=("mechanism", (*_PRIVATE, settings.OWN)),
        limit=settings.NOT_NEGATIVE,
    )
    delta: float | None = _privacy(
        None,
        "The probability left over in (epsilon, delta); well below one over the number of "
        "examples.",
        belongs_to=("mechanism", (*_PRIVATE, settings.OWN)),
        otherwise=1e-5,
        limit=settings.DELTA,
    )
    target_quantile: float | None = _privacy(
        None,
        "the fraction of gradients that the clip should leave alone.",
        belongs_to=("clipping", ("adaptive",)),
        otherwise=0.5,
        limit=settings.PROBABILITY,
    )
    clip_learning_rate: float | None = _privacy(
        None,
        "the step size of the clip's updates.",
        belongs_to=("clipping", ("adaptive",)),
        otherwise=0.2,
        limit=settings.between(0, 10),
    )
    factorization: str | None = _privacy(
        None,
        "optimized (the banded strategy matrix with the least error), sqrt (the banded square"
        " root) or inverse_sqrt (whose inverse is banded, without amplification).",
        choices=mechanisms.FACTORIZATIONS,
        belongs_to=("mechanism", ("banded",)),
        otherwise="optimized",
    )
    bands: int | None = _privacy(
        None,
        "the number of bands; 1 is dpsgd.",
        belongs_to=("mechanism", ("banded",)),
        shown="for --target_epsilon the number with the least expected error, else --separation; "
        "with inverse_sqrt 16",
        limit=settings.at_least(1),
    )
    separation: int | None = _privacy(
        None,
        "the least number of steps from one of an example's to its next. Less of it means "
        "more amplification by sampling.",
        belongs_to=("mechanism", ("banded",)),
        shown="--bands; with inverse_sqrt a pass",
        limit=settings.at_least(1),
    )
    audit_canaries: int = _audit(
        0,
        "Turn so many training examples into canaries, each of which takes part only if a "
        "coin says so, and keep the models of all evaluations, for --attack=one_run of "
        "experiments/audit.py. The coin flips lie beside the run directory, not in it.",
        limit=settings.at_least(0),
    )
    audit_canary_kind: str | None = _audit(
        None,
        "With --audit_canaries: mislabelled (another label) or out_of_distribution (noise "
        "under a random label, which is found more easily).",
        choices=CANARIES,
        shown="mislabelled",
    )
    audit_secrets: int = _audit(
        0,
        "Plant so many random secrets once each, so many 4 times and so many 16 times in a "
        "data set of text, as training examples like the others, for --attack=secret_sharer "
        "of experiments/audit.py. One planted 16 times is 16 examples; epsilon is about one "
        "of them.",
        limit=settings.at_least(0),
    )
    eval_every: int = _output(
        1,
        "Evaluate on the test set every so many epochs, and at the end.",
        limit=settings.at_least(1),
    )
    checkpoint_every: int = _output(
        1,
        "Save a checkpoint every so many epochs, and at the end.",
        limit=settings.at_least(1),
    )
    seed: int = _output(
        0,
        "Decides what is public: the first weights and the canaries; without privacy also who"
        " takes part, which in a private run comes from a secret key. The noise never comes "
        "from it.",
        limit=settings.SEED,
    )
    insecure_sampling_seed: int | None = _privacy(
        None,
        "In a private run, draw who takes part from this number instead of a secret key, to "
        "repeat the draws exactly. The privacy statement then says that epsilon does not hold"
        " for whoever knows the number. The noise is drawn anew all the same.",
        belongs_to=("mechanism", (*_PRIVATE, settings.OWN)),
        limit=settings.SAMPLING_SEED,
    )
    output_dir: str | None = _output(
        None,
        "The run directory; by default runs/central-<date>-<time>.",
    )
    resume: bool = _output(
        False,
        "Go on with the run in --output_dir from its last checkpoint, with the flags it was "
        "started with.",
    )

    def complete(self) -> "CentralConfig":
        """Returns this config with every field that has a meaning filled in.

        `separation` and `bands` are left open until the number of examples is known (see
        `privacy.fit_bands`).

        Raises:
            UserError: if a value is not among the choices or out of range, a field belongs to a
                choice not made, or the choices do not go together.
        """
        self = settings.with_names(self, model=models.name_of, dataset=datasets.name_of)
        settings.check_choices(self)
        filled = settings.fill_in(self)
        if filled["scaling"] is None:
            filled["scaling"] = scaling.default(is_private=self.claims_privacy)
        if filled["learning_rate"] is None:
            filled["learning_rate"] = _LEARNING_RATES[self.optimizer]
        if filled["sampler"] is None:
            assert isinstance(self.mechanism, str), "objects were given names"
            filled["sampler"] = mechanisms.sampler_of(self.mechanism) or "poisson"
        if filled["audit_canaries"] and filled["audit_canary_kind"] is None:
            filled["audit_canary_kind"] = CANARIES[0]
        config = CentralConfig(**filled)
        settings.check_limits(config)
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
    if config.accumulate_steps > config.expected_batch_size:
        raise UserError(
            f"--accumulate_steps={config.accumulate_steps} makes more parts than the "
            f"{config.expected_batch_size:g} examples of a step; give at most as many."
        )
    if config.features == "dp_pca":
        _check_pca(config)
    wanted = mechanisms.sampler_of(config.mechanism)
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
    if sampling.takes_whole_numbers(config.sampler) and config.expected_batch_size % 1:
        raise UserError(
            f"--expected_batch_size={config.expected_batch_size} must be a whole number with "
            f"--sampler={config.sampler}; round it or use --sampler=poisson."
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
