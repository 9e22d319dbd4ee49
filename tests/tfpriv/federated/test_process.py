"""Tests of tfpriv.federated.process: round by round against stock tff.learning."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

_GENERATOR = np.random.default_rng(7)
_FEATURES = _GENERATOR.normal(size=(40, 4)).astype(np.float32)
_LABELS = _GENERATOR.integers(0, 3, 40).astype(np.int32)
_START = [
    _GENERATOR.normal(size=(4, 3)).astype(np.float32),
    _GENERATOR.normal(size=3).astype(np.float32),
]
# Three rounds; clients of different sizes, with short last batches, and two epochs of one of them.
_COHORTS = [
    [
        np.array([[0, 1, 2], [3, 4, -1], [4, 2, 0], [1, 3, -1]]),
        np.array([[5, 6, 7], [8, 9, 10]]),
        np.array([[11]]),
    ],
    [np.array([[12, 13, 14], [15, 16, 17], [18, 19, -1]]), np.array([[20, 21]])],
    [np.array([[22, 23, 24]]), np.array([[25, 26, 27], [28, -1, -1]]), np.array([[0, 39]])],
]
_SGDM = tff.learning.optimizers.build_sgdm
_ADAM = tff.learning.optimizers.build_adam


def _stock_model():
    keras_model = tf.keras.Sequential(
        [tf.keras.layers.Input([4]), tf.keras.layers.Dense(3, kernel_initializer="zeros")]
    )
    return tff.learning.models.from_keras_model(
        keras_model,
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        input_spec=collections.OrderedDict(
            x=tf.TensorSpec([None, 4], tf.float32), y=tf.TensorSpec([None], tf.int32)
        ),
    )


def _stock_dataset(batches):
    """A client's data as stock TFF takes them: the same batches in the same order."""

    def read(batch):
        rows = tf.boolean_mask(batch, batch >= 0)
        return collections.OrderedDict(x=tf.gather(_FEATURES, rows), y=tf.gather(_LABELS, rows))

    return tf.data.Dataset.from_tensor_slices(batches.astype(np.int32)).map(read)


def _assert_same_rounds(ours, stock):
    state = stock.initialize()
    start = tff.learning.models.ModelWeights(trainable=_START, non_trainable=[])
    state = stock.set_model_weights(state, start)
    for cohort in _COHORTS:
        before = ours.weights
        ours.round(*cohort)
        state = stock.next(state, [_stock_dataset(b) for b in cohort]).state
        expected = stock.get_model_weights(state).trainable
        assert max(np.abs(a - b).max() for a, b in zip(ours.weights, before, strict=True)) > 1e-3
        for found, wanted in zip(ours.weights, expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.fixture
def ours(worker, trial, local_model):
    """Makes a trial from `_START`."""
    model, _ = local_model(_FEATURES, _LABELS)
    return lambda **flags: trial(model, weights=_START, **flags)


def test_weighted_fedavg_is_tffs(ours):
    stock = tff.learning.algorithms.build_weighted_fed_avg(
        _stock_model,
        client_optimizer_fn=_SGDM(0.3, momentum=0.8),
        server_optimizer_fn=_ADAM(0.05, beta_1=0.9, beta_2=0.99, epsilon=0.01),
    )
    run = ours(
        client_optimizer="momentum",
        client_momentum=0.8,
        client_learning_rate=0.3,
        server_optimizer="adam",
        server_learning_rate=0.05,
        server_epsilon=0.01,
    )
    _assert_same_rounds(run, stock)


def test_unweighted_fedavg_is_tffs(ours):
    stock = tff.learning.algorithms.build_unweighted_fed_avg(
        _stock_model,
        client_optimizer_fn=_ADAM(0.1),
        server_optimizer_fn=tff.learning.optimizers.build_yogi(
            0.1, beta_1=0.9, beta_2=0.99, epsilon=0.001
        ),
    )
    run = ours(
        weighting="uniform",
        client_optimizer="adam",
        client_learning_rate=0.1,
        server_optimizer="yogi",
        server_learning_rate=0.1,
    )
    _assert_same_rounds(run, stock)


def test_fedsgd_is_tffs(ours):
    stock = tff.learning.algorithms.build_fed_sgd(
        _stock_model, server_optimizer_fn=_SGDM(0.5, momentum=0.9)
    )
    run = ours(
        algorithm="fedsgd",
        server_optimizer="momentum",
        server_momentum=0.9,
        server_learning_rate=0.5,
    )
    _assert_same_rounds(run, stock)


class _Negated(float):
    """A strength that counts as positive and multiplies as its negative."""

    def __mul__(self, other):
        return -float(self) * other


def test_fedprox_is_tffs_with_the_sign_of_its_proximal_term_put_right(ours):
    stock = tff.learning.algorithms.build_weighted_fed_prox(
        _stock_model,
        # TFF 0.87 adds mu (w0 - w) to the gradient, which pushes away from the round's weights
        # w0; the gradient of Li et al. 2020, equation 2, is mu (w - w0).
        proximal_strength=_Negated(0.7),
        client_optimizer_fn=_SGDM(0.3),
        server_optimizer_fn=tff.learning.optimizers.build_adagrad(
            0.1, initial_preconditioner_value=0.0, epsilon=1e-6
        ),
    )
    run = ours(
        algorithm="fedprox",
        proximal_strength=0.7,
        client_learning_rate=0.3,
        server_optimizer="adagrad",
        server_learning_rate=0.1,
    )
    _assert_same_rounds(run, stock)


@pytest.mark.parametrize(
    ("flags", "optimizer"),
    [
        (
            {"client_optimizer": "momentum", "client_momentum": 0.8, "client_learning_rate": 0.3},
            _SGDM(0.3, momentum=0.8),
        ),
        ({"client_optimizer": "adam", "client_learning_rate": 0.1}, _ADAM(0.1)),
    ],
    ids=["momentum", "adam"],
)
def test_mimelite_is_tffs(ours, flags, optimizer):
    stock = tff.learning.algorithms.build_weighted_mime_lite(
        _stock_model, base_optimizer=optimizer, server_optimizer=_SGDM(1.0)
    )
    _assert_same_rounds(ours(algorithm="mimelite", **flags), stock)


def test_the_server_schedule_lowers_the_servers_rate_only(ours):
    steady = ours()
    for cohort, factor in zip(_COHORTS, (1.0, 0.5, 0.25), strict=True):
        falling = ours(server_schedule="exponential:0.5", rounds=3, server_learning_rate=2.0)
        if factor < 1:
            # Bring the schedule on by rounds without clients, which change nothing.
            for _ in range({0.5: 1, 0.25: 2}[factor]):
                falling.round()
        falling.state = falling.state._replace(
            global_model_weights=steady.state.global_model_weights
        )
        found, expected = falling.round(*cohort), steady.round(*cohort)
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(f, 2.0 * factor * e, atol=1e-6)


def test_processes_start_from_zeros_and_take_weights(ours, trial, local_model):
    model, _ = local_model(_FEATURES, _LABELS)
    assert all((w == 0).all() for w in trial(model).weights)
    for found, given in zip(ours().weights, _START, strict=True):
        assert np.array_equal(found, given)
