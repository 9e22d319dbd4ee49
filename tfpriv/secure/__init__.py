"""Evaluation and training on secret shares, with tf-encrypted's protocols."""

from tfpriv import runs
from tfpriv.secure.inference_config import InferenceConfig

__all__ = ["InferenceConfig", "infer"]


def infer(config: InferenceConfig) -> runs.RunDirectory:
    """Evaluates a model on shares and in the clear, and returns the finished run directory.

    Args:
        config: The evaluation; checked here, before TensorFlow is loaded.

    Raises:
        UserError: The settings, the model, the data or the parties do not allow it; nothing has
            been shared then.
    """
    config.check()
    from tfpriv.secure import inference

    return inference.evaluate(config)
