"""Tests of tfpriv.federated.client_work, against numpy on arrays small enough to check by hand."""

import numpy as np
import pytest

_FEATURES = np.array(
    [[1, 0], [0, 1], [1, 1], [2, -1], [-1, 0.5], [np.nan, 0], [np.inf, 0], [1e30, -1e30]],
    np.float32,
)
_LABELS = np.array([0, 1, 1, 0, 1, 0, 0, 1], np.int32)
_BAD_ROWS = (5, 6, 7)
# Two clients: rows 0, 1, 2 in batches of 2, over two epochs; and rows 3, 4 in one batch.
_FIRST = np.array([[2, 0], [1, -1], [0, 1], [2, -1]])
_SECOND = np.array([[4, 3]])
_START = [np.array([[0.1, -0.2], [0.3, 0.4]], np.float32), np.array([0.0, 0.1], np.float32)]
_EMPTY = np.empty((0, 0))


def _gradient(weights, rows):
    """The gradient of softmax regression's mean cross-entropy, in numpy."""
    x, y = _FEATURES[rows].astype(np.float64), _LABELS[rows]
    logits = x @ weights[0] + weights[1]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return [x.T @ p / len(y), p.mean(axis=0)]


def _sgd(batches, rate, mu=0.0):
    """Local training in numpy: end less start."""
    weights = [w.astype(np.float64) for w in _START]
    for batch in batches:
        gradient = _gradient(weights, batch[batch >= 0])
        weights = [
            w - rate * (g + mu * (w - w0))
            for w, g, w0 in zip(weights, gradient, _START, strict=True)
        ]
    return [w - w0 for w, w0 in zip(weights, _START, strict=True)]


def _mean(updates, weights):
    total = sum(weights)
    return [
        sum(w * u for w, u in zip(weights, tensors, strict=True)) / total
        for tensors in zip(*updates, strict=True)
    ]


@pytest.fixture(scope="module")
def logistic(worker, local_model):
    return local_model(_FEATURES, _LABELS)[0]


@pytest.fixture
def start(trial, logistic):
    """Makes a trial over these examples, from `_START`."""
    return lambda **flags: trial(logistic, weights=_START, **flags)


def _assert_close(found, expected):
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, atol=1e-6)


def test_fedavg_is_the_mean_by_examples_of_the_clients_sgd(start):
    moved = start(client_learning_rate=0.5).round(_FIRST, _SECOND)
    # Six rows in two epochs of the first client, two of the second.
    _assert_close(moved, _mean([_sgd(_FIRST, 0.5), _sgd(_SECOND, 0.5)], [6, 2]))


def test_uniform_weighting_takes_clients_alike(start):
    moved = start(client_learning_rate=0.5, weighting="uniform").round(_FIRST, _SECOND)
    _assert_close(moved, _mean([_sgd(_FIRST, 0.5), _sgd(_SECOND, 0.5)], [1, 1]))


def test_fedprox_pulls_back_to_the_rounds_weights(start):
    moved = start(algorithm="fedprox", proximal_strength=0.8, client_learning_rate=0.5).round(
        _FIRST, _SECOND
    )
    expected = _mean([_sgd(_FIRST, 0.5, mu=0.8), _sgd(_SECOND, 0.5, mu=0.8)], [6, 2])
    _assert_close(moved, expected)


def test_fedprox_of_strength_zero_is_fedavg(start):
    prox = start(algorithm="fedprox", proximal_strength=0.0).round(_FIRST, _SECOND)
    _assert_close(prox, start().round(_FIRST, _SECOND))


def test_fedsgd_is_one_step_on_the_mean_gradient_over_all_examples(start):
    batches = np.array([[0, 1], [2, -1]]), np.array([[3, 4]])
    moved = start(algorithm="fedsgd", server_learning_rate=0.7).round(*batches)
    gradient = _gradient([w.astype(np.float64) for w in _START], [0, 1, 2, 3, 4])
    _assert_close(moved, [-0.7 * g for g in gradient])


def test_the_client_schedule_lowers_the_rate_in_later_rounds(start):
    run = start(client_learning_rate=0.5, client_schedule="linear", rounds=4)
    _assert_close(run.round(_FIRST), _sgd(_FIRST, 0.5))
    run.round()
    # The third round of four: half the rate. Weights have moved, so start from there.
    again = start(client_learning_rate=0.25)
    again.state = again.state._replace(global_model_weights=run.state.global_model_weights)
    _assert_close(run.round(_FIRST), again.round(_FIRST))


def test_the_training_metrics_are_sums_over_the_clients_examples(start):
    run = start(client_learning_rate=1e-9)
    run.round(_SECOND)
    x, y = _FEATURES[[3, 4]], _LABELS[[3, 4]]
    logits = x @ _START[0] + _START[1]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(2), y]
    measured = run.metrics["client_work"]
    assert float(measured["loss"]) == pytest.approx(losses.sum(), abs=1e-5)
    assert float(measured["correct"]) == (logits.argmax(axis=1) == y).sum()
    assert float(measured["examples"]) == 2


def test_private_runs_measure_nothing_unless_told_to(start, trial, logistic):
    from tfpriv import privacy

    plan = privacy.PrivacyPlan(
        unit="client",
        sampler=privacy.PoissonSampler(population=100, expected_size=2),
        mechanism=privacy.Gaussian(clip_norm=1.0, noise_multiplier=1.0),
        delta=1e-5,
    )
    flags = {"privacy_unit": "client", "noise_multiplier": 1.0}
    silent = trial(logistic, plan, **flags)
    silent.round(_SECOND)
    assert not silent.metrics["client_work"]
    told = trial(logistic, plan, **flags, release_train_metrics=True)
    told.round(_SECOND)
    assert float(told.metrics["client_work"]["examples"]) == 2


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsgd", "fedprox", "mimelite"])
def test_clients_without_examples_and_empty_rounds_change_nothing(start, algorithm):
    run = start(algorithm=algorithm)
    _assert_close(run.round(), [np.zeros((2, 2)), np.zeros(2)])
    _assert_close(run.round(_EMPTY, _EMPTY), [np.zeros((2, 2)), np.zeros(2)])
    fresh = start(algorithm=algorithm)
    _assert_close(run.round(_FIRST, _EMPTY), fresh.round(_FIRST))


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsgd", "fedprox", "mimelite"])
def test_a_client_whose_update_has_no_finite_norm_contributes_nothing(start, algorithm):
    flags = {"algorithm": algorithm}
    if algorithm != "fedsgd":
        flags |= {"client_learning_rate": 0.5, "client_optimizer": "momentum"}
    with_bad, without = start(**flags), start(**flags)
    for _ in range(2):
        found = with_bad.round(_FIRST, *([[row]] for row in _BAD_ROWS))
        expected = without.round(_FIRST)
        assert np.abs(expected[0]).max() > 1e-3
        _assert_close(found, expected)
