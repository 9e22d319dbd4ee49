"""Configs are completed, and what cannot work is refused before anything starts."""

import pytest

from tfpriv.central import CentralConfig
from tfpriv.errors import UserError


def test_private_run_gets_its_defaults():
    config = CentralConfig(target_epsilon=3.0).complete()
    assert (config.mechanism, config.sampler, config.clipping) == ("dpsgd", "poisson", "fixed")
    assert (config.clip_norm, config.delta, config.learning_rate) == (1.0, 1e-5, 0.25)


@pytest.mark.parametrize(
    ("mechanism", "sampler"), [("tree", "shuffled"), ("banded", "cyclic_poisson")]
)
def test_correlated_mechanisms_take_the_sampler_that_has_a_bound(mechanism, sampler):
    assert CentralConfig(mechanism=mechanism, target_epsilon=1.0).complete().sampler == sampler


def test_completing_twice_changes_nothing():
    config = CentralConfig(mechanism="banded", target_epsilon=1.0).complete()
    assert config.complete() == config


def test_principal_components_get_their_defaults():
    private = {"features": "dp_pca", "noise_multiplier": 1.0, "pca_noise_multiplier": 7.0}
    config = CentralConfig(**private).complete()
    assert (config.pca_components, config.pca_noise_multiplier) == (60, 7.0)
    plain = CentralConfig(features="dp_pca", mechanism="none").complete()
    assert (plain.pca_components, plain.pca_noise_multiplier) == (60, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs one of --target_epsilon and --noise_multiplier, and neither"),
        ({"target_epsilon": 1.0, "noise_multiplier": 1.0}, "both were given"),
        ({"mechanism": "none", "clip_norm": 1.0}, "--clip_norm=1.0 has no meaning with"),
        ({"mechanism": "none", "target_epsilon": 1.0}, "--target_epsilon=1.0 has no meaning"),
        ({"noise_multiplier": 1.0, "pca_components": 8}, "--pca_components=8 has no meaning with"),
        (
            {"noise_multiplier": 1.0, "pca_noise_multiplier": 7.0},
            "--pca_noise_multiplier=7.0 has no meaning with --features=none",
        ),
        (
            {"noise_multiplier": 1.0, "features": "dp_pca"},
            "--features=dp_pca with --mechanism=dpsgd needs --pca_noise_multiplier",
        ),
        (
            {"mechanism": "none", "features": "dp_pca", "pca_noise_multiplier": 7.0},
            "--pca_noise_multiplier=7.0 has no meaning with --mechanism=none",
        ),
        (
            {"noise_multiplier": 1.0, "features": "dp_pca", "pca_noise_multiplier": 0.0},
            "--pca_noise_multiplier=0.0 must be a number from 0.001 to 100000",
        ),
        (
            {"mechanism": "none", "features": "dp_pca", "pca_components": 0},
            "--pca_components=0 is too small",
        ),
        ({"mechanism": "pate"}, "--mechanism=pate is not known"),
        ({"noise_multiplier": 1.0, "momentum": 0.9}, "--momentum=0.9 has no meaning with"),
        ({"noise_multiplier": 1.0, "target_quantile": 0.5}, "--target_quantile=0.5 has no"),
        ({"noise_multiplier": 1.0, "bands": 4}, "--bands=4 has no meaning"),
        ({"noise_multiplier": -1.0}, "--noise_multiplier=-1.0 must be a number at least 0"),
        ({"noise_multiplier": 1.0, "clip_norm": 0.0}, "--clip_norm=0.0 must be a number above 0"),
        ({"noise_multiplier": 1.0, "epochs": 0}, "--epochs=0 is too small"),
        ({"noise_multiplier": 1.0, "delta": 1.0}, "--delta=1.0 must be at least 1e-30 and below 1"),
        ({"noise_multiplier": 1.0, "learning_rate": float("nan")}, "must be a number above 0"),
        ({"noise_multiplier": 1.0, "accumulate_steps": 0}, "--accumulate_steps=0 is too small"),
        (
            {"mechanism": "tree", "noise_multiplier": 1.0, "sampler": "poisson"},
            "--mechanism=tree has no bound for --sampler=poisson",
        ),
        (
            {"noise_multiplier": 1.0, "sampler": "cyclic_poisson"},
            "--sampler=cyclic_poisson belongs to --mechanism=banded",
        ),
        (
            {"mechanism": "banded", "noise_multiplier": 1.0},
            "--noise_multiplier=1.0 needs --bands",
        ),
        (
            {"noise_multiplier": 1.0, "sampler": "shuffled", "expected_batch_size": 2.5},
            "--expected_batch_size=2.5 must be a whole number",
        ),
    ],
)
def test_what_cannot_work_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        CentralConfig(**settings).complete()
