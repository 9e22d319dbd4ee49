import types

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.secure.parties import connection
from tfpriv.secure.protocols import fixed_point, running
from tfpriv.secure.training import optimizers


def config(name, momentum=0.9):
    rate = 0.01 if name == "sgd" else 0.001
    return types.SimpleNamespace(
        optimizer=name, learning_rate=rate, momentum=momentum, batch_size=128
    )


def gradients(steps, shape, spread=1.0):
    """Sums over a batch whose sizes go over four orders of magnitude."""
    generator = np.random.default_rng(0)
    sizes = 10.0 ** generator.uniform(-2, 2, shape)
    return [
        (sizes * (1 + generator.normal(0, spread, shape))).astype(np.float32) for _ in range(steps)
    ]


def on_shares(name, initial, batches):
    optimizer = optimizers.shared(config(name))
    with running.protocol("aby3", connection.local()) as prot:

        def step(weight, slots, gradient, number):
            weight, slots = (
                prot.from_bone(weight),
                [prot.from_bone(slot) for slot in slots],
            )
            gradient = fixed_point.at_twice_the_scale(prot, fixed_point.share(prot, gradient))
            weight, slots = optimizer.apply(prot, weight, slots, gradient, number)
            return weight.bone, [slot.bone for slot in slots]

        share = tf.function(lambda x: fixed_point.share(prot, x).bone, autograph=False)
        apply = tf.function(step, autograph=False)
        weight = share(tf.constant(initial))
        slots = [share(tf.zeros_like(initial)) for _ in range(optimizer.slots)]
        for number, gradient in enumerate(batches, 1):
            weight, slots = apply(
                weight, slots, tf.constant(gradient), tf.constant(number, tf.float64)
            )
        reveal = tf.function(lambda x: fixed_point.reveal(prot, prot.from_bone(x)), autograph=False)
        return reveal(weight).numpy()


def in_the_clear(name, initial, batches):
    weight = tf.Variable(initial)
    optimizer = optimizers.plain([weight], config(name))
    for number, gradient in enumerate(batches, 1):
        optimizer.apply([tf.constant(gradient)], tf.constant(number, tf.float64))
    return weight.numpy()


@pytest.mark.parametrize("name", ["sgd", "adam", "amsgrad"])
def test_steps_on_shares_are_those_in_the_clear(name):
    initial = np.zeros((6, 5), np.float32)
    batches = gradients(20, initial.shape)
    found, right = on_shares(name, initial, batches), in_the_clear(name, initial, batches)
    # A step of the grid up or down for each step of the optimizer.
    assert np.allclose(found, right, rtol=0.02, atol=20 * 2.0**-16)
    assert np.max(np.abs(right)) > 1e-3


@pytest.mark.parametrize("name", ["sgd", "adam", "amsgrad"])
def test_steps_in_the_clear_are_those_of_keras(name):
    initial = np.ones((6, 5), np.float32)
    batches = gradients(30, initial.shape, spread=0.2)
    weight = tf.Variable(initial)
    if name == "sgd":
        keras = tf.keras.optimizers.legacy.SGD(0.01, momentum=0.9)
    else:
        keras = tf.keras.optimizers.legacy.Adam(0.001, amsgrad=name == "amsgrad")
    for gradient in batches:
        keras.apply_gradients([(gradient / 128, weight)])
    # Gradients near the smallest that fixed point resolves have smaller steps.
    large = np.mean(np.abs(batches), axis=0) > 2
    found = in_the_clear(name, initial, batches)
    assert np.allclose(found[large] - 1, weight.numpy()[large] - 1, rtol=0.01, atol=1e-4)


def test_small_steps_are_not_lost_on_average():
    # A step of a fifth of the grid's.
    gradient = 2.0**-16 / 5 / (0.01 / 128)
    batches = [np.full((40, 40), gradient, np.float32)] * 5
    moved = -on_shares("sgd", np.zeros((40, 40), np.float32), batches)
    right = -in_the_clear("sgd", np.zeros((40, 40), np.float32), batches)
    assert moved.mean() == pytest.approx(right.mean(), rel=0.1)
