"""Aggregators and optimizers that are not ours, and what they may not be."""

import numpy as np
import pytest
import tensorflow_federated as tff

from tfpriv import federated
from tfpriv.errors import UserError
from tfpriv.federated import aggregation, optimizers
from tfpriv.federated.config import FederatedConfig

UPDATE = tff.types.to_type(((np.float32, (2,)), (np.float32, ())))


def aggregate(name, updates, weights, **settings):
    """Returns the mean of updates by an aggregator; they are multiplied by their weights first."""
    process = aggregation.build_aggregator(None, UPDATE, name, **settings)
    sent = [
        tuple(np.asarray(part, np.float32) * np.float32(weight) for part in update)
        for update, weight in zip(updates, weights, strict=True)
    ]
    context = tff.backends.native.create_sync_local_cpp_execution_context()
    with tff.framework.get_context_stack().install(context):
        return process.next(process.initialize(), sent, list(map(np.float32, weights))).result


def median(points, weights):
    """The geometric median by many steps of Weiszfeld's iteration in float64."""
    points, weights = np.array(points, np.float64), np.array(weights, np.float64)
    center = weights @ points / weights.sum()
    for _ in range(4):
        distance = np.maximum(np.linalg.norm(points - center, axis=1), 1e-6)
        center = (weights / distance) @ points / (weights / distance).sum()
    return center


def test_geometric_median_is_the_published_iteration():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(7, 3))
    points[0] = 1e4, -1e4, 1e4
    weights = np.array([1, 2, 3, 1, 2, 3, 1])
    found = aggregate("geometric_median", [(p[:2], p[2]) for p in points], weights)
    flat = np.concatenate([np.ravel(part) for part in found])
    np.testing.assert_allclose(flat, median(points, weights), rtol=1e-3, atol=1e-3)
    plain = aggregate("mean", [(p[:2], p[2]) for p in points], weights)
    assert np.linalg.norm(flat) < 0.2 * np.linalg.norm(np.concatenate(list(map(np.ravel, plain))))


@pytest.mark.parametrize(
    ("clients", "fraction", "cut"),
    [(7, 0.1, 1), (10, 0.2, 2), (5, 0.0, 0), (2, 0.4, 0), (1, 0.4, 0)],
)
def test_trimmed_mean_is_the_mean_of_what_is_left_of_each_number(clients, fraction, cut):
    points = np.random.default_rng(1).normal(size=(clients, 3)).astype(np.float32)
    points[0, 0], points[-1, 1] = 1e6, -1e6
    updates, weights = [(p[:2], p[2]) for p in points], range(1, clients + 1)
    found = aggregate("trimmed_mean", updates, weights, trimmed_fraction=fraction)
    expected = np.sort(points, axis=0)[cut : clients - cut].mean(axis=0)
    np.testing.assert_allclose([*found[0], found[1]], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["geometric_median", "trimmed_mean"])
def test_a_client_without_weight_does_not_count(name):
    found = aggregate(name, [([1, 1], 1), ([1, 1], 1), ([9, 9], 9)], [1, 1, 0])
    np.testing.assert_allclose(np.concatenate([found[0], [found[1]]]), np.ones(3), rtol=1e-5)
    nobody = aggregate(name, [([1, 1], 1)], [0])
    np.testing.assert_array_equal(nobody[0], np.zeros(2))


@pytest.mark.parametrize("name", ["geometric_median", "trimmed_mean"])
def test_a_round_without_clients_changes_nothing(name):
    found = aggregate(name, [], [])
    np.testing.assert_array_equal(found[0], np.zeros(2))


def own(**functions):
    config = FederatedConfig(**functions).complete()
    assert all(":" in getattr(config, name) for name in functions)
    return config


@pytest.mark.parametrize("field", ["aggregator", "server_optimizer", "client_optimizer"])
def test_a_function_that_returns_something_else_is_refused_by_name(field):
    config = own(**{field: lambda *rate: "nothing"})
    with pytest.raises(UserError, match=rf"--{field}=object:\S+ returned a str; return a"):
        if field == "aggregator":
            aggregation.build_aggregator(None, UPDATE, config.aggregator)
        elif field == "server_optimizer":
            optimizers.build_server_optimizer(config)
        else:
            optimizers.build_client_optimizer(config)


def test_an_optimizer_that_keeps_no_rate_cannot_follow_a_schedule():
    class Fixed(tff.learning.optimizers.Optimizer):
        def initialize(self, specs):
            return {}

        def next(self, state, weights, gradients):
            return state, weights

    config = own(client_optimizer=lambda rate: Fixed())
    optimizers.build_client_optimizer(config)
    config = FederatedConfig(client_optimizer=lambda rate: Fixed(), client_schedule="linear")
    with pytest.raises(UserError, match="keeps no learning rate in its state"):
        optimizers.build_client_optimizer(config.complete())


def test_an_aggregator_has_no_epsilon():
    with pytest.raises(UserError, match="--aggregator=geometric_median has no meaning with"):
        federated.FederatedConfig(
            privacy_unit="client", target_epsilon=1, aggregator="geometric_median"
        ).complete()
