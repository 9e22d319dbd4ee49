"""Evaluation and training on secret shares, with tf-encrypted's protocols."""

from typing import TYPE_CHECKING

from tfpriv import runs
from tfpriv.secure.inference.config import InferenceConfig
from tfpriv.secure.training.config import SecureTrainingConfig

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "InferenceConfig",
    "SecureTrainingConfig",
    "check_model",
    "infer",
    "separate_devices",
    "train",
]


def infer(config: InferenceConfig) -> runs.RunDirectory:
    """Evaluates a model on shares and in plaintext, and returns the finished run directory.

    Args:
        config: The evaluation; checked here, before TensorFlow is loaded.

    Raises:
        UserError: The settings, the model, the data or the parties do not allow it; nothing has
            been shared then.
    """
    config.check()
    from tfpriv.secure.inference import evaluator

    return evaluator.evaluate(config)


def train(config: SecureTrainingConfig) -> runs.RunDirectory:
    """Trains on shares, beside the same steps in plaintext, and returns the finished directory.

    Args:
        config: The run; completed and checked here, before TensorFlow is loaded.

    Raises:
        UserError: The settings, the data, the model or a party cannot work, or training diverges.
    """
    config = config.complete()
    from tfpriv.secure.training import trainer

    return trainer.run(config)


def separate_devices() -> None:
    """Gives local parties devices of their own; to be called before TensorFlow is used.

    Otherwise local parties share a device: nothing else changes, but what they send cannot be
    measured.
    """
    from tfpriv.secure.parties import connection

    connection.separate_local_devices()


def check_model(model: "tf.keras.Model") -> None:
    """Raises UserError, with its layer's name, if a Keras model cannot be computed on shares.

    Args:
        model: A built model.
    """
    from tfpriv.secure.inference import network

    network.from_keras(model)
