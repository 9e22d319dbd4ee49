"""What a secure evaluation is told to do, complete and checked."""

import dataclasses
import os
import pathlib

from tfpriv import settings
from tfpriv.datasets import scaling
from tfpriv.errors import UserError

PROTOCOLS = ("aby3", "securenn")
SOFTMAX = ("reveal", "approximate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """One secure evaluation. The flags of experiments/secure_inference.py document each field."""

    model: str | None = None
    dataset: str | None = None
    data_dir: str | None = None
    trust_code: bool = False
    scaling: str | None = None
    protocol: str = "aby3"
    num_examples: int | None = None
    batch_size: int = 32
    softmax: str = "reveal"
    input_bound: float | None = None
    check_overflow: bool = False
    players: str = "local"
    trusted_network: bool = False
    output_dir: str | None = None

    def check(self) -> None:
        """Raises UserError if a value is missing, not among the choices or out of range."""
        if not self.model:
            raise UserError("--model is missing; give the directory of a run, or a .keras file.")
        settings.check_choices(
            self, {"scaling": scaling.NAMES, "protocol": PROTOCOLS, "softmax": SOFTMAX}
        )
        settings.check_at_least(self, {"num_examples": 1, "batch_size": 1})
        settings.check_positive(self, ("input_bound",))
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
