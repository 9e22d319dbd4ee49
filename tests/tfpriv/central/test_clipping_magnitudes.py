"""Every rule and every clip with numbers from 1e-30 to 1e30 and mixed ones, against float64."""

import itertools
import types

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.central import clipping
from tfpriv.central.layer_rules import RULES
from tfpriv.central.per_example import Part

layers = tf.keras.layers

# Layer, and the shape of one example; integers for an embedding. Without activations, so that the
# gradient of the outputs is all that their computation leaves to the rule.
LINEAR = {
    "dense": (layers.Dense, {"units": 3}, (4,)),
    "dense without bias": (layers.Dense, {"units": 3, "use_bias": False}, (4,)),
    "dense at few positions": (layers.Dense, {"units": 20}, (2, 15)),
    "dense at many positions": (layers.Dense, {"units": 3}, (12, 2)),
    "conv1d": (layers.Conv1D, {"filters": 2, "kernel_size": 3}, (6, 2)),
    "conv1d groups": (layers.Conv1D, {"filters": 4, "kernel_size": 2, "groups": 2}, (5, 4)),
    "conv2d": (layers.Conv2D, {"filters": 2, "kernel_size": 2}, (4, 3, 2)),
    "conv2d one position": (layers.Conv2D, {"filters": 20, "kernel_size": 3}, (3, 3, 12)),
    "depthwise": (layers.DepthwiseConv2D, {"kernel_size": 2}, (4, 3, 2)),
    "embedding": (layers.Embedding, {"input_dim": 5, "output_dim": 3}, 6),
}
OTHER = {
    "layer norm": (layers.LayerNormalization, {}, (6,)),
    "group norm": (layers.GroupNormalization, {"groups": 2}, (3, 4)),
    "lstm": (layers.LSTM, {"units": 3}, (4, 2)),
}
CASES = LINEAR | OTHER
SCALES = (1e-30, 1e-19, 1.0, 1e19, 1e30)
CLIPS = (1e-10, 1e-3, 1.0, 1e10)
LARGEST = float(np.finfo(np.float32).max)
TINY = 1e-37
MIXED = 12


def _scaled(generator, shape, scales):
    """One row for each scale, and some whose numbers have scales of their own."""
    plain = np.reshape(scales, [-1] + [1] * len(shape))
    mixed = 10.0 ** generator.uniform(-30, 30, (MIXED, *shape))
    rows = np.concatenate([np.broadcast_to(plain, (len(scales), *shape)), mixed])
    return (rows * generator.normal(size=rows.shape)).astype(np.float32)


class _Trial:
    """A layer, inputs and gradients of its outputs at all scales, and their gradients in float64.

    Attributes:
        weights: The layer's weights.
        inputs: [batch, ...].
        gradients: [batch, ...], of the outputs.
        wanted: Float64 gradients by weight, [batch, ...] each.
    """

    def __init__(self, name):
        kind, settings, shape = CASES[name]
        tf.keras.utils.set_random_seed(3)
        generator = np.random.default_rng(0)
        of_inputs, of_gradients = zip(*itertools.product(SCALES, SCALES), strict=True)
        if isinstance(shape, int):
            size = len(of_inputs) + MIXED
            self.inputs = generator.integers(0, 5, (size, shape)).astype(np.int32)
        else:
            self.inputs = _scaled(generator, shape, of_inputs)
        self.layer, precise = kind(**settings), kind(**settings, dtype="float64")
        outputs = self.layer(self.inputs[:1])
        wide = self.inputs
        if wide.dtype == np.float32:
            wide = wide.astype(np.float64)
        precise(wide[:1])
        precise.set_weights([w.astype(np.float64) for w in self.layer.get_weights()])
        self.weights = self.layer.trainable_weights
        self.gradients = _scaled(generator, outputs.shape[1:], of_gradients)
        rows = [
            _gradient(precise, wide[i : i + 1], self.gradients[i : i + 1].astype(np.float64))
            for i in range(len(wide))
        ]
        self.wanted = [np.stack(of) for of in zip(*rows, strict=True)]

    def roll(self, shift):
        """Has each example take the place of another."""
        self.inputs, self.gradients, *self.wanted = (
            np.roll(part, shift, axis=0) for part in (self.inputs, self.gradients, *self.wanted)
        )

    def part(self, inputs, gradients):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tap = RULES[type(self.layer)](self.layer, inputs, tape.watch)
        found = tape.gradient(tap.output, tap.watched, output_gradients=gradients)
        return Part(self.weights, tap.per_example(found))


def _gradient(layer, inputs, output_gradients):
    with tf.GradientTape() as tape:
        outputs = layer(inputs)
    found = tape.gradient(outputs, layer.trainable_weights, output_gradients=output_gradients)
    return [tf.convert_to_tensor(g).numpy() for g in found]


class _Clipped:
    """What each example adds to the clipped sum over some layers by itself."""

    def __init__(self, trials, monkeypatch, *, per_layer=False):
        self._columns = [(trial.inputs, trial.gradients) for trial in trials]

        def gradients(features, labels, present, training):
            return [trial.part(*own) for trial, own in zip(trials, features, strict=True)]

        gradients.notes, gradients.largest_batch = (), None
        monkeypatch.setattr(clipping, "PerExampleGradients", lambda *_: gradients)
        model = types.SimpleNamespace(trainable_weights=[w for t in trials for w in t.weights])
        clipped_sum = clipping.ClippedSum(model, None, None, per_layer=per_layer)

        @tf.function(autograph=False)
        def compute(columns, present, clip_norm):
            return clipped_sum(columns, None, present, clip_norm)

        self._compute = compute

    def alone(self, clip_norm):
        """Returns by example and layer the sums, float64 [batch, n] each, and the norms."""
        size = len(self._columns[0][0])
        added, norms = [], []
        for example in range(size):
            present = np.eye(size, dtype=np.float32)[example]
            sums, norm = self._compute(self._columns, present, tf.constant(clip_norm, tf.float32))
            added.append([s.numpy().astype(np.float64).ravel() for s in sums])
            norms.append(norm.numpy()[example])
        return [np.stack(of) for of in zip(*added, strict=True)], np.array(norms)


def _flat(tensors):
    return np.concatenate([t.reshape(len(t), -1) for t in tensors], axis=1)


def _size(tensors):
    return np.linalg.norm(_flat(tensors), axis=1)


@pytest.mark.parametrize("name", CASES)
def test_no_magnitude_takes_an_example_beyond_the_clip(name, monkeypatch):
    trial = _Trial(name)
    clipped = _Clipped([trial], monkeypatch)
    sizes = _size(trial.wanted)
    # Single numbers of the others are no float32, and such an example may add nothing.
    holds = np.max(np.abs(_flat(trial.wanted)), axis=1) < LARGEST / 10
    for clip_norm in CLIPS:
        added, norms = clipped.alone(clip_norm)
        assert np.all(_size(added) <= clip_norm * (1 + 1e-5))
        if name in OTHER:
            continue
        factors = clip_norm / np.maximum(sizes, clip_norm)
        errors = np.linalg.norm(_flat(added) - _flat(trial.wanted) * factors[:, None], axis=1)
        assert np.all(errors[holds] <= 1e-3 * np.minimum(sizes, clip_norm)[holds] + TINY)
        assert np.all((errors <= 1e-3 * clip_norm) | (~holds & (_size(added) == 0)))
        # The count of an adaptive clip.
        is_clear = holds & (np.abs(np.log(sizes / clip_norm)) > 1e-3)
        assert np.array_equal((norms <= clip_norm)[is_clear], (sizes <= clip_norm)[is_clear])


@pytest.mark.parametrize("per_layer", [False, True])
def test_layers_at_opposite_ends_of_the_range_share_one_clip(per_layer, monkeypatch):
    trials = [_Trial("dense"), _Trial("conv2d"), _Trial("embedding")]
    for trial, shift in zip(trials, (0, 11, 23), strict=True):  # Each example has three scales.
        trial.roll(shift)
    clipped = _Clipped(trials, monkeypatch, per_layer=per_layer)
    together = [part for trial in trials for part in trial.wanted]
    holds = np.max(np.abs(_flat(together)), axis=1) < LARGEST / 10
    for clip_norm in CLIPS:
        added, _ = clipped.alone(clip_norm)
        assert np.all(_size(added) <= clip_norm * (1 + 1e-5))
        bound, sizes = clip_norm, [_size(together)] * len(trials)
        if per_layer:
            bound = clip_norm / np.sqrt(len(trials))
            sizes = [_size(trial.wanted) for trial in trials]
        wanted = [
            part * np.reshape(bound / np.maximum(size, bound), [-1] + [1] * (part.ndim - 1))
            for trial, size in zip(trials, sizes, strict=True)
            for part in trial.wanted
        ]
        errors = np.linalg.norm(_flat(added) - _flat(wanted), axis=1)
        assert np.all(errors[holds] <= 1e-3 * _size(wanted)[holds] + TINY)
