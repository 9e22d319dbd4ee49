"""Fifty steps on shares beside the same steps in float64: each layer, optimizer and loss."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.secure.parties import connection
from tfpriv.secure.protocols import running
from tfpriv.secure.training import objectives
from tfpriv.secure.training import plain as plain_training
from tfpriv.secure.training import task as training_task
from tfpriv.secure.training.shared import SharedTraining

k = tf.keras.layers
_EXAMPLES, _BATCH, _STEPS = 64, 16, 50
_SHAPE = (7, 6, 2)
_HEAD = [(k.Flatten, {}), (k.Dense, {"units": 3})]
NETWORKS = {
    "dense": [(k.Flatten, {}), (k.Dense, {"units": 8, "activation": "relu"}), _HEAD[1]],
    "convolution, same": [
        (k.Conv2D, {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}),
        *_HEAD,
    ],
    "convolutions, valid": [
        (k.Conv2D, {"filters": 2, "kernel_size": 3, "activation": "relu"}),
        (k.Conv2D, {"filters": 3, "kernel_size": 2}),
        *_HEAD,
    ],
    "pooling of halves": [(k.MaxPooling2D, {"pool_size": 2}), (k.ReLU, {}), *_HEAD],
    "pooling with rest": [
        (k.Conv2D, {"filters": 2, "kernel_size": 2}),
        (k.MaxPooling2D, {"pool_size": 3}),
        *_HEAD,
    ],
}
OPTIMIZERS = (("sgd", 0.0), ("sgd", 0.9), ("adam", None), ("amsgrad", None))
OBJECTIVES = (objectives.SOFTMAX, objectives.SIGMOID, objectives.SQUARED)
# Each network with each optimizer (one without momentum), each loss with each of both.
CELLS = [
    pytest.param(
        *(network, *optimizer, OBJECTIVES[(i + j) % 3]),
        # One for each network, with all optimizers and losses among them, is quick enough.
        marks=() if j == 1 + i % 3 else pytest.mark.slow,
    )
    for i, network in enumerate(NETWORKS)
    for j, optimizer in enumerate(OPTIMIZERS)
    if j > 0 or i == 0
]


def build(network, dtype="float32"):
    """Returns a network's model; its weights in both precisions are the same."""
    model = tf.keras.Sequential([k.InputLayer(_SHAPE, dtype=dtype)])
    for kind, settings in NETWORKS[network]:
        model.add(kind(**settings, dtype=dtype))
    generator = np.random.default_rng(3)
    drawn = [generator.normal(0, 0.3, w.shape).astype(np.float32) for w in model.weights]
    model.set_weights(drawn)
    return model


def task(objective):
    generator = np.random.default_rng(4)
    x = generator.normal(0, 1, (_EXAMPLES, *_SHAPE)).astype(np.float32)
    scores = x.reshape(_EXAMPLES, -1) @ generator.normal(0, 0.3, (np.prod(_SHAPE), 3))
    if objective == objectives.SOFTMAX:
        y = np.eye(3, dtype=np.float32)[np.argmax(scores, axis=1)]
    elif objective == objectives.SIGMOID:
        y = (scores > 0).astype(np.float32)
    else:
        y = scores.astype(np.float32)
    data = {"train_features": x, "train_labels": y, "test_features": x, "test_labels": y}
    return training_task.Task(**data, objective=objective)


def in_float64(model, made, config, batches):
    """Trains by the formulas of the papers (Kingma, Ba 2015, sec. 2; Reddi et al. 2018, alg. 2).

    Sums of gradients stand for means; what stabilizes the root is the toolkit's own.
    """
    weights = model.trainable_weights
    first = [np.zeros(w.shape) for w in weights]
    second, largest = [np.zeros(w.shape) for w in weights], [np.zeros(w.shape) for w in weights]
    for step, rows in enumerate(batches, 1):
        with tf.GradientTape() as tape:
            outputs = model(tf.cast(made.train_features[rows], tf.float64))
            labels = tf.cast(made.train_labels[rows], tf.float64)
            loss = tf.reduce_sum(plain_training.loss(made.objective, labels, outputs))
        for i, gradient in enumerate(tape.gradient(loss, weights)):
            g = gradient.numpy()
            if config.optimizer == "sgd":
                first[i] = config.momentum * first[i] + g / _BATCH
                weights[i].assign_sub(config.learning_rate * first[i])
                continue
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            largest[i] = np.maximum(largest[i], second[i])
            root = largest[i] if config.optimizer == "amsgrad" else second[i]
            unbiased = first[i] / (1 - 0.9**step)
            spread = np.sqrt((root + 0.001 * 2.0**-10) / (1 - 0.999**step))
            weights[i].assign_sub(config.learning_rate * unbiased / spread)
    return [w.numpy() for w in weights]


@pytest.mark.parametrize(("network", "optimizer", "momentum", "objective"), CELLS)
def test_fifty_steps_are_those_in_float64(network, optimizer, momentum, objective):
    diverges = optimizer == "sgd" and objective == objectives.SQUARED  # at a higher rate
    config = types.SimpleNamespace(
        optimizer=optimizer,
        learning_rate=0.002 if diverges else 0.01,
        momentum=momentum,
        batch_size=_BATCH,
    )
    generator = np.random.default_rng(5)
    batches = [generator.choice(_EXAMPLES, _BATCH, replace=False) for _ in range(_STEPS)]
    made, model = task(objective), build(network)
    initial = model.get_weights()
    with running.protocol("aby3", connection.local()) as prot:
        shared = SharedTraining(prot, made, model, config)
        for number, rows in enumerate(batches, 1):
            shared.step(rows, number, check=True)
        found, answers = shared.weights(), shared.answers(made.test_features)
    exact = build(network, "float64")
    right = in_float64(exact, made, config, batches)
    for start, mine, theirs in zip(initial, found, right, strict=True):
        way = np.linalg.norm(theirs - start)
        assert way > 0.01
        rounding = 2.0**-16 * np.sqrt(_STEPS * mine.size)  # up or down by a step of the grid
        # A number next to 0 may fall on the other side of a ReLU, and then takes another way.
        assert np.linalg.norm(mine - theirs) <= 0.03 * way + rounding
    # Those of the weights that were found: how far two ways part, the weights have shown.
    exact.set_weights(found)
    plain = exact(made.test_features.astype(np.float64)).numpy()
    assert np.max(np.abs(answers - plain)) <= 2.0**-7 * np.max(np.abs(plain))
