"""The Keras optimizers that apply a step's gradient."""

import tensorflow as tf

from tfpriv.central.config import CentralConfig
from tfpriv.models.schedules import build_schedule


def build_optimizer(config: CentralConfig, steps: int) -> tf.keras.optimizers.Optimizer:
    """Returns the optimizer with its schedule over `steps` steps."""
    rate = _Scheduled(config.learning_rate, build_schedule(config.schedule, steps, "--schedule"))
    # XLA would compile each optimizer's update anew for nothing on a processor.
    build = {
        "sgd": lambda: tf.keras.optimizers.SGD(rate, jit_compile=False),
        "momentum": lambda: tf.keras.optimizers.SGD(
            rate, momentum=config.momentum, jit_compile=False
        ),
        "adam": lambda: tf.keras.optimizers.Adam(rate, jit_compile=False),
        "adagrad": lambda: tf.keras.optimizers.Adagrad(rate, jit_compile=False),
    }
    return build[config.optimizer]()


class _Scheduled(tf.keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rate, factor) -> None:
        self._rate, self._factor = rate, factor

    def __call__(self, step):
        return self._rate * self._factor(step)
