"""Tests of tfpriv.federated.config."""

import dataclasses
import math

import pytest

from tfpriv.errors import UserError
from tfpriv.federated.config import FederatedConfig

_CLIENT_DP = {"privacy_unit": "client", "noise_multiplier": 1.0}
_EXAMPLE_DP = {"privacy_unit": "example", "noise_multiplier": 1.0}


def _refusal(**settings) -> str:
    with pytest.raises(UserError) as refused:
        FederatedConfig(**settings).complete()
    return str(refused.value)


def test_what_has_a_meaning_is_filled_in_and_the_rest_stays_none():
    config = FederatedConfig().complete()
    assert (config.client_epochs, config.client_optimizer, config.client_learning_rate) == (
        1,
        "sgd",
        0.1,
    )
    assert (config.weighting, config.sampler, config.checkpoint_every) == (
        "examples",
        "fixed_size",
        10,
    )
    for name in ("mechanism", "clip_norm", "delta", "client_momentum", "proximal_strength"):
        assert getattr(config, name) is None, name


def test_private_runs_get_clip_delta_and_poisson_and_lose_no_round():
    config = FederatedConfig(**_CLIENT_DP).complete()
    assert (config.mechanism, config.clip_norm, config.delta) == ("gaussian", 1.0, 1e-5)
    assert (config.sampler, config.checkpoint_every, config.weighting) == ("poisson", 1, None)
    assert config.release_train_metrics is False


def test_the_tree_is_shuffled_unless_told_otherwise():
    assert FederatedConfig(**_CLIENT_DP, mechanism="tree").complete().sampler == "shuffled"


def test_banded_noise_is_for_clients_that_take_turns():
    flags = {"privacy_unit": "client", "target_epsilon": 1.0, "mechanism": "banded"}
    config = FederatedConfig(**flags).complete()
    assert (config.sampler, config.factorization, config.bands) == (
        "cyclic_poisson",
        "optimized",
        None,
    )
    assert "no bound for --sampler=poisson" in _refusal(**flags, sampler="poisson")
    assert "belongs to --mechanism=banded" in _refusal(**_CLIENT_DP, sampler="cyclic_poisson")
    assert "belongs to --mechanism=banded" in _refusal(sampler="cyclic_poisson")
    assert "needs --bands" in _refusal(**_CLIENT_DP, mechanism="banded")
    assert "server's sum" in _refusal(**_EXAMPLE_DP, mechanism="banded", bands=2)


def test_a_complete_config_is_complete():
    config = FederatedConfig(**_CLIENT_DP, mechanism="adaptive").complete()
    assert config.complete() == config


@pytest.mark.parametrize(
    ("settings", "name", "decider"),
    [
        ({"algorithm": "fedsgd", "client_epochs": 2}, "client_epochs=2", "algorithm=fedsgd"),
        ({"algorithm": "fedsgd", "client_learning_rate": 0.1}, "client_learning_rate", "fedsgd"),
        ({"algorithm": "fedsgd", "client_optimizer": "adam"}, "client_optimizer", "fedsgd"),
        ({"algorithm": "fedsgd", "client_schedule": "cosine"}, "client_schedule", "fedsgd"),
        ({"client_momentum": 0.5}, "client_momentum=0.5", "client_optimizer=sgd"),
        ({"proximal_strength": 0.1}, "proximal_strength=0.1", "algorithm=fedavg"),
        ({"server_momentum": 0.5}, "server_momentum=0.5", "server_optimizer=sgd"),
        ({"server_epsilon": 1e-3}, "server_epsilon=0.001", "server_optimizer=sgd"),
        ({**_CLIENT_DP, "weighting": "uniform"}, "weighting=uniform", "privacy_unit=client"),
        ({"mechanism": "tree"}, "mechanism=tree", "privacy_unit=none"),
        ({**_EXAMPLE_DP, "release_train_metrics": True}, "release_train", "privacy_unit=example"),
        ({"clip_norm": 1.0}, "clip_norm=1.0", "privacy_unit=none"),
        ({"target_epsilon": 1.0}, "target_epsilon=1.0", "privacy_unit=none"),
        ({"noise_multiplier": 1.0}, "noise_multiplier=1.0", "privacy_unit=none"),
        ({"delta": 1e-5}, "delta=1e-05", "privacy_unit=none"),
        ({"release_train_metrics": True}, "release_train_metrics=True", "privacy_unit=none"),
        ({**_CLIENT_DP, "target_quantile": 0.5}, "target_quantile=0.5", "mechanism=gaussian"),
        ({**_CLIENT_DP, "clip_learning_rate": 0.2}, "clip_learning_rate", "mechanism=gaussian"),
    ],
)
def test_a_flag_of_a_choice_not_made_is_refused_by_name(settings, name, decider):
    message = _refusal(**settings)
    assert f"--{name}" in message
    assert decider in message
    assert "has no meaning with" in message
    assert "leave it out, or choose --" in message


@pytest.mark.parametrize("unit", ["client", "example"])
def test_neither_or_both_of_epsilon_and_noise_are_refused(unit):
    assert "neither was given" in _refusal(privacy_unit=unit)
    assert "both were given" in _refusal(privacy_unit=unit, target_epsilon=1, noise_multiplier=1)


@pytest.mark.parametrize("algorithm", ["fedsgd", "fedprox", "mimelite", "scaffold", "feddyn"])
def test_example_privacy_has_fedavg_only(algorithm):
    message = _refusal(**_EXAMPLE_DP, algorithm=algorithm)
    assert f"--algorithm={algorithm} has no private form" in message


@pytest.mark.parametrize("mechanism", ["adaptive", "tree"])
def test_example_privacy_has_gaussian_noise_only(mechanism):
    message = _refusal(**_EXAMPLE_DP, mechanism=mechanism)
    assert f"--mechanism={mechanism} works on the server's sum" in message


@pytest.mark.parametrize("sampler", ["poisson", "fixed_size"])
def test_the_tree_is_refused_with_a_sampler_it_has_no_bound_for(sampler):
    message = _refusal(**_CLIENT_DP, mechanism="tree", sampler=sampler)
    assert f"no bound for --sampler={sampler}; use --sampler=shuffled" in message


def test_a_fraction_of_a_client_needs_poisson():
    message = _refusal(clients_per_round=2.5)
    assert "--clients_per_round=2.5 must be a whole number with --sampler=fixed_size" in message
    FederatedConfig(clients_per_round=2.5, sampler="poisson").complete()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("algorithm", "fedfoo"),
        ("sampler", "all"),
        ("weighting", "size"),
        ("client_optimizer", "yogi"),
        ("server_optimizer", "rmsprop"),
        ("privacy_unit", "user"),
        ("mechanism", "laplace"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_choices(name, value):
    assert f"--{name}={value} is not known; choose one of " in _refusal(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        *((n, 0, {}) for n in ("rounds", "num_clients", "batch_size", "client_epochs")),
        *((n, 0, {}) for n in ("eval_every", "checkpoint_every")),
        ("seed", -1, {}),
        *(("clients_per_round", v, {}) for v in (0, -1, math.nan, math.inf)),
        *(("client_learning_rate", v, {}) for v in (0, math.nan, math.inf)),
        ("server_learning_rate", -0.1, {}),
        ("server_epsilon", 0, {"server_optimizer": "adam"}),
        *(("clip_norm", v, _CLIENT_DP) for v in (0, math.nan, math.inf)),
        ("target_epsilon", 0, {"privacy_unit": "client"}),
        ("proximal_strength", -1, {"algorithm": "fedprox"}),
        *(("noise_multiplier", v, {"privacy_unit": "client"}) for v in (-1, math.nan, math.inf)),
        ("clip_learning_rate", -1, {**_CLIENT_DP, "mechanism": "adaptive"}),
        *(("client_momentum", v, {"client_optimizer": "momentum"}) for v in (1, -0.1, math.nan)),
        ("server_momentum", 1, {"server_optimizer": "momentum"}),
        ("target_quantile", 1.1, {**_CLIENT_DP, "mechanism": "adaptive"}),
        *(("target_accuracy", v, {}) for v in (-0.1, 97, math.nan)),
        *(("delta", v, _CLIENT_DP) for v in (0, 1, math.nan)),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value, others):
    message = _refusal(**{**others, name: value})
    assert message.startswith(f"--{name}={value}")
    assert "must be" in message


def test_configs_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FederatedConfig().rounds = 3
