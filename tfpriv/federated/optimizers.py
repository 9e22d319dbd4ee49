"""The optimizers of clients and server, from tff.learning."""

import tensorflow as tf
import tensorflow_federated as tff

from tfpriv import user_code
from tfpriv.errors import UserError
from tfpriv.federated.config import FederatedConfig
from tfpriv.models.schedules import build_schedule


def build_client_optimizer(config: FederatedConfig) -> tff.learning.optimizers.Optimizer:
    """Returns the optimizer of local training, at its first learning rate."""
    rate = config.client_learning_rate
    assert isinstance(config.client_optimizer, str), "the config is complete"
    if user_code.is_user_code(config.client_optimizer):
        optimizer = _own(config.client_optimizer, rate, "--client_optimizer")
        if config.client_schedule != "constant":
            _refuse_without_rate(optimizer, config.client_optimizer)
        return optimizer
    if config.client_optimizer == "adam":
        return tff.learning.optimizers.build_adam(rate)
    return tff.learning.optimizers.build_sgdm(rate, momentum=config.client_momentum)


def build_server_optimizer(config: FederatedConfig) -> tff.learning.optimizers.Optimizer:
    """Returns the optimizer that applies the mean update, with its schedule.

    Adam, Yogi and Adagrad are FedAdam, FedYogi and FedAdagrad of Reddi et al. 2021, Algorithm 2,
    with beta_1 = 0.9 and beta_2 = 0.99 as there; `server_epsilon` is their tau. TFF's Adam and Yogi
    correct the bias of the first rounds, which theirs do not, and its Adagrad divides by
    sqrt(v + tau^2) where theirs divides by sqrt(v) + tau.
    """
    rate, epsilon = config.server_learning_rate, config.server_epsilon
    build = {
        "sgd": lambda: tff.learning.optimizers.build_sgdm(rate),
        "momentum": lambda: tff.learning.optimizers.build_sgdm(
            rate, momentum=config.server_momentum
        ),
        "adam": lambda: tff.learning.optimizers.build_adam(
            rate, beta_1=0.9, beta_2=0.99, epsilon=epsilon
        ),
        "yogi": lambda: tff.learning.optimizers.build_yogi(
            rate, beta_1=0.9, beta_2=0.99, epsilon=epsilon
        ),
        "adagrad": lambda: tff.learning.optimizers.build_adagrad(
            rate, initial_preconditioner_value=0.0, epsilon=(epsilon or 0.0) ** 2
        ),
    }
    if user_code.is_user_code(config.server_optimizer):
        optimizer = _own(config.server_optimizer, rate, "--server_optimizer")
    else:
        optimizer = build[config.server_optimizer]()
    if config.server_schedule == "constant":
        return optimizer
    factor = build_schedule(config.server_schedule, config.rounds, "--server_schedule")
    return tff.learning.optimizers.schedule_learning_rate(optimizer, lambda r: rate * factor(r))


def _refuse_without_rate(optimizer, name):
    state = optimizer.initialize((tf.TensorSpec([1]),))
    if tff.learning.optimizers.LEARNING_RATE_KEY not in state:
        raise UserError(
            f"--client_optimizer={name} keeps no learning rate in its state for "
            "--client_schedule to change; keep it under "
            "tff.learning.optimizers.LEARNING_RATE_KEY, or use --client_schedule=constant."
        )


def _own(name, rate, flag):
    optimizer = user_code.load_function(name, flag)(rate)
    if not isinstance(optimizer, tff.learning.optimizers.Optimizer):
        raise UserError(
            f"{flag}={name} returned a {type(optimizer).__name__}; return a "
            "tff.learning.optimizers.Optimizer."
        )
    return optimizer
