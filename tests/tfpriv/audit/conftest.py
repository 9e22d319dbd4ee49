"""Runs for the audits to attack, each trained once."""

import shutil

import pytest

from tfpriv import audit, central

# Labels at random: whatever a model gets right of them it remembers.
OWN = """
import numpy as np
from tfpriv.datasets import Dataset

def noise():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((1000, 60)).astype(np.float32)
    labels = generator.integers(3, size=1000, dtype=np.int32)
    return Dataset(name="noise", task="classification", num_classes=3,
                   train_features=features[:600], train_labels=labels[:600],
                   test_features=features[600:], test_labels=labels[600:])

def line():
    features = np.random.default_rng(1).standard_normal((200, 20)).astype(np.float32)
    labels = features.sum(axis=1)
    return Dataset(name="line", task="regression", num_classes=1,
                   train_features=features[:100], train_labels=labels[:100],
                   test_features=features[100:], test_labels=labels[100:])
"""
OVERFITTED = {
    "model": "mlp",
    "mechanism": "none",
    "optimizer": "adam",
    "learning_rate": 0.03,
    "expected_batch_size": 50,
    "epochs": 40,
    "eval_every": 40,
    "checkpoint_every": 40,
}
# Half of the examples in each step, so that a canary's part stands out of the noise.
PLANTED = {
    "dataset": "digits",
    "model": "logistic",
    "learning_rate": 0.5,
    "expected_batch_size": 720,
    "epochs": 10,
    "checkpoint_every": 10,
    "audit_canaries": 400,
    "audit_canary_kind": "out_of_distribution",
}


@pytest.fixture(scope="session")
def train(tmp_path_factory):
    """Trains a central run of the given settings in a folder of its own."""

    def run(**settings):
        path = tmp_path_factory.mktemp("trained") / "run"
        return central.run(central.CentralConfig(output_dir=str(path), **settings))

    return run


@pytest.fixture
def attack(tmp_path):
    """Audits a run; returns the audit's directory and whether the claim is broken."""

    def run(target, **settings):
        config = {"run": str(target.path), "output_dir": str(tmp_path / "audit")}
        config |= {"trust_code": True, **settings}
        return audit.run(audit.AuditConfig(**config))

    return run


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    """A file of data sets."""
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(OWN)
    return path


@pytest.fixture(scope="session")
def overfitted(train, own):
    """A run that took half of examples with random labels, and remembers them."""
    return train(dataset=f"{own}:noise", train_fraction=0.5, seed=1, **OVERFITTED)


@pytest.fixture(scope="session")
def whole(train, own):
    """The same on all training examples."""
    return train(dataset=f"{own}:noise", seed=1, **{**OVERFITTED, "epochs": 10})


@pytest.fixture(scope="session")
def regression(train, own):
    return train(
        dataset=f"{own}:line", train_fraction=0.5, **{**OVERFITTED, "model": "mlp", "epochs": 5}
    )


@pytest.fixture(scope="session")
def open_run(train):
    """A run with canaries and without privacy."""
    return train(mechanism="none", **PLANTED)


@pytest.fixture(scope="session")
def private_run(train):
    """A run with canaries and with privacy."""
    return train(noise_multiplier=10.0, **PLANTED)


@pytest.fixture
def copied(tmp_path):
    """Copies a run, with its coins, to where a test may alter it."""

    def copy(run):
        path = tmp_path / "copy" / run.path.name
        shutil.copytree(run.path, path)
        coins = run.path.with_name("run.coins.json")
        if coins.exists():
            shutil.copy(coins, path.with_name("run.coins.json"))
        return type(run).open(path)

    return copy
