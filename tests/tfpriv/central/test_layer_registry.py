"""TensorFlow Privacy's own models take their fast way with our registry, and get it right."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_privacy.privacy.fast_gradient_clipping import clip_grads
from tensorflow_privacy.privacy.keras_models.dp_keras_model import DPSequential

from tfpriv import models
from tfpriv.central.clipping import ClippedSum
from tfpriv.central.layer_registry import make_layer_registry

layers = tf.keras.layers
LOSS = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _layers():
    return [
        layers.InputLayer((8, 8, 1)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.GroupNormalization(2),
        layers.Flatten(),
        layers.Dense(3),
    ]


@pytest.fixture(name="batch", scope="module")
def _batch():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(6, 8, 8, 1)).astype(np.float32)
    return features, generator.integers(0, 3, 6).astype(np.int32)


def test_norms_are_those_of_our_own_clipping(batch):
    model = tf.keras.Sequential(_layers())
    model.compile(loss=LOSS)
    theirs = clip_grads.compute_gradient_norms(model, make_layer_registry(), *batch)
    ours = ClippedSum(model, models.Objective(task="classification"), batch)
    _, norms = tf.function(ours, autograph=False)(*batch, tf.ones(6), tf.constant(1.0))
    np.testing.assert_allclose(theirs, norms, rtol=1e-4)


def test_dp_sequential_takes_its_fast_way_and_a_clipped_step(batch):
    model = DPSequential(
        l2_norm_clip=1e-3,
        noise_multiplier=0.0,
        use_xla=False,
        layer_registry=make_layer_registry(),
        layers=_layers(),
    )
    assert model._enable_fast_peg_computation
    model.compile(tf.keras.optimizers.SGD(1.0), LOSS)
    before = model.get_weights()
    model.fit(*batch, batch_size=6, verbose=0)
    moved = [a - b for a, b in zip(model.get_weights(), before, strict=True)]
    assert 0 < np.sqrt(sum(np.sum(m**2) for m in moved)) <= 1e-3 * (1 + 1e-4)


def test_microbatches_are_refused(batch):
    model = tf.keras.Sequential(_layers())
    model.compile(loss=LOSS)
    with pytest.raises(NotImplementedError, match="num_microbatches is 3"):
        clip_grads.compute_gradient_norms(model, make_layer_registry(), *batch, num_microbatches=3)
