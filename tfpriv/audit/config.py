"""What an audit is told to do, complete and checked."""

import dataclasses

from tfpriv import settings
from tfpriv.errors import UserError

ATTACKS = ("membership", "lira", "one_run", "canary_clients", "secret_sharer")
VARIANTS = ("offline", "online", "both")
FEWEST_EXAMPLES = 10
# With fewer, TensorFlow Privacy runs no attack.
FEWEST_FOR_MEMBERSHIP = 20

_data = settings.group("Data")
_audit = settings.group("Audit")
_output = settings.group("Run")


@settings.documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """One audit."""

    run: str | None = _data(
        None,
        "The directory of a finished run of central or federated.",
    )
    attack: str = _audit(
        "membership",
        "membership (TensorFlow Privacy's threshold, logistic-regression, k-nearest and "
        "forest attacks); lira (the likelihood-ratio attack with shadow models; Carlini et "
        "al. 2022); one_run (a bound on epsilon from the run's canaries; Steinke et al. 2023,"
        " Mahloujifar et al. 2024); canary_clients (the same, and an estimate, from "
        "random-direction clients of a federated run; Andrew et al. 2023); secret_sharer "
        "(exposure of planted text; Carlini et al. 2019).",
        choices=ATTACKS,
        own="a function (target, config, run) -> tfpriv.audit.Finding",
    )
    data_dir: str | None = _data(
        None,
        "The folder for downloaded data; by default the run's, else $TFPRIV_DATA_DIR, else "
        "tfpriv in the user's cache.",
    )
    trust_code: bool = _data(
        False,
        "Run Python code that only the run's config.json names, and no flag of yours: its "
        "data set or model. It is shown with its path and sha256.",
    )
    confidence: float = _audit(
        0.95,
        "The confidence of every interval and bound. Each audit of a run is wrong with the "
        "rest of the probability, on its own.",
        limit=settings.CONFIDENCE,
    )
    max_examples: int | None = _audit(
        None,
        "at most so many members, and as many others, are attacked.",
        belongs_to=("attack", ("membership", "lira")),
        otherwise=1000,
        limit=settings.at_least(FEWEST_EXAMPLES),
    )
    shadow_models: int | None = _audit(
        None,
        "how many shadow models to train, an even number.",
        belongs_to=("attack", ("lira",)),
        otherwise=32,
        limit=settings.at_least(4),
    )
    lira_variant: str | None = _audit(
        None,
        "offline (models without the example), online (with and without) or both.",
        choices=VARIANTS,
        belongs_to=("attack", ("lira",)),
        otherwise="both",
    )
    processes: int | None = _audit(
        None,
        "how many models are trained at once.",
        belongs_to=("attack", ("lira",)),
        shown="one for each core",
        limit=settings.at_least(1),
    )
    seed: int = _output(
        0,
        "Decides which examples are attacked, and the shadow models.",
        limit=settings.SEED,
    )
    output_dir: str | None = _output(
        None,
        "The audit's directory; by default runs/audit-<date>-<time>.",
    )
    resume: bool = _output(
        False,
        "Go on with the audit in --output_dir: shadow models that are there are not trained again.",
    )

    def complete(self) -> "AuditConfig":
        """Returns this config with every field that has a meaning filled in.

        Raises:
            UserError: if a value is not among the choices or out of range, or a field belongs to
                an attack not chosen.
        """
        if not self.run:
            raise UserError("there is nothing to audit; give --run, the directory of a run.")
        self = settings.with_names(self)
        settings.check_choices(self)
        config = AuditConfig(**settings.fill_in(self))
        settings.check_limits(config)
        if config.attack == "membership":
            settings.at_least(FEWEST_FOR_MEMBERSHIP).check("max_examples", config.max_examples)
        if config.shadow_models and config.shadow_models % 2:
            raise UserError(
                f"--shadow_models={config.shadow_models} must be even; half see an example."
            )
        return config
