"""Tests of tfpriv.federated.silos."""

import numpy as np
import pytest

from tfpriv import privacy
from tfpriv.errors import UserError
from tfpriv.federated.config import FederatedConfig
from tfpriv.federated.silos import build_silos

_SIZES = np.array([50, 200, 50, 10])


def _config(**flags):
    settings = {"privacy_unit": "example", "rounds": 5, "batch_size": 20, "client_epochs": 2}
    return FederatedConfig(**{**settings, **flags}).complete()


def test_silos_of_one_size_have_one_plan_and_their_steps():
    silos = build_silos(_config(noise_multiplier=1.5), _SIZES)
    assert set(silos.plans) == {10, 50, 200}
    # Two epochs of ceil(size / 20) steps.
    assert silos.steps == {10: 2, 50: 6, 200: 20}
    for size, plan in silos.plans.items():
        assert plan.unit == "example"
        assert plan.sampler.population == size
        assert plan.sampler.expected_size == min(20, size)
        assert plan.mechanism == privacy.Gaussian(clip_norm=1.0, noise_multiplier=1.5)


def test_a_target_epsilon_holds_for_every_silo_and_is_nearly_spent_by_one():
    silos = build_silos(_config(target_epsilon=2.0), _SIZES)
    spent = [plan.epsilon([5 * silos.steps[size]]).value for size, plan in silos.plans.items()]
    assert max(spent) <= 2.0
    assert max(spent) > 1.9
    assert len({plan.mechanism.noise_multiplier for plan in silos.plans.values()}) == 1


def test_the_worst_silo_is_the_one_whose_rounds_cost_most():
    silos = build_silos(_config(noise_multiplier=1.5), _SIZES)
    plan, segments, client = silos.worst([5, 1, 4, 5])
    assert client == 3  # Ten examples, each in every batch.
    assert (plan.sampler.population, segments) == (10, [10])
    plan, segments, client = silos.worst([3, 1, 4, 0])
    assert (plan.sampler.population, segments, client) == (50, [24], 2)


def test_a_client_without_examples_is_refused_by_its_number():
    with pytest.raises(UserError, match="client 2 has no examples to protect"):
        build_silos(_config(noise_multiplier=1.0), np.array([3, 4, 0]))
