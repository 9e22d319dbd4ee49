"""Federated learning over TFF: client work, aggregation, server step, runtime, training loop."""

from collections.abc import Callable

from tfpriv import runs
from tfpriv.federated.config import FederatedConfig
from tfpriv.federated.worker import Worker, WorkerError

__all__ = ["FederatedConfig", "Worker", "WorkerError", "run"]


def run(
    config: FederatedConfig, check_model: Callable[..., None] = lambda model: None
) -> runs.RunDirectory:
    """Trains as `config` says and returns the finished run directory.

    Args:
        config: The run; completed and checked here, before TensorFlow is loaded.
        check_model: Called with the Keras model before anything is written; it may refuse one that
            cannot be used as its caller wants to, by a UserError.

    Raises:
        UserError: if the config, the data or the model cannot work, or training diverges.
        WorkerError: if TFF's worker ends or falls silent.
    """
    config = config.complete()
    # The worker comes up while TensorFlow and TFF are imported.
    worker = Worker()
    try:
        from tfpriv.federated import trainer

        return trainer.train(config, worker, check_model)
    finally:
        worker.close()
