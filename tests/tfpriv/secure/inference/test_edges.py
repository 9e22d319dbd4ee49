"""Examples and networks at the edges of what can be given to a model on shares."""

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.inference import evaluator, grids, network, ranges

L = tf.keras.layers
_BATCH = 4


def served(layers, shape, x, protocol, local_parties):
    """Returns the model, what it gives for `x` on shares, and what that may be off by."""
    model = tf.keras.Sequential([L.InputLayer(shape), *layers])
    generator = np.random.default_rng(0)
    for weight in model.weights:
        fan = max(np.prod(weight.shape[:-1]), 1)
        weight.assign(generator.normal(0, np.sqrt(2 / fan), weight.shape))
    net = network.from_keras(model, softmax="approximate")
    plain, bounds = ranges.measure(net, x)
    secure = evaluator.SecureModel(net, bounds, protocol, local_parties, _BATCH)
    return secure, secure.predict(x), plain, grids.errors(net.stages, secure.grids)[-1]


@pytest.fixture(name="dense")
def _dense(aby3, local_parties):
    x = np.random.default_rng(1).normal(size=(_BATCH, 5))
    return served([L.Dense(3, activation="relu")], (5,), x, aby3, local_parties)[0]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (np.zeros((0, 5)), "0 examples were given; give at least one, and at most a batch of 4"),
        (np.zeros((5, 5)), "5 examples were given"),
        (np.zeros((2, 4)), r"shape \[2, 4\], and the model takes \['n', 5\]"),
        (np.zeros(5), r"shape \[5\]"),
        (np.float64(1), r"shape \[\]"),
        (np.zeros((2, 5, 1)), "shape"),
        (np.full((1, 5), "a"), "type <U1"),
        (np.full((1, 5), 1j), "type complex128"),
        (np.full((1, 5), np.nan), "the value nan"),
        (np.full((1, 5), -np.inf), "the value -inf"),
        (np.full((1, 5), -128, np.int8), "the value -128"),
    ],
)
def test_examples_that_cannot_be_shared_are_refused(dense, examples, message):
    with pytest.raises(UserError, match=message):
        dense.predict(examples)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint8, np.int64, bool])
def test_numbers_of_any_type_are_computed(dense, dtype):
    x = np.eye(5)[:2].astype(dtype)
    np.testing.assert_array_equal(dense.predict(x).shape, (2, 3))
    assert np.abs(dense.predict(x) - dense.predict(x.astype(np.float64))).max() < 1e-4


def test_no_examples_make_no_bounds(aby3):
    net = network.from_keras(tf.keras.Sequential([L.Dense(2, input_shape=(5,))]))
    with pytest.raises(UserError, match="0 examples were given; give at least one"):
        ranges.measure(net, np.zeros((0, 5)))


def test_ties_are_the_same_answer(protocol, local_parties):
    """Classes that are equal in plaintext are equal on shares, to the last bit."""
    model = tf.keras.Sequential([L.Dense(6, input_shape=(4,), use_bias=False), L.ReLU()])
    model.set_weights([np.tile(np.random.default_rng(2).normal(size=(4, 2)), (1, 3))])
    net = network.from_keras(model)
    x = np.concatenate([np.random.default_rng(3).normal(size=(3, 4)), np.zeros((1, 4))])
    plain, bounds = ranges.measure(net, x)
    found = evaluator.SecureModel(net, bounds, protocol, local_parties, 4).predict(x)
    assert np.abs(found - plain).max() < 1e-3
    # A truncation rounds each number up or down by chance, so equal sums may part by one step.
    step = np.abs(found[:, :2] - found[:, 2:4]).max()
    assert step <= 2.0**-13 * bounds[-1]


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([L.Dense(1)], id="one layer"),
        pytest.param([L.Dense(1000), L.Softmax()], id="1,000 classes"),
        pytest.param(
            [L.Dense(8, activation="relu") for _ in range(50)],
            id="fifty layers",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            [L.Dense(8, activation="tanh") for _ in range(50)],
            id="fifty tanh layers",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_networks_of_any_size_are_right_within_their_bound(layers, protocol, local_parties):
    x = np.random.default_rng(4).normal(size=(1, 6))
    _, found, plain, bound = served(layers, (6,), x, protocol, local_parties)
    assert found.shape == plain.shape
    assert np.abs(found - plain).max() <= min(bound, 2.0**-9 * max(np.abs(plain).max(), 1e-3))
