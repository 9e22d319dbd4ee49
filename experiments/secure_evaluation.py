"""What training programs share: ending with an evaluation of the model on secret shares."""

import shutil

from absl import flags

from experiments import program
from tfpriv import runs, secure
from tfpriv.errors import UserError
from tfpriv.secure import InferenceConfig
from tfpriv.secure.inference import config as inference_config

_PROTOCOL = flags.DEFINE_enum(
    "secure_evaluation",
    None,
    inference_config.PROTOCOLS,
    "Also evaluate the trained model on secret shares of its weights and of test examples, with "
    "this protocol, beside the same in plaintext; see experiments/secure_inference.py.",
)
_EXAMPLES = flags.DEFINE_integer(
    "secure_examples",
    None,
    "With --secure_evaluation: how many test examples, from the first on. [1000, or as many as "
    "there are]",
)

# What of the evaluation's summary goes into the run's.
_KEYS = (
    "secure_accuracy",
    "plaintext_accuracy",
    "secure_rmse",
    "plaintext_rmse",
    "agreement",
    "bytes_sent",
    "disagreement",
)


def prepare() -> None:
    """Checks the flags, and sets up what must be set up before TensorFlow is used.

    Raises:
        UserError: --secure_examples has no meaning, or is not above 0.
    """
    if _EXAMPLES.value is not None and _PROTOCOL.value is None:
        raise UserError(
            f"--secure_examples={_EXAMPLES.value} has no meaning without --secure_evaluation; give "
            "it, or leave this out."
        )
    if _EXAMPLES.value is not None and _EXAMPLES.value < 1:
        raise UserError(f"--secure_examples={_EXAMPLES.value} is too small; it must be at least 1.")
    if _PROTOCOL.value is not None:
        secure.separate_devices()


def check_model(model) -> None:
    """Raises UserError if the model could not be evaluated as the flags ask."""
    if _PROTOCOL.value is not None:
        secure.check_model(model)


def finish(run: runs.RunDirectory, data_dir: str | None) -> None:
    """Evaluates a trained model on shares, if asked to, and prints the run's summary.

    The result of the evaluation goes into that summary, too. It has a run directory of its own,
    secure_evaluation/ in the run's.

    Raises:
        UserError: The model or the data do not allow it.
    """
    if _PROTOCOL.value is not None:
        _evaluate(run, data_dir)
    text = (run.path / "privacy.txt").read_text()
    runs.print_safely(runs.format_summary(run.final_summary, run.files(), text))
    program.leave_if_results_disagree(run.final_summary)


def _evaluate(run, data_dir):
    folder = run.path / "secure_evaluation"
    if folder.exists():  # of the run before it was resumed
        shutil.rmtree(folder)
    evaluation = secure.infer(
        InferenceConfig(
            model=str(run.path),
            # As the flags of this very command name it, it may be the user's own.
            dataset=run.config["flags"]["dataset"],
            data_dir=data_dir,
            protocol=_PROTOCOL.value,
            num_examples=_EXAMPLES.value,
            output_dir=str(folder),
        )
    )
    results = {name: evaluation.final_summary.get(name) for name in _KEYS}
    run.write_summary(run.final_summary | {k: v for k, v in results.items() if v is not None})
