"""Smooth functions on shares, against NumPy's, over all that can enter."""

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.secure.protocols import fixed_point, smooth

BITS = smooth.ARGUMENT_BITS


def on_shares(protocol, function, x, bits):
    """What `function` gives for numbers that lie on the grid of `bits` already."""

    def run():
        shared = fixed_point.share_fixed(protocol, tf.constant(x), bits)
        return fixed_point.reveal_fixed(protocol, function(shared))

    return tf.function(run, autograph=False)().numpy()


def on_grid(x, bits):
    return np.round(np.asarray(x) * 2.0**bits) / 2.0**bits


@pytest.mark.parametrize("name", smooth.ACTIVATIONS)
def test_each_function_is_right_for_numbers_of_any_size(protocol, name):
    ends = smooth.table(name).ends * 2.0 ** smooth.table(name).argument
    x = np.concatenate(
        [
            np.linspace(-15, 15, 3001),
            *(ends + step * 2.0**-BITS for step in (-1, 0, 1)),
            [0, *(sign * 10.0**power for sign in (-1, 1) for power in (2, 3, 4, 5))],
        ]
    )
    x = on_grid(x, BITS)
    found = on_shares(protocol, lambda s: smooth.evaluate(protocol, name, s, BITS), x, BITS)
    right = smooth.plain(name, x)
    # A slope other than 1 is a factor of 20 bits.
    bound = smooth.largest_error(name) + 2.0**-19 + (smooth.room(name) > 0) * np.abs(x) * 2.0**-19
    assert (np.abs(found - right) <= bound).all()
    assert smooth.largest_error(name) < 2.0**-12


@pytest.mark.parametrize("name", smooth.ACTIVATIONS)
@pytest.mark.parametrize("power", [0, -1, -7, -20])
def test_a_small_argument_is_right_relative_to_its_size(aby3, name, power):
    bound = 2.0**power
    bits = smooth.argument_bits(bound)
    x = on_grid(bound * np.linspace(-1, 1, 501), bits)
    found = on_shares(aby3, lambda s: smooth.evaluate(aby3, name, s, bits + 4, bound), x, bits)
    right = smooth.plain(name, x)
    error = np.abs(found - right).max()
    assert error <= smooth.largest_error(name, bound) + 2.0 ** -(bits + 3)
    assert error < 2.0**-12 * np.abs(right).max()


def test_keras_has_the_same_functions():
    x = np.linspace(-12, 12, 401)
    for name in smooth.ACTIVATIONS:
        np.testing.assert_allclose(
            smooth.plain(name, x), getattr(tf.keras.activations, name)(tf.constant(x)), atol=1e-6
        )


@pytest.mark.parametrize("classes", [1, 2, 10, 1000, 3000])
@pytest.mark.parametrize("spread", [0.1, 3.0, 50.0])
def test_softmax_is_right_for_few_and_many_classes(protocol, classes, spread):
    logits = np.random.default_rng(classes).normal(0, spread, (5, classes))
    logits[0] = -np.log(classes)  # The sum of the others is as large as the largest.
    logits[0, 0] = 0
    logits[1] = 1e4  # ties
    logits[2] = -1e4 * np.arange(classes)
    logits = on_grid(logits, 18)
    found = on_shares(protocol, lambda s: smooth.softmax(protocol, s, 24), logits, 18)
    assert np.abs(found - tf.nn.softmax(logits)).max() < smooth.SOFTMAX_ERROR
    assert np.abs(found.sum(axis=1) - 1).max() < 2.0**-10


@pytest.mark.parametrize(
    ("function", "plain", "low", "high", "is_relative"),
    [
        (smooth.reciprocal, lambda x: 1 / x, -10, 14, True),
        (smooth.reciprocal, lambda x: 1 / x, 0, 1, True),
        (smooth.inverse_square_root, lambda x: x**-0.5, -12, 24, True),
        (smooth.logarithm, np.log, -10, 14, False),
        (smooth.logarithm, np.log, 0, 2, False),
    ],
)
def test_functions_of_positive_numbers(protocol, function, plain, low, high, is_relative):
    x = 2.0 ** np.random.default_rng(0).uniform(low, high, 2000)
    x[:2] = [2.0**low, 2.0**high - 2.0**-20]
    x = on_grid(x, 24)
    found = on_shares(protocol, lambda s: function(protocol, s, low, high, 30), x, 24)
    error = np.abs(found - plain(x)) / (plain(x) if is_relative else 1)
    assert error.max() < 2.0**-11


@pytest.mark.parametrize("names", [smooth.ACTIVATIONS])
def test_tables_have_few_pieces(names):
    """Each end is a comparison of 64 bits for each number."""
    assert max(len(smooth.table(name).ends) for name in names) <= 6
