"""Tests of tfpriv.federated.client_work, against numpy on arrays small enough to check by hand."""

import numpy as np
import pytest

from tfpriv import user_code
from tfpriv.errors import UserError
from tfpriv.federated import algorithms, process
from tfpriv.federated.algorithms.base import Algorithm, ClientOutput

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


@pytest.mark.parametrize("algorithm", algorithms.NAMES)
def test_clients_without_examples_and_empty_rounds_change_nothing(start, algorithm):
    run = start(algorithm=algorithm)
    _assert_close(run.round(), [np.zeros((2, 2)), np.zeros(2)])
    _assert_close(run.round(_EMPTY, _EMPTY), [np.zeros((2, 2)), np.zeros(2)])
    fresh = start(algorithm=algorithm)
    _assert_close(run.round(_FIRST, _EMPTY), fresh.round(_FIRST))


@pytest.mark.parametrize("algorithm", algorithms.NAMES)
def test_a_client_whose_update_has_no_finite_norm_contributes_nothing(start, algorithm):
    flags = {"algorithm": algorithm}
    if algorithm != "fedsgd":
        optimizer = "sgd" if algorithm == "scaffold" else "momentum"
        flags |= {"client_learning_rate": 0.5, "client_optimizer": optimizer}
    with_bad, without = start(**flags), start(**flags)
    for _ in range(2):
        found = with_bad.round(_FIRST, *([[row]] for row in _BAD_ROWS))
        expected = without.round(_FIRST)
        assert np.abs(expected[0]).max() > 1e-3
        _assert_close(found, expected)


@pytest.mark.parametrize(
    ("algorithm", "says"),
    [
        ("mimelite", "--algorithm=mimelite sends more than updates"),
        ("scaffold", "--algorithm=scaffold sends more than updates"),
        ("feddyn", "--algorithm=feddyn keeps a state for each client"),
    ],
)
@pytest.mark.parametrize("noise_multiplier", [0.0, 1.0])
def test_what_tells_more_than_updates_is_refused_under_privacy(
    start, algorithm, says, noise_multiplier
):
    with pytest.raises(UserError, match=says):
        start(algorithm=algorithm, privacy_unit="client", noise_multiplier=noise_multiplier)


def _scaffold(batches, rate, correction):
    """Local training of SCAFFOLD in numpy: end less start, and the mean gradient of its steps."""
    weights = [w.astype(np.float64) for w in _START]
    gradients = []
    for batch in batches:
        gradient = _gradient(weights, batch[batch >= 0])
        gradients.append(gradient)
        weights = [
            w - rate * (g + c) for w, g, c in zip(weights, gradient, correction, strict=True)
        ]
    update = [w - w0 for w, w0 in zip(weights, _START, strict=True)]
    return update, _mean(gradients, [1] * len(gradients))


def test_scaffold_is_that_of_the_paper(start):
    """Algorithm 1, option II, by uniform means over two of four clients."""
    rate = 0.5
    run = start(
        algorithm="scaffold",
        client_learning_rate=rate,
        weighting="uniform",
        participation=0.5,
    )
    zeros = [np.zeros((2, 2)), np.zeros(2)]
    ours, common = [zeros, zeros], zeros
    for _ in range(3):
        moved = run.round(_FIRST, _SECOND)
        updates, changes = [], []
        for client, batches in enumerate((_FIRST, _SECOND)):
            correction = [c - mine for c, mine in zip(common, ours[client], strict=True)]
            # Each round of this test starts from the same weights.
            update, gradient = _scaffold(batches, rate, correction)
            # Where nothing is corrected twice, option II is the mean of the steps' gradients.
            changes.append([g - mine for g, mine in zip(gradient, ours[client], strict=True)])
            updates.append(update)
            ours[client] = gradient
        _assert_close(moved, _mean(updates, [1, 1]))
        common = [c + 0.5 * m for c, m in zip(common, _mean(changes, [1, 1]), strict=True)]
        for client in range(2):
            _assert_close(run.clients[client], ours[client])
        _assert_close(run.state.client_work[1], common)
        run.state = process.with_weights(run.state, _START)


def test_scaffold_reads_gradients_off_the_steps_of_sgd_alone(start):
    with pytest.raises(UserError, match="--client_optimizer=momentum does not go with scaffold"):
        start(algorithm="scaffold", client_optimizer="momentum")


def test_feddyn_is_that_of_the_paper(start):
    """Algorithm 1, by uniform means over two of four clients, with steps of SGD as its solver."""
    rate, alpha = 0.5, 0.3
    run = start(
        algorithm="feddyn",
        dynamic_strength=alpha,
        client_learning_rate=rate,
        weighting="uniform",
        participation=0.5,
    )
    zeros = [np.zeros((2, 2)), np.zeros(2)]
    ours, h = [zeros, zeros], zeros
    weights = [w.astype(np.float64) for w in _START]
    for _ in range(3):
        moved = run.round(_FIRST, _SECOND)
        ends = []
        for client, batches in enumerate((_FIRST, _SECOND)):
            end = weights
            for batch in batches:
                gradient = _gradient(end, batch[batch >= 0])
                end = [
                    w - rate * (g - mine + alpha * (w - w0))
                    for w, g, mine, w0 in zip(end, gradient, ours[client], weights, strict=True)
                ]
            ends.append(end)
            ours[client] = [
                mine - alpha * (e - w0)
                for mine, e, w0 in zip(ours[client], end, weights, strict=True)
            ]
        mean = _mean(ends, [1, 1])
        h = [a - alpha * 0.5 * (m - w0) for a, m, w0 in zip(h, mean, weights, strict=True)]
        following = [m - a / alpha for m, a in zip(mean, h, strict=True)]
        _assert_close(moved, [f - w for f, w in zip(following, weights, strict=True)])
        for client in range(2):
            _assert_close(run.clients[client], ours[client])
        weights = following


@pytest.mark.parametrize("algorithm", ["mimelite", "scaffold", "feddyn"])
def test_a_round_in_which_nothing_counts_leaves_what_the_server_keeps(start, algorithm):
    run = start(algorithm=algorithm, client_learning_rate=0.5)
    run.round(_FIRST, _SECOND)
    before = [np.copy(a) for a in _flat(run.state.client_work[1])]
    assert any(np.any(a) for a in before)
    for cohort in ((), (_EMPTY,), ([[5]],)):
        _assert_close(run.round(*cohort), [np.zeros((2, 2)), np.zeros(2)])
        for a, b in zip(before, _flat(run.state.client_work[1]), strict=True):
            np.testing.assert_array_equal(a, b)


def _flat(structure):
    import tensorflow as tf

    return tf.nest.flatten(structure)


class _Own(Algorithm):
    """An algorithm whose clients return what they are told to."""

    def __init__(self, returned):
        self._returned = returned

    def client_state(self):
        return (np.zeros(3, np.float32),)

    def train(self, given):
        return self._returned(given.start, given.client)


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda start, client: start, "train returned a tuple; return a"),
        (
            lambda start, client: ClientOutput(start[:1], (0.0, 0.0), state=client),
            r"whose update has the shapes \[\(2, 2\)\] where \[\(2, 2\), \(2,\)\] are wanted",
        ),
        (
            lambda start, client: ClientOutput(start, (0.0, 0.0)),
            r"whose state has the shapes \[\] where \[\(3,\)\] are wanted",
        ),
    ],
)
def test_what_an_algorithm_of_ones_own_returns_is_checked(start, returned, says):
    with pytest.raises(UserError, match=says):
        start(algorithm=user_code.give(lambda setup: _Own(returned), "own"))


def test_an_algorithm_of_ones_own_must_be_one(start):
    with pytest.raises(UserError, match=r"returned a str; return a .*Algorithm"):
        start(algorithm=user_code.give(lambda setup: "algorithm", "own"))
