import pytest

from tfpriv.errors import UserError
from tfpriv.secure.training.config import SecureTrainingConfig


def test_defaults_are_those_of_the_published_benchmark():
    config = SecureTrainingConfig().complete()
    assert (config.network, config.optimizer) == ("A", "sgd")
    assert (config.learning_rate, config.momentum, config.batch_size) == (0.01, 0.9, 128)
    assert SecureTrainingConfig(optimizer="adam").complete().learning_rate == 0.001
    assert not config.is_private and config.clip_norm is None


def test_private_config_has_a_clip_and_a_delta():
    config = SecureTrainingConfig(network="logistic", target_epsilon=3).complete()
    assert config.is_private and (config.clip_norm, config.delta) == (1.0, 1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"network": "E"}, "--network=E is not known; choose one of logistic, A, B, C, D"),
        ({"optimizer": "lamb"}, "--optimizer=lamb is not known"),
        ({"protocol": "securenn"}, "--protocol=securenn is not known; choose one of aby3"),
        ({"outcome": "loss"}, "--outcome=loss is not known; choose one of weights, predictions"),
        ({"network": "A", "model": "mlp"}, "give one of them"),
        ({"optimizer": "adam", "momentum": 0.5}, "no meaning with --optimizer=adam"),
        ({"clip_norm": 1.0}, "no meaning without --target_epsilon"),
        ({"delta": 1e-5}, "no meaning without --target_epsilon"),
        ({"target_epsilon": 1, "noise_multiplier": 1}, "give one"),
        ({"target_epsilon": 1, "outcome": "predictions"}, "leave it out"),
        ({"resume": True}, "every party's shares in one place"),
        ({"epochs": 0}, "--epochs=0 is too small"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan"),
        ({"target_epsilon": -1.0}, "--target_epsilon=-1.0 must be a number above 0"),
        ({"momentum": 1.0}, "--momentum=1.0"),
        ({"target_epsilon": 1.0, "delta": 1.0}, "--delta=1.0"),
        ({"max_steps": 0}, "--max_steps=0"),
    ],
)
def test_what_cannot_be_meant_is_refused(flags, message):
    with pytest.raises(UserError) as caught:
        SecureTrainingConfig(**flags).complete()
    assert message in str(caught.value)


def test_completing_twice_changes_nothing():
    config = SecureTrainingConfig(target_epsilon=1.0, network="logistic").complete()
    assert config.complete() == config
