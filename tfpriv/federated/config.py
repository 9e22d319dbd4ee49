"""What a federated run is told to do, complete and checked."""

import dataclasses
from collections.abc import Callable

from tfpriv import datasets, models, settings
from tfpriv.datasets import scaling
from tfpriv.errors import UserError
from tfpriv.federated import algorithms
from tfpriv.privacy import mechanisms, sampling

AGGREGATORS = ("mean", "geometric_median", "trimmed_mean")
CLIENT_OPTIMIZERS = ("sgd", "momentum", "adam")
SERVER_OPTIMIZERS = ("sgd", "momentum", "adam", "yogi", "adagrad")
WEIGHTINGS = ("examples", "uniform")
PRIVACY_UNITS = ("none", "client", "example")

_LOCAL_TRAINING = (*algorithms.LOCAL_TRAINING, settings.OWN)
_ADAPTIVE_SERVERS = ("adam", "yogi", "adagrad")

_OPTIMIZER = "a function (learning rate) -> tff.learning.optimizers.Optimizer"

_data = settings.group("Data")
_model = settings.group("Model")
_training = settings.group("Training")
_privacy = settings.group("Privacy")
_audit = settings.group("Audit")
_output = settings.group("Run")


@settings.documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class FederatedConfig:
    """One federated run.

    A field that is None was not given; `complete` fills it in if the other choices leave it a
    meaning. Giving one that has none is an error.
    """

    dataset: str | Callable | datasets.Dataset = _data(
        "mnist",
        f"What to train on: {', '.join(datasets.NAMES)}; or your own as module:function or "
        "path/to/file.py:function, a function that returns a tfpriv.datasets.Dataset or a pair "
        "(train, test); see tfpriv.datasets.own.",
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
    partition: str = _data(
        "iid",
        "How the training examples are split over clients: iid; shards (sorted by label, two "
        "shards a client; McMahan et al. 2017); dirichlet:ALPHA (label skew, stronger for "
        "smaller ALPHA); writers (MNIST's 539 writers); natural (Shakespeare's roles, or the "
        "clients of your own ClientData).",
    )
    num_clients: int | None = _data(
        None,
        "The number of clients; for iid, shards and dirichlet. The other partitions know theirs.",
        shown="100",
        limit=settings.at_least(1, 10_000_000),
    )
    model: str | Callable = _model(
        "2nn",
        f"The Keras model: {', '.join(models.NAMES)}; or your own as module:function or "
        "path/to/file.py:function, a function (input shape, number of classes) -> model.",
    )
    algorithm: str | Callable = _training(
        "fedavg",
        "; ".join(f"{name} ({source})" for name, source in algorithms.SOURCES.items()) + ".",
        choices=algorithms.NAMES,
        own=algorithms.OWN,
    )
    rounds: int = _training(
        100,
        "The number of rounds of the whole run.",
        limit=settings.at_least(1),
    )
    clients_per_round: float = _training(
        10,
        "The number of clients in a round; under Poisson sampling the expected number.",
        limit=settings.POSITIVE,
    )
    sampler: str | Callable | None = _training(
        None,
        "How the clients of a round are drawn: poisson (each independently; a round may be "
        "empty), fixed_size (a random subset, anew each round), shuffled (dealt out in passes"
        " over all clients), cyclic_poisson (parts of the clients take turns). By default "
        "poisson with --privacy_unit=client, shuffled with --mechanism=tree, cyclic_poisson "
        "with --mechanism=banded, else fixed_size.",
        choices=sampling.NAMES,
        own=sampling.OWN,
    )
    weighting: str | None = _training(
        None,
        "What a client's update weighs in the mean: its number of examples (the default), or "
        "uniform. Private means are uniform.",
        choices=WEIGHTINGS,
        belongs_to=("privacy_unit", ("none",)),
        otherwise="examples",
    )
    aggregator: str | Callable | None = _training(
        None,
        "How the updates become one: their weighted mean; or what a minority of bad clients moves "
        "little: geometric_median (Pillutla et al. 2022), trimmed_mean (Yin et al. 2018).",
        choices=AGGREGATORS,
        own="a function () -> a factory of tff.aggregators whose result is a mean of updates",
        belongs_to=("privacy_unit", ("none",)),
        otherwise="mean",
    )
    trimmed_fraction: float | None = _training(
        None,
        "The fraction of a round's clients, rounded up, whose values are left out at each end, for "
        "each number of an update.",
        belongs_to=("aggregator", ("trimmed_mean",)),
        otherwise=0.1,
        limit=settings.BELOW_HALF,
    )
    batch_size: int = _training(
        20,
        "Examples in a local batch; with --privacy_unit=example the expected number.",
        limit=settings.at_least(1),
    )
    client_epochs: int | None = _training(
        None,
        "Local passes over a client's examples in a round.",
        belongs_to=("algorithm", _LOCAL_TRAINING),
        otherwise=1,
        limit=settings.at_least(1),
    )
    client_optimizer: str | None = _training(
        None,
        "The optimizer of local training; for mimelite the base optimizer; for scaffold sgd.",
        choices=CLIENT_OPTIMIZERS,
        own=_OPTIMIZER,
        belongs_to=("algorithm", _LOCAL_TRAINING),
        otherwise="sgd",
    )
    client_learning_rate: float | None = _training(
        None,
        "The learning rate of local training.",
        belongs_to=("algorithm", _LOCAL_TRAINING),
        otherwise=0.1,
        limit=settings.POSITIVE,
    )
    client_momentum: float | None = _training(
        None,
        "The momentum.",
        belongs_to=("client_optimizer", ("momentum",)),
        otherwise=0.9,
        limit=settings.BELOW_1,
    )
    client_schedule: str | None = _training(
        None,
        "How the client learning rate goes over rounds: constant, linear (to 0), cosine (to "
        "0), or exponential:FACTOR, multiplied each round.",
        belongs_to=("algorithm", _LOCAL_TRAINING),
        otherwise="constant",
    )
    proximal_strength: float | None = _training(
        None,
        "The mu of FedProx: mu/2 times the squared distance from the round's model is added to "
        "the local loss.",
        belongs_to=("algorithm", ("fedprox",)),
        otherwise=0.1,
        limit=settings.NOT_NEGATIVE,
    )
    dynamic_strength: float | None = _training(
        None,
        "The alpha of FedDyn: alpha/2 times the squared distance from the round's model is added "
        "to the local loss, and what clients remember of their gradients grows by alpha times "
        "their updates.",
        belongs_to=("algorithm", ("feddyn",)),
        otherwise=0.1,
        limit=settings.POSITIVE,
    )
    server_optimizer: str = _training(
        "sgd",
        "What applies the mean update: sgd, momentum, or an adaptive one (Reddi et al. 2021).",
        choices=SERVER_OPTIMIZERS,
        own=_OPTIMIZER,
    )
    server_learning_rate: float = _training(
        1.0,
        "The learning rate of the server.",
        limit=settings.POSITIVE,
    )
    server_momentum: float | None = _training(
        None,
        "The momentum.",
        belongs_to=("server_optimizer", ("momentum",)),
        otherwise=0.9,
        limit=settings.BELOW_1,
    )
    server_epsilon: float | None = _training(
        None,
        "Degree of adaptivity (tau of Reddi et al. 2021) of adam, yogi and adagrad.",
        belongs_to=("server_optimizer", _ADAPTIVE_SERVERS),
        otherwise=1e-3,
        limit=settings.POSITIVE,
    )
    server_schedule: str = _training(
        "constant",
        "How the server learning rate goes over rounds; as --client_schedule.",
    )
    privacy_unit: str = _privacy(
        "none",
        "What differential privacy protects: none; client (all of one client's data; noise on"
        " the server's sum); example (each example of a client; DP-SGD inside each client, "
        "and an epsilon for each).",
        choices=PRIVACY_UNITS,
    )
    mechanism: str | Callable | None = _privacy(
        None,
        "gaussian (fixed clip); adaptive (the clip follows a quantile; Andrew et al. 2021); "
        "tree (DP-FTRL; Kairouz et al. 2021); banded (BandMF, noise correlated over rounds; "
        "Choquette-Choo et al. 2023).",
        choices=mechanisms.NAMES,
        own=mechanisms.OWN,
        belongs_to=("privacy_unit", ("client", "example")),
        otherwise="gaussian",
    )
    clip_norm: float | None = _privacy(
        None,
        "The L2 bound on one client's update, or on one example's gradient; the first one "
        "with --mechanism=adaptive.",
        belongs_to=("privacy_unit", ("client", "example")),
        otherwise=1.0,
        limit=settings.POSITIVE,
    )
    target_epsilon: float | None = _privacy(
        None,
        "Calibrate the noise so that the whole run costs at most this epsilon. Either this or"
        " --noise_multiplier.",
        belongs_to=("privacy_unit", ("client", "example")),
        limit=settings.POSITIVE,
    )
    noise_multiplier: float | None = _privacy(
        None,
        "Standard deviation of the noise over the clip. 0 clips without noise and is not private.",
        belongs_to=("privacy_unit", ("client", "example")),
        limit=settings.NOT_NEGATIVE,
    )
    delta: float | None = _privacy(
        None,
        "The probability left over in (epsilon, delta); well below one over the number of members.",
        belongs_to=("privacy_unit", ("client", "example")),
        otherwise=1e-5,
        limit=settings.DELTA,
    )
    target_quantile: float | None = _privacy(
        None,
        "the fraction of updates that the clip should leave alone.",
        belongs_to=("mechanism", ("adaptive",)),
        otherwise=0.5,
        limit=settings.PROBABILITY,
    )
    clip_learning_rate: float | None = _privacy(
        None,
        "the step size of the clip's updates.",
        belongs_to=("mechanism", ("adaptive",)),
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
        "the number of bands; 1 is gaussian with poisson.",
        belongs_to=("mechanism", ("banded",)),
        shown="for --target_epsilon the number with the least expected error, else --separation; "
        "with inverse_sqrt 16",
        limit=settings.at_least(1),
    )
    separation: int | None = _privacy(
        None,
        "the least number of rounds from one of a client's to its next. Less of it means more"
        " amplification by sampling.",
        belongs_to=("mechanism", ("banded",)),
        shown="--bands; with inverse_sqrt a pass",
        limit=settings.at_least(1),
    )
    release_train_metrics: bool | None = _privacy(
        None,
        "also report training loss and accuracy, which are sums over clients WITHOUT noise. "
        "The privacy statement then says that they are not covered.",
        belongs_to=("privacy_unit", ("client",)),
        otherwise=False,
    )
    audit_canaries: int = _audit(
        0,
        "Add so many canary clients behind the others, each of which sends a random direction"
        " at the clip's norm (without a clip: of norm 1) in its rounds, and takes part only "
        "if a coin says so; and keep the models of all evaluations, for "
        "--attack=canary_clients of experiments/audit.py. They are drawn and accounted for as"
        " other clients. The coin flips lie beside the run directory, not in it.",
        limit=settings.at_least(0),
    )
    eval_every: int = _output(
        1,
        "Evaluate on the test set every so many rounds, and at the end.",
        limit=settings.at_least(1),
    )
    target_accuracy: float | None = _output(
        None,
        "Stop when the test accuracy reaches this; summary.json then has rounds_to_target.",
        limit=settings.BETWEEN_0_AND_1,
    )
    checkpoint_every: int | None = _output(
        None,
        "Save a checkpoint every so many rounds. By default 1 under privacy, where a round "
        "that is lost and run again is paid for twice, else 10.",
        limit=settings.at_least(1),
    )
    plot_partition: bool | None = _output(
        None,
        "Draw plots/partition.png, which shows exact numbers of examples and labels; the "
        "privacy statement then says that it is not covered.",
        shown="true without privacy, else false",
    )
    seed: int = _output(
        0,
        "Decides what is public: the partition, the first weights and the order of local "
        "batches; without privacy also who takes part, which in a private run comes from a "
        "secret key. The noise never comes from it.",
        limit=settings.SEED,
    )
    insecure_sampling_seed: int | None = _privacy(
        None,
        "In a private run, draw who takes part from this number instead of a secret key, to "
        "repeat the draws exactly. The privacy statement then says that epsilon does not hold"
        " for whoever knows the number. The noise is drawn anew all the same.",
        belongs_to=("privacy_unit", ("client", "example")),
        limit=settings.SAMPLING_SEED,
    )
    output_dir: str | None = _output(
        None,
        "The run directory; by default runs/federated-<date>-<time>.",
    )
    resume: bool = _output(
        False,
        "Go on with the run in --output_dir from its last checkpoint, with the flags it was "
        "started with.",
    )

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
        self = settings.with_names(self, model=models.name_of, dataset=datasets.name_of)
        settings.check_choices(self)
        filled = settings.fill_in(self)
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
        settings.check_limits(config)
        _check_together(config)
        return config


def _default_sampler(filled):
    if filled["privacy_unit"] != "client":
        return "fixed_size"
    return mechanisms.sampler_of(filled["mechanism"]) or "poisson"


def _check_together(config):
    settings.check_sampling_seed(config)
    settings.check_bands(config)
    if config.is_private and (config.target_epsilon is None) == (config.noise_multiplier is None):
        given = "neither was" if config.target_epsilon is None else "both were"
        raise UserError(
            f"--privacy_unit={config.privacy_unit} needs one of --target_epsilon and "
            f"--noise_multiplier, and {given} given; give exactly one."
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
    if config.audit_canaries and config.privacy_unit == "example":
        raise UserError(
            f"--audit_canaries={config.audit_canaries} adds whole clients, about which "
            "--privacy_unit=example promises nothing; use --privacy_unit=client or none."
        )
    wanted = mechanisms.sampler_of(config.mechanism)
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
    if sampling.takes_whole_numbers(config.sampler) and config.clients_per_round % 1:
        raise UserError(
            f"--clients_per_round={config.clients_per_round} must be a whole number with "
            f"--sampler={config.sampler}; round it or use --sampler=poisson."
        )
