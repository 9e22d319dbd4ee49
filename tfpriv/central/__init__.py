"""Training on one machine under example-level differential privacy: DP-SGD and its relatives."""

from collections.abc import Callable

from tfpriv import datasets, runs
from tfpriv.central.config import CentralConfig

__all__ = ["CentralConfig", "run"]


def run(
    config: CentralConfig,
    check_model: Callable[..., None] = lambda model: None,
    dataset: datasets.Dataset | None = None,
) -> runs.RunDirectory:
    """Trains as `config` says and returns the finished run directory.

    Args:
        config: The run; completed and checked here, before TensorFlow is loaded.
        check_model: Called with the Keras model before anything is written; it may refuse one that
            cannot be used as its caller wants to, by a UserError.
        dataset: What to train on instead of what the config names, with its features but for
            principal components.

    Raises:
        UserError: if the config, the data or the model cannot work, or training diverges.
    """
    config = config.complete()
    from tfpriv.central import trainer

    return trainer.train(config, check_model, dataset)
