"""The bound on one example's contribution, for ordinary and for hostile examples."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.layers import activation, dense
from tfpriv.secure.parties import connection
from tfpriv.secure.protocols import fixed_point, running
from tfpriv.secure.training import backpropagation, clipping, objectives

k = tf.keras.layers
BATCH = 8


def build_model(units=(6,), scale=1.0):
    model = tf.keras.Sequential(
        [k.InputLayer((5, 2)), k.Flatten()]
        + [layer for n in units for layer in (k.Dense(n), k.ReLU())]
        + [k.Dense(3)]
    )
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(0, scale, weight.shape))
    return model


def summing(prot, model, clip_norm, objective=objectives.SOFTMAX):
    """Returns a function of (x, y, taken) to the exact sums at the client."""
    network = backpropagation.network_of(model)

    def compute(x, y, taken):
        own = [fixed_point.publish(prot, w) for w in model.get_weights()]
        shared = [fixed_point.share(prot, values) for values in (x, y, taken)]
        own = backpropagation.by_layer(network, own)
        x, y, taken = shared
        sums = clipping.clipped_sums(prot, network, own, objective, x, y, taken, clip_norm)
        return [fixed_point.reveal(prot, fixed_point.raw(prot, total)) for total in sums]

    weights = model.get_weights()
    model = types.SimpleNamespace(get_weights=lambda: weights)
    traced = tf.function(compute, autograph=False)
    scale = 2.0**-32

    def call(x, y, taken):
        sums = traced(*(tf.constant(values, tf.float32) for values in (x, y, taken)))
        return [total.numpy() * scale for total in sums]

    return call


def norm(sums):
    return np.sqrt(sum(np.sum(np.square(total)) for total in sums))


def per_example(model, x, y):
    with tf.GradientTape() as tape:
        losses = tf.nn.softmax_cross_entropy_with_logits(y, model(x))
    each = tape.jacobian(losses, model.trainable_weights)
    return [[g[i].numpy() for g in each] for i in range(len(x))]


def batch(size=1.0):
    generator = np.random.default_rng(1)
    x = (size * generator.normal(0, 1, (BATCH, 5, 2))).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[generator.integers(0, 3, BATCH)]
    return x, y


def only(*rows):
    taken = np.zeros((BATCH, 1), np.float32)
    taken[list(rows)] = 1
    return taken


@pytest.fixture(name="tools", scope="module", params=[0.1, 1.0, 30.0])
def _tools(request):
    model = build_model()
    with running.protocol("aby3", connection.local()) as prot:
        yield model, request.param, summing(prot, model, request.param)


def test_sum_is_that_of_the_clipped_gradients_in_the_clear(tools):
    model, clip, sums = tools
    x, y = batch()
    expected = [np.zeros(weight.shape) for weight in model.trainable_weights]
    for own in per_example(model, x, y):
        factor = clipping.AIM * min(1, clip / norm(own))
        expected = [total + factor * g for total, g in zip(expected, own, strict=True)]
    found = sums(x, y, only(*range(BATCH)))
    for mine, right in zip(found, expected, strict=True):
        assert np.max(np.abs(mine - right)) < 0.01 * max(clip, 1)


def test_contribution_of_each_example_is_within_the_clip_and_not_far_below(tools):
    model, clip, sums = tools
    x, y = batch()
    for row, own in enumerate(per_example(model, x, y)):
        found = norm(sums(x, y, only(row)))
        assert found <= clip
        assert found == pytest.approx(clipping.AIM * min(clip, norm(own)), rel=0.02, abs=1e-3)


def test_hostile_example_stays_within_the_clip(tools):
    _, clip, sums = tools
    x, y = batch()
    hostile = [
        (np.full_like(x, 8.0), y),
        (np.full_like(x, -1000.0), y),
        (x * 300, y * 0 + 1000),
        (x, y * -1000),
        (x * 0, y),
        (x * 1e-5, y * 0),
    ]
    for features, labels in hostile:
        for row in range(0, BATCH, 3):
            assert norm(sums(features, labels, only(row))) <= clip


def test_row_that_fills_the_batch_counts_nothing(tools):
    _, _, sums = tools
    x, y = batch()
    assert norm(sums(x, y, only())) == 0
    one = sums(x, y, only(2))
    changed = x.copy()
    changed[3:] = 7
    for before, after in zip(one, sums(changed, y, only(2)), strict=True):
        assert np.max(np.abs(before - after)) < 1e-3


def test_example_whose_factor_is_wrong_counts_nothing(monkeypatch):
    """The bound does not rest on the approximate square root."""

    def wrong(prot, parts, clip_norm):
        del clip_norm
        ones = np.ones([int(n) for n in parts[0].a_squared.shape])
        return fixed_point.share(prot, tf.constant(ones))

    monkeypatch.setattr(clipping, "_factor", wrong)
    model = build_model()
    x, y = batch()
    norms = [norm(own) for own in per_example(model, x, y)]
    clip = float(np.median(norms))
    with running.protocol("aby3", connection.local()) as prot:
        sums = summing(prot, model, clip)
        found = [norm(sums(x, y, only(row))) for row in range(BATCH)]
    for own, mine in zip(norms, found, strict=True):
        if own < 0.98 * clip:
            assert mine == pytest.approx(own, rel=0.02, abs=1e-3)
        elif own > 1.02 * clip:
            assert mine == 0
    assert 0 in found and max(found) > 0


def test_clamp_holds_for_every_element_of_the_ring():
    edges = [0, 1, -1, 2**16, -(2**16), 2**16 + 1, -(2**16) - 1, 2**62, -(2**62)]
    edges += [2**63 - 1, -(2**63), 2**63 - 2**16, -(2**63) + 2**16, 2**40, -(2**40)]
    with running.protocol("aby3", connection.local()) as prot:

        def compute(elements):
            share = prot.define_private_input("client", lambda: elements, apply_scaling=False)
            clamped = clipping.clamp(prot, fixed_point.scaled(prot, share), -1.0, 1.0)
            return fixed_point.reveal(prot, clamped)

        found = tf.function(compute, autograph=False)(tf.constant(edges, tf.int64)).numpy()
    assert np.all(np.abs(found) <= 1)
    assert found[:5].tolist() == [0, 2.0**-16, -(2.0**-16), 1, -1]


def test_weights_that_could_overflow_are_refused_before_use():
    for scale, refused in ((1.0, False), (40.0, True), (np.nan, True)):
        model = build_model((6, 6))
        weights = [weight * scale / 2 for weight in model.get_weights()]
        arguments = (backpropagation.network_of(model), weights, (5, 2), 8.0, objectives.SOFTMAX)
        if refused:
            with pytest.raises(UserError):
                clipping.refuse_overflow(*arguments)
        else:
            clipping.refuse_overflow(*arguments)


class _OfTheUsersOwn(activation.TrainedReLU):
    kind = "Mine"


class _WithoutClipping(dense.TrainedDense):
    kind = "Mine"
    can_clip = False


_WithoutClipping.__module__ = dense.__name__


@pytest.mark.parametrize("layer", [_OfTheUsersOwn(), _WithoutClipping()])
def test_layer_without_clipping_that_is_proved_is_refused(layer):
    with pytest.raises(UserError, match="D has a Mine layer"):
        clipping.refuse_other_layers([layer], "D")


@pytest.fixture(name="convolutions", scope="module", params=[0.3, 30.0])
def _convolutions(request):
    model = tf.keras.Sequential(
        [
            k.InputLayer((9, 8, 2)),
            k.Conv2D(3, (3, 2), activation="relu"),
            k.MaxPooling2D(2),
            k.Conv2D(4, 2, strides=2, padding="same", activation="relu"),
            k.Flatten(),
            k.Dense(3),
        ]
    )
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(0, 0.6, weight.shape))
    with running.protocol("aby3", connection.local()) as prot:
        yield model, request.param, summing(prot, model, request.param)


class TestConvolutions:
    """Two convolutions, one strided and padded, with a maximum between them."""

    def batch(self):
        generator = np.random.default_rng(1)
        x = generator.normal(0, 1, (BATCH, 9, 8, 2)).astype(np.float32)
        return x, np.eye(3, dtype=np.float32)[generator.integers(0, 3, BATCH)]

    def test_sum_is_that_of_the_clipped_gradients_in_the_clear(self, convolutions):
        model, clip, sums = convolutions
        x, y = self.batch()
        expected = [np.zeros(weight.shape) for weight in model.trainable_weights]
        for own in per_example(model, x, y):
            factor = clipping.AIM * min(1, clip / norm(own))
            expected = [total + factor * g for total, g in zip(expected, own, strict=True)]
        found = sums(x, y, only(*range(BATCH)))
        for mine, right in zip(found, expected, strict=True):
            assert mine.shape == right.shape
            assert np.max(np.abs(mine - right)) < 0.01 * max(clip, 1)

    def test_contribution_of_each_example_is_within_the_clip_and_not_far_below(self, convolutions):
        model, clip, sums = convolutions
        x, y = self.batch()
        for row, own in enumerate(per_example(model, x, y)):
            found = norm(sums(x, y, only(row)))
            assert found <= clip
            # Each number of a convolution's gradient is rounded to 2^-12.
            assert found == pytest.approx(clipping.AIM * min(clip, norm(own)), rel=0.02, abs=5e-3)

    def test_hostile_examples_stay_within_the_clip(self, convolutions):
        _, clip, sums = convolutions
        x, y = self.batch()
        hostile = [
            (x * 8, y),
            (x * 300, y * 0 + 1000),
            (np.full_like(x, -1000.0), -y),
            (x, y * -900),
        ]
        for bad_x, bad_y in hostile:
            for row in range(BATCH):
                assert norm(sums(bad_x, bad_y, only(row))) <= clip
        assert norm(sums(x, y, only())) == 0

    def test_bounds_hold_for_what_examples_do(self, convolutions):
        """The public bounds on norms, against the largest of many random examples."""
        model, _, _ = convolutions
        network = backpropagation.network_of(model)
        found = clipping.norm_bounds(
            network, model.get_weights(), (9, 8, 2), 1.0, objectives.SOFTMAX
        )
        x = np.random.default_rng(2).choice([-1.0, 1.0], (200, 9, 8, 2)).astype(np.float32)
        y = np.eye(3, dtype=np.float32)[np.zeros(200, int)]
        largest = max(norm(own[:2]) for own in per_example(model, x, y))
        assert largest <= found.kernel_gradients
        outputs = np.linalg.norm(model(x), axis=1).max()
        assert outputs <= found.inputs
