"""What a secure training run is told to do, complete and checked; imports no TensorFlow."""

import dataclasses
from collections.abc import Callable

from tfpriv import datasets, models, settings
from tfpriv.datasets import scaling
from tfpriv.errors import UserError

NETWORKS = ("logistic", "A", "B", "C", "D")
OPTIMIZERS = ("sgd", "adam", "amsgrad")
PROTOCOLS = ("aby3",)
OUTCOMES = ("weights", "predictions")

_LEARNING_RATES = {"sgd": 0.01, "adam": 0.001, "amsgrad": 0.001}

_data = settings.group("Data")
_model = settings.group("Model")
_training = settings.group("Training")
_shares = settings.group("Secret shares")
_privacy = settings.group("Privacy")
_output = settings.group("Run")


@settings.documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class SecureTrainingConfig:
    """One secure training run.

    A field that is None was not given; `complete` fills it in if the other choices leave it a
    meaning. Giving one that has none is an error.
    """

    dataset: str | Callable | datasets.Dataset = _data(
        "mnist",
        f"What to train on: {', '.join(datasets.NAMES)}; or your own as module:function or "
        "path/to/file.py:function, a function that returns a tfpriv.datasets.Dataset. Text is not "
        "for shares.",
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
    network: str | None = _model(
        None,
        "A network of tf-encrypted's benchmark: logistic (the lower classes against the upper"
        " ones), A (128 and 128 ReLU units), B (convolutions 16 and 16, 100 units), C "
        "(convolutions 20 and 50, 500 units), D (a convolution of stride 2, 100 units).",
        choices=NETWORKS,
        shown="A, without --model",
    )
    model: str | Callable | None = _model(
        None,
        f"Instead of --network, a Keras model: {', '.join(models.NAMES)}; or your own as "
        "module:function or path/to/file.py:function, a function (input shape, number of classes) "
        "-> model. It may hold Dense, Conv2D, MaxPooling2D, Flatten and ReLU.",
    )
    optimizer: str = _training(
        "sgd",
        "The optimizer.",
        choices=OPTIMIZERS,
    )
    learning_rate: float | None = _training(
        None,
        "The learning rate.",
        shown="sgd 0.01, adam and amsgrad 0.001",
        limit=settings.POSITIVE,
    )
    momentum: float | None = _training(
        None,
        "The momentum.",
        belongs_to=("optimizer", ("sgd",)),
        otherwise=0.9,
        limit=settings.BELOW_1,
    )
    batch_size: int = _training(
        128,
        "Examples in a batch; under privacy the expected number.",
        limit=settings.at_least(1),
    )
    epochs: int = _training(
        5,
        "Passes over the training examples, each in an order of its own.",
        limit=settings.at_least(1),
    )
    max_steps: int | None = _training(
        None,
        "Stop after so many batches.",
        limit=settings.at_least(1),
    )
    protocol: str = _shares(
        "aby3",
        "The protocol of the three servers.",
        choices=PROTOCOLS,
    )
    players: str = _shares(
        "local",
        "local for three servers in this process, or a file (name -> host:port) of servers "
        "started by tfpriv.secure.player.",
    )
    trusted_network: bool = _shares(
        False,
        "Allow servers at addresses that are not loopback. What travels is neither encrypted "
        "nor authenticated.",
    )
    outcome: str = _shares(
        "weights",
        "What is revealed at the end, to the client only: the weights, or the predictions on "
        "the test examples.",
        choices=OUTCOMES,
    )
    target_epsilon: float | None = _privacy(
        None,
        "Add noise on shares, calibrated so that the whole run costs at most this epsilon for"
        " one example. For dense layers and convolutions.",
        limit=settings.POSITIVE,
    )
    noise_multiplier: float | None = _privacy(
        None,
        "Instead of --target_epsilon: the noise's standard deviation over the clip.",
        limit=settings.POSITIVE,
    )
    clip_norm: float | None = _privacy(
        None,
        "Under privacy, the L2 bound on one example's gradient.",
        shown="1.0",
        limit=settings.POSITIVE,
    )
    delta: float | None = _privacy(
        None,
        "Under privacy, the probability left over in (epsilon, delta).",
        shown="1e-5",
        limit=settings.DELTA,
    )
    eval_every: int = _output(
        100,
        "Evaluate the training in plaintext every so many steps; the secure one is evaluated "
        "at the end, when its outcome is revealed.",
        limit=settings.at_least(1),
    )
    overflow_check_every: int | None = _shares(
        None,
        "After how many steps, and at the end, each layer's numbers are compared on shares "
        "with the bounds within which nothing overflows; a bit each is opened to the client. "
        "Not under differential privacy.",
        shown="50",
        limit=settings.at_least(1),
    )
    seed: int = _output(
        0,
        "Decides the initial weights and the order of the batches, which are public; under "
        "privacy who is in a batch comes from a secret key. Shares and noise do not come from"
        " it.",
        limit=settings.SEED,
    )
    insecure_sampling_seed: int | None = _privacy(
        None,
        "In a private run, draw who takes part from this number instead of a secret key, to "
        "repeat the draws exactly. The privacy statement then says that epsilon does not hold"
        " for whoever knows the number. The noise is drawn anew all the same.",
        limit=settings.SAMPLING_SEED,
    )
    output_dir: str | None = _output(
        None,
        "The run directory; by default runs/secure_training-<date>-<time>.",
    )
    resume: bool = _output(
        False,
        "Refused: a checkpoint would put all shares in one place.",
    )

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
        self = settings.with_names(self, model=models.name_of, dataset=datasets.name_of)
        settings.check_choices(self)
        _check_together(self)
        filled = settings.fill_in(self)
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
        settings.check_limits(config)
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
