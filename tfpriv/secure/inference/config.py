"""What a secure evaluation is told to do, complete and checked."""

import dataclasses
import os
import pathlib

from tfpriv import datasets, settings
from tfpriv.datasets import scaling
from tfpriv.errors import UserError

PROTOCOLS = ("aby3", "securenn")
SOFTMAX = ("reveal", "approximate")

_model = settings.group("Model")
_data = settings.group("Data")
_shares = settings.group("Secret shares")
_training = settings.group("Training")
_output = settings.group("Run")


@settings.documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """One secure evaluation."""

    model: str | None = _model(
        None,
        "The model: the directory of a run that has ended, or a .keras file.",
    )
    dataset: str | None = _data(
        None,
        f"Whose test examples are evaluated: {', '.join(datasets.NAMES)}; or your own as "
        "module:function or path/to/file.py:function. By default what the run was trained on.",
    )
    data_dir: str | None = _data(
        None,
        "The folder for downloaded data; by default $TFPRIV_DATA_DIR, else tfpriv in the "
        "user's cache.",
    )
    trust_code: bool = _data(
        False,
        "Run Python code that only the run's config.json names, and no flag of yours: its "
        "data set or model. It is shown with its path and sha256.",
    )
    scaling: str | None = _data(
        None,
        "How a table is scaled, public or standardized; it must be as in training.",
        choices=scaling.NAMES,
        shown="that of the run, else standardized",
    )
    protocol: str = _shares(
        "aby3",
        "aby3 (Mohassel and Rindal 2018: three servers, replicated shares) or securenn (Wagh "
        "et al. 2019: two servers with shares and one that helps).",
        choices=PROTOCOLS,
    )
    num_examples: int | None = _data(
        None,
        "How many test examples, from the first on.",
        shown="1000, or as many as there are",
        limit=settings.at_least(1),
    )
    batch_size: int = _training(
        32,
        "How many examples are computed at once.",
        limit=settings.at_least(1),
    )
    softmax: str = _model(
        "reveal",
        "What becomes of a softmax or sigmoid at the end: reveal (the logits are revealed to "
        "the client, who applies it) or approximate (it is computed on shares, "
        "approximately).",
        choices=SOFTMAX,
    )
    input_bound: float | None = _shares(
        None,
        "What no feature is above in magnitude. The grids of the layers then follow from it "
        "and from the weights; by default from the largest numbers that the examples make, of"
        " which the servers so learn the powers of two.",
        limit=settings.POSITIVE,
    )
    check_overflow: bool = _shares(
        False,
        "Compare each layer's sums with their bound on shares, and stop if one is above: it "
        "opens a bit a layer and batch to the client, and takes about two comparisons a "
        "number.",
    )
    players: str = _shares(
        "local",
        "Where the servers are: local (all in this process) or a file with their addresses; "
        "see python -m tfpriv.secure.player --help.",
    )
    trusted_network: bool = _shares(
        False,
        "Allow servers at addresses that are not loopback. What travels is neither encrypted "
        "nor authenticated.",
    )
    output_dir: str | None = _output(
        None,
        "The run directory; by default runs/secure_inference-<date>-<time>.",
    )

    def check(self) -> None:
        """Raises UserError if a value is missing, not among the choices or out of range."""
        if not self.model:
            raise UserError("--model is missing; give the directory of a run, or a .keras file.")
        settings.check_choices(self)
        settings.check_limits(self)
        if not self.players:
            raise UserError(
                "--players is empty; give local, or a file with the servers' addresses."
            )
        path = pathlib.Path(os.path.expanduser(self.model))
        if not path.exists():
            raise UserError(
                f"--model={self.model} does not exist; give the directory of a run, or a .keras "
                "file."
            )
        if self.dataset is None and not (path / "config.json").exists():
            raise UserError(
                f"--dataset is missing: {self.model} is not a run directory, which would say what "
                "its model was trained on; give the data set to evaluate on."
            )
