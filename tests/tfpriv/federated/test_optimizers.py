"""Tests of tfpriv.federated.optimizers, by numbers.

tests/tfpriv/federated/test_process.py holds them against stock tff.learning.
"""

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.federated import optimizers
from tfpriv.federated.config import FederatedConfig

_SPEC = tf.TensorSpec([2], tf.float32)
_GRADIENTS = (np.array([1.0, -2.0], np.float32), np.array([0.5, 4.0], np.float32))


def _steps(optimizer, gradients=_GRADIENTS):
    """How far the optimizer moves weights in each step."""
    state, weights, moved = optimizer.initialize(_SPEC), tf.zeros([2]), []
    for gradient in gradients:
        state, after = optimizer.next(state, weights, tf.constant(gradient))
        moved.append((after - weights).numpy())
        weights = after
    return moved


def _server(**flags):
    return optimizers.build_server_optimizer(FederatedConfig(**flags).complete())


def _client(**flags):
    return optimizers.build_client_optimizer(FederatedConfig(**flags).complete())


def test_sgd_steps_against_the_gradient():
    for optimizer in (_client(client_learning_rate=0.5), _server(server_learning_rate=0.5)):
        first, second = _steps(optimizer)
        assert first == pytest.approx(-0.5 * _GRADIENTS[0])
        assert second == pytest.approx(-0.5 * _GRADIENTS[1])


@pytest.mark.parametrize("side", ["client", "server"])
def test_momentum_keeps_a_share_of_the_last_step(side):
    flags = {
        f"{side}_optimizer": "momentum",
        f"{side}_momentum": 0.8,
        f"{side}_learning_rate": 0.5,
    }
    first, second = _steps((_client if side == "client" else _server)(**flags))
    assert first == pytest.approx(-0.5 * _GRADIENTS[0])
    assert second == pytest.approx(-0.5 * (0.8 * _GRADIENTS[0] + _GRADIENTS[1]))


def test_adams_first_step_is_the_rate_against_the_gradients_sign():
    optimizer = _client(client_optimizer="adam", client_learning_rate=0.1)
    assert _steps(optimizer)[0] == pytest.approx([-0.1, 0.1], abs=1e-5)


def test_the_servers_adagrad_divides_by_the_root_of_squares_and_tau():
    optimizer = _server(server_optimizer="adagrad", server_learning_rate=0.1, server_epsilon=0.5)
    first, second = _steps(optimizer)
    squares = _GRADIENTS[0] ** 2
    assert first == pytest.approx(-0.1 * _GRADIENTS[0] / np.sqrt(squares + 0.5**2))
    squares += _GRADIENTS[1] ** 2
    assert second == pytest.approx(-0.1 * _GRADIENTS[1] / np.sqrt(squares + 0.5**2))


@pytest.mark.parametrize("name", ["adam", "yogi"])
def test_the_servers_tau_stands_beside_the_root(name):
    sure, unsure = (
        _steps(_server(server_optimizer=name, server_learning_rate=0.1, server_epsilon=tau))[0]
        for tau in (1e-8, 1.0)
    )
    # A first step of one size whatever the gradient's, and one that a large tau makes smaller.
    assert sure == pytest.approx([-0.1, 0.1], rel=1e-3)
    assert (np.abs(unsure) < 0.9 * np.abs(sure)).all()


def test_a_server_schedule_multiplies_the_rate():
    flags = {"server_learning_rate": 0.5, "server_schedule": "linear", "rounds": 2}
    first, second = _steps(_server(**flags))
    assert first == pytest.approx(-0.5 * _GRADIENTS[0])
    assert second == pytest.approx(-0.25 * _GRADIENTS[1])


def test_an_unknown_schedule_names_its_flag():
    with pytest.raises(UserError, match="--server_schedule=step is not known"):
        _server(server_schedule="step")
