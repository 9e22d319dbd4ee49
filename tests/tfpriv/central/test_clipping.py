"""Fast per-example clipping against a plain loop over examples."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import datasets, models
from tfpriv.central.clipping import ClippedSum
from tfpriv.central.per_example import PerExampleGradients, random_examples

OBJECTIVE = models.Objective(task="classification")
layers = tf.keras.layers


class _Residual(layers.Layer):
    """A user's own block: layers inside a layer."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(6, activation="tanh")

    def call(self, inputs):
        return inputs + self.inner(inputs)


class _Scale(layers.Layer):
    """A user's own layer with a weight that no rule knows."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale


class _Subclassed(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(5, activation="relu")
        self.out = layers.Dense(4)

    def call(self, inputs):
        return self.out(self.hidden(inputs))


def _shared():
    inputs = tf.keras.Input((6,))
    dense = layers.Dense(6, activation="tanh")
    return tf.keras.Model(inputs, layers.Dense(4)(dense(dense(inputs))))


def _branches():
    inputs = tf.keras.Input((6,))
    left, right = layers.Dense(3, activation="tanh")(inputs), layers.Dense(3)(inputs)
    return tf.keras.Model(inputs, layers.Dense(4)(layers.Concatenate()([left, right])))


def _partly_frozen():
    model = tf.keras.Sequential([layers.Dense(6), layers.Dense(5), layers.Dense(4)])
    model.build((None, 6))
    model.layers[1].trainable = False
    return model


def _by_position():
    # The dense layer within sees batch times positions as its batch.
    return tf.keras.Sequential(
        [layers.Reshape((3, 2)), layers.TimeDistributed(layers.Dense(4)), layers.Flatten()]
    )


FAST = {
    "stacked": lambda: tf.keras.Sequential([layers.Dense(5, activation="relu"), layers.Dense(4)]),
    "without bias": lambda: tf.keras.Sequential([layers.Dense(4, use_bias=False)]),
    "nested": lambda: tf.keras.Sequential(
        [tf.keras.Sequential([layers.Dense(5, activation="relu")]), layers.Dense(4)]
    ),
    "subclassed": _Subclassed,
    "branches": _branches,
    "partly frozen": _partly_frozen,
    "a layer of layers": lambda: tf.keras.Sequential([_Residual(), layers.Dense(4)]),
    "dropout": lambda: tf.keras.Sequential([layers.Dropout(0.5), layers.Dense(4)]),
    "convolutions": lambda: tf.keras.Sequential(
        [
            layers.Reshape((3, 2, 1)),
            layers.Conv2D(3, 2, padding="same", activation="relu"),
            layers.Conv2D(2, 2, strides=2, padding="same"),
            layers.Flatten(),
            layers.Dense(4),
        ]
    ),
    "grouped convolution": lambda: tf.keras.Sequential(
        [
            layers.Reshape((3, 1, 2)),
            layers.Conv2D(4, (2, 1), groups=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(4),
        ]
    ),
}
GENERAL = {
    "shared layer": (_shared, "is used more than once"),
    "own layer": (
        lambda: tf.keras.Sequential([_Scale(), layers.Dense(4)]),
        "there is no rule for layer .*_scale.*, a _Scale",
    ),
    "time distributed": (
        lambda: tf.keras.Sequential([_by_position(), layers.Dense(4)]),
        "",
    ),
}


@pytest.fixture(name="batch", scope="module")
def _batch():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(8, 6)).astype(np.float32) * np.arange(1, 9)[:, None]
    return features.astype(np.float32), generator.integers(0, 4, 8).astype(np.int32)


def _built(build, batch):
    tf.keras.utils.set_random_seed(1)
    model = build()
    model(batch[0])
    return model


def _naive(model, batch, clip_norm, present=None):
    """The clipped sum and the norms, one example at a time."""
    total = [np.zeros(v.shape) for v in model.trainable_weights]
    norms = []
    for i, (feature, label) in enumerate(zip(*batch, strict=True)):
        with tf.GradientTape() as tape:
            loss = OBJECTIVE.loss(label[np.newaxis], model(feature[np.newaxis]))
        gradients = tape.gradient(loss, model.trainable_weights, unconnected_gradients="zero")
        norm = float(tf.linalg.global_norm(gradients))
        weight = min(1.0, clip_norm / norm) * (1 if present is None else present[i])
        total = [t + weight * g.numpy() for t, g in zip(total, gradients, strict=True)]
        norms.append(norm)
    return total, np.array(norms)


def _run(clipped_sum, batch, clip_norm, present=None, training=False):
    present = np.ones(len(batch[0])) if present is None else present

    @tf.function(autograph=False)
    def compute(features, labels, present):
        return clipped_sum(features, labels, present, tf.constant(clip_norm), training)

    sums, norms = compute(*batch, np.asarray(present, np.float32))
    return [s.numpy() for s in sums], norms.numpy()


def _assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAST)
def test_fast_way_gives_what_a_loop_over_examples_gives(name, batch):
    model = _built(FAST[name], batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch)
    assert clipped_sum.notes == () and clipped_sum.largest_batch is None
    sums, norms = _run(clipped_sum, batch, 0.7)
    wanted, wanted_norms = _naive(model, batch, 0.7)
    np.testing.assert_allclose(norms, wanted_norms, rtol=1e-4)
    _assert_equal(sums, wanted)


@pytest.mark.parametrize("name", GENERAL)
def test_what_has_no_rule_goes_the_general_way_and_says_so(name, batch):
    build, reason = GENERAL[name]
    model = _built(build, batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch)
    (note,) = clipped_sum.notes
    assert "the general way" in note
    assert re.search(reason, note)
    sums, norms = _run(clipped_sum, batch, 0.7)
    wanted, wanted_norms = _naive(model, batch, 0.7)
    np.testing.assert_allclose(norms, wanted_norms, rtol=1e-4)
    _assert_equal(sums, wanted)


@pytest.mark.parametrize(
    ("build", "layer_of_weight"),
    [
        (FAST["stacked"], [0, 0, 1, 1]),
        (FAST["nested"], [0, 0, 1, 1]),
        (FAST["a layer of layers"], [0, 0, 1, 1]),
        (FAST["partly frozen"], [0, 0, 1, 1]),
        (FAST["without bias"], [0]),
        (_shared, [0, 0, 1, 1]),
        (GENERAL["own layer"][0], [0, 1, 1]),
    ],
)
@pytest.mark.parametrize("clip_norm", [0.7, 3.0, 1e6])
def test_per_layer_clips_each_layer_to_its_part(build, layer_of_weight, clip_norm, batch):
    model = _built(build, batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch, per_layer=True)
    sums, norms = _run(clipped_sum, batch, clip_norm)
    bound = clip_norm / np.sqrt(max(layer_of_weight) + 1)
    wanted = [np.zeros(v.shape) for v in model.trainable_weights]
    for i, norm in enumerate(norms):
        gradients, (whole,) = _naive(model, [part[i : i + 1] for part in batch], np.inf)
        assert norm == pytest.approx(whole, rel=1e-4)
        for layer in set(layer_of_weight):
            own = [j for j, of in enumerate(layer_of_weight) if of == layer]
            size = np.sqrt(sum(np.sum(gradients[j] ** 2) for j in own))
            for j in own:
                wanted[j] += gradients[j] * (bound / max(size, bound))
    _assert_equal(sums, wanted)


class _Tied(tf.keras.Model):
    """A dense layer whose kernel is used once more, behind a head of zeros."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(6)
        self.head = layers.Dense(4, kernel_initializer="zeros")

    def call(self, inputs):
        return self.head(tf.matmul(self.inner(inputs), self.inner.kernel))


def test_wrong_gradients_behind_a_head_of_zeros_are_found(batch):
    model = _built(_Tied, batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch)
    (note,) = clipped_sum.notes
    assert "other gradients" in note
    assert not model.head.kernel.numpy().any()
    model.head.kernel.assign(np.random.default_rng(0).normal(size=(6, 4)))
    sums, _ = _run(clipped_sum, batch, 0.7)
    _assert_equal(sums, _naive(model, batch, 0.7)[0])


def test_general_way_that_gives_other_gradients_is_not_taken(batch, monkeypatch):
    model = _built(GENERAL["own layer"][0], batch)
    vectorized = tf.vectorized_map
    monkeypatch.setattr(
        tf, "vectorized_map", lambda *of: [1.1 * g for g in vectorized(*of)], raising=True
    )
    (note,) = ClippedSum(model, OBJECTIVE, batch).notes
    assert "one example at a time" in note


def test_per_layer_lets_no_example_beyond_the_clip(batch):
    model = _built(FAST["convolutions"], batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch, per_layer=True)
    for i in range(len(batch[0])):
        sums, _ = _run(clipped_sum, tuple(part[i : i + 1] for part in batch), 0.01)
        size = np.sqrt(sum(np.sum(np.square(s, dtype=np.float64)) for s in sums))
        assert size <= 0.01 * (1 + 1e-5)


def test_no_example_counts_more_than_the_clip(batch):
    model = _built(FAST["stacked"], batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch)
    for i in range(len(batch[0])):
        one = tuple(part[i : i + 1] for part in batch)
        sums, norms = _run(clipped_sum, one, 0.01)
        assert norms[0] > 0.01
        size = np.sqrt(sum(np.sum(np.square(s, dtype=np.float64)) for s in sums))
        assert size == pytest.approx(0.01, rel=1e-5)


def test_one_example_more_moves_the_sum_by_at_most_the_clip(batch):
    model = _built(FAST["convolutions"], batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch)
    everyone, _ = _run(clipped_sum, batch, 0.5)
    for i in range(len(batch[0])):
        others, _ = _run(clipped_sum, tuple(np.delete(part, i, axis=0) for part in batch), 0.5)
        moved = sum(np.sum((a - b) ** 2) for a, b in zip(everyone, others, strict=True))
        assert np.sqrt(moved) <= 0.5 * (1 + 1e-4)


def test_padding_counts_nothing(batch):
    model = _built(FAST["convolutions"], batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch)
    present = np.array([1, 0, 1, 1, 0, 1, 0, 1], np.float32)
    sums, norms = _run(clipped_sum, batch, 0.7, present)
    wanted, _ = _naive(model, batch, 0.7, present)
    _assert_equal(sums, wanted)
    assert np.all(norms[present == 0] == 0)


def test_batch_of_padding_alone_sums_to_zero(batch):
    model = _built(FAST["stacked"], batch)
    sums, _ = _run(ClippedSum(model, OBJECTIVE, batch), batch, 0.7, np.zeros(8))
    assert all(np.all(s == 0) for s in sums)


def test_model_is_left_as_it_was(batch):
    model = _built(FAST["stacked"], batch)
    before = model(batch[0]).numpy()
    ClippedSum(model, OBJECTIVE, batch)
    assert np.array_equal(model(batch[0]).numpy(), before)
    assert all("call" not in layer.__dict__ for layer in model.layers)


def test_dropout_draws_one_mask_for_the_norm_and_the_sum(batch):
    model = _built(FAST["dropout"], batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch)
    for _ in range(20):
        sums, norms = _run(clipped_sum, tuple(p[:1] for p in batch), 0.01, training=True)
        size = np.sqrt(sum(np.sum(np.square(s)) for s in sums))
        assert size == pytest.approx(min(0.01, norms[0]), rel=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("name", ["stacked", "convolutions", "own layer", "one by one"])
@pytest.mark.parametrize("per_layer", [False, True])
def test_example_whose_gradient_is_not_finite_adds_exactly_zero(
    name, bad, per_layer, batch, monkeypatch
):
    if name == "one by one":
        monkeypatch.setattr(PerExampleGradients, "_can_be_vectorized", lambda *_: False)
        name = "own layer"
    model = _built(FAST[name] if name in FAST else GENERAL[name][0], batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch, per_layer=per_layer)
    for weight in model.trainable_weights:
        weight.assign(10 * weight)  # With which 3e38 overflows.
    features = batch[0].copy()
    features[5] = bad
    sums, norms = _run(clipped_sum, (features, batch[1]), 0.7)
    others = np.delete(np.arange(8), 5)
    wanted, _ = _run(clipped_sum, tuple(part[others] for part in batch), 0.7)
    _assert_equal(sums, wanted)
    assert np.flatnonzero(np.isnan(norms)).tolist() == [5]
    sums, _ = _run(clipped_sum, (features[5:6], batch[1][5:6]), 0.7)
    assert all(np.all(s == 0) for s in sums)


def test_padding_counts_nothing_even_where_it_is_not_finite(batch):
    model = _built(FAST["stacked"], batch)
    clipped_sum = ClippedSum(model, OBJECTIVE, batch)
    features = batch[0].copy()
    features[5:] = np.nan
    sums, norms = _run(clipped_sum, (features, batch[1]), 0.7, np.arange(8) < 5)
    wanted, _ = _run(clipped_sum, tuple(part[:5] for part in batch), 0.7)
    _assert_equal(sums, wanted)
    assert np.all(norms[5:] == 0)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("clip_norm", [1.0, 1e-3])
def test_dense_layer_at_inputs_of_1e19_stays_within_the_clip(use_bias, clip_norm):
    """The squares of gradients of 1e-20 underflow, and those of the inputs nearly overflow."""
    model = tf.keras.Sequential([layers.InputLayer((2,)), layers.Dense(3, use_bias=use_bias)])
    generator = np.random.default_rng(0)
    examples = generator.normal(size=(4, 2)).astype(np.float32), np.zeros(4, np.int32)
    clipped_sum = ClippedSum(model, OBJECTIVE, examples)
    model.layers[0].kernel.assign([[0, 0, 0], [0, -44.2, -200]])
    example = np.array([[1e19, 1.0]], np.float32), np.zeros(1, np.int32)
    sums, norms = _run(clipped_sum, example, clip_norm)
    size = np.sqrt(sum(np.sum(np.square(s, dtype=np.float64)) for s in sums))
    assert size == pytest.approx(min(clip_norm, norms[0]), rel=1e-5)
    # In float32 the first class's probability is 1, and its gradient 0.
    assert norms[0] == pytest.approx(1e19 * np.exp(-44.2), rel=1e-3)


def test_fast_way_is_checked_on_no_example_that_it_is_not_given(batch):
    """What is wrong with private examples must not show in how gradients are computed."""
    model = _built(FAST["stacked"], batch)
    dataset = datasets.Dataset(
        name="hostile", task="classification", num_classes=4,
        train_features=np.full((5, 6), np.nan, np.float32), train_labels=np.full(5, 9, np.int32),
        test_features=batch[0], test_labels=batch[1],
    )  # fmt: skip
    features, labels = random_examples(dataset)
    assert np.all(np.isfinite(features)) and features.shape[1:] == (6,)
    assert labels.dtype == tf.int32 and np.all((labels.numpy() >= 0) & (labels.numpy() < 4))
    assert ClippedSum(model, OBJECTIVE, (features, labels)).notes == ()
