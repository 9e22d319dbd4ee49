"""A step adds the noise that is accounted for, once, and the same sum however it is split."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfpriv import models, privacy
from tfpriv.central.clipping import ClippedSum
from tfpriv.central.step import PrivateStep

SHAPE = (30, 10)
EXPECTED_SIZE = 20
CLIP_NORM = 0.3
NOISE_MULTIPLIER = 1.7


def _examples(count):
    generator = np.random.default_rng(4)
    features = generator.normal(size=(count, *SHAPE)).astype(np.float32)
    return features, generator.integers(0, 40, count).astype(np.int32)


def _step(mechanism, first_layers=()):
    tf.keras.utils.set_random_seed(2)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(SHAPE),
            *first_layers,
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(40),
        ]
    )
    plan = privacy.PrivacyPlan(
        unit="example",
        sampler=privacy.PoissonSampler(population=1000, expected_size=EXPECTED_SIZE),
        mechanism=mechanism,
        delta=1e-5,
    )
    clipped_sum = ClippedSum(model, models.Objective(task="classification"), _examples(3))
    optimizer = tf.keras.optimizers.SGD(1.0, jit_compile=False)
    return model, PrivateStep(model, optimizer, clipped_sum, plan)


def _adaptive(noise_multiplier=NOISE_MULTIPLIER):
    return privacy.AdaptiveGaussian(
        clip_norm=CLIP_NORM,
        noise_multiplier=noise_multiplier,
        target_quantile=0.5,
        clip_learning_rate=0.2,
        count_stddev=1.0,
    )


MECHANISMS = {
    "gaussian": privacy.Gaussian(clip_norm=CLIP_NORM, noise_multiplier=NOISE_MULTIPLIER),
    "adaptive": _adaptive(),
}


def _flat(model):
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def _chunk(rows, present):
    features, labels = _examples(8)
    return features[rows], labels[rows], np.asarray(present, np.float32)


@pytest.mark.parametrize("name", MECHANISMS)
def test_empty_batch_still_gets_noise_of_the_scale_that_is_accounted_for(name):
    mechanism = MECHANISMS[name]
    model, step = _step(mechanism)
    before = _flat(model)
    step([_chunk([0, 0, 0], [0, 0, 0])])
    moved = _flat(model) - before
    multiplier = getattr(mechanism, "value_noise_multiplier", mechanism.noise_multiplier)
    scale = CLIP_NORM * multiplier / EXPECTED_SIZE
    assert stats.kstest(moved, "norm", args=(0, scale)).pvalue > 1e-4
    for factor in (2 / 3, 3 / 2):
        assert stats.kstest(moved, "norm", args=(0, factor * scale)).pvalue < 1e-12


def test_clip_scales_the_noise_as_it_moves():
    model, step = _step(_adaptive())
    step.clip_norm.assign(3.0)
    before = _flat(model)
    step([_chunk([0], [0])])
    scale = 3.0 * _adaptive().value_noise_multiplier / EXPECTED_SIZE
    assert (_flat(model) - before).std() == pytest.approx(scale, rel=0.05)


def test_split_step_ends_where_the_whole_one_does():
    ends = []
    for chunks in (
        [_chunk(range(8), np.ones(8))],
        [
            _chunk([0, 1, 2], [1, 1, 1]),
            _chunk([3, 4, 4, 4], [1, 1, 0, 0]),
            _chunk([5, 6, 7], [1] * 3),
        ],
    ):
        mechanism = privacy.Gaussian(clip_norm=CLIP_NORM, noise_multiplier=0.0)
        model, step = _step(mechanism)
        step(chunks)
        ends.append(_flat(model))
    np.testing.assert_allclose(*ends, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("clip_norm", "rises"), [(1e-3, True), (1e3, False)])
def test_clip_moves_towards_the_quantile(clip_norm, rises):
    _, step = _step(_adaptive(0.0))
    step.clip_norm.assign(clip_norm)
    step([_chunk(range(8), np.ones(8))])
    assert (float(step.clip_norm) > clip_norm) == rises


def test_count_of_unclipped_examples_moves_the_clip_as_published():
    """Andrew et al. 2021, section 3: exp(-rate (share - quantile)), over the expected number."""
    _, step = _step(_adaptive(0.0))
    step.clip_norm.assign(1e3)
    step([_chunk(range(8), np.ones(8))])
    # All 8 are within the clip: a half each above the middle, over the expected 20.
    share = 0.5 + 8 * 0.5 / EXPECTED_SIZE
    assert float(step.clip_norm) == pytest.approx(1e3 * np.exp(-0.2 * (share - 0.5)), rel=1e-5)


def test_noise_of_the_count_has_the_scale_that_is_accounted_for():
    _, step = _step(_adaptive())
    moves = []
    for _ in range(1000):  # With 400 the rejections below fail every few runs.
        step.clip_norm.assign(1.0)
        step([_chunk([0], [0])])
        moves.append(np.log(float(step.clip_norm)))
    scale = 0.2 * 1.0 / EXPECTED_SIZE
    assert stats.kstest(moves, "norm", args=(0, scale)).pvalue > 1e-4
    for factor in (2 / 3, 3 / 2):
        assert stats.kstest(moves, "norm", args=(0, factor * scale)).pvalue < 1e-3


class _Picky(tf.keras.layers.Layer):
    """Fails on an example whose first number is above 50, and on zeros as padding has them."""

    def call(self, inputs):
        first = inputs[:, 0, 0]
        # Late, and of no output: only the order of whole calls keeps what follows from starting.
        late = inputs
        for _ in range(20):
            late = tf.tanh(tf.linalg.matmul(tf.linalg.matmul(late, inputs, transpose_b=True), late))
        tf.debugging.assert_less(first + 0.0 * tf.reduce_max(late), 50.0)
        tf.debugging.assert_none_equal(first, 0.0)
        return inputs


def _flawed(features, labels, flaws):
    """Examples that break in several ways, and those that do not, in one batch."""
    features = features.copy()
    for row, flaw in flaws.items():
        features[row, 0, 0] = flaw
    return features, labels


@pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS)
@pytest.mark.parametrize(
    "flaws",
    [
        {0: 99.0},
        {2: np.nan},
        {7: np.inf},
        {1: 99.0, 3: np.nan, 4: 60.0},
        dict.fromkeys(range(8), 99.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("width", [8, 11])
def test_step_goes_on_as_if_examples_that_fail_were_not_there(mechanism, flaws, width, monkeypatch):
    good = [row for row in range(8) if row not in flaws]
    ends = []
    for rows in (range(8), good):
        model, step = _step(mechanism, [_Picky()])
        draws = []

        def fixed(size=1201, draws=draws):
            draws.append(size)
            return tf.zeros([size])

        monkeypatch.setattr(step._noise, "next", lambda scale: fixed() * scale)
        rows = list(rows)
        features, labels = _flawed(*_examples(8), flaws)
        chunk = tuple(
            np.concatenate([part[rows], np.zeros((width - len(rows), *part.shape[1:]), part.dtype)])
            for part in (features, labels, np.ones(8, np.float32))
        )
        step([chunk])
        ends.append(np.append(_flat(model), step.clip_norm.numpy()))
    np.testing.assert_allclose(*ends, rtol=1e-5, atol=1e-6)
    assert np.all(np.isfinite(ends[0]))


def test_neither_noise_nor_weights_move_before_the_sum_is_there():
    model, step = _step(MECHANISMS["gaussian"], [_Picky()])
    drawn = []
    real = step._noise._uniform
    step._noise._uniform = lambda: drawn.append(1) or real()
    features, labels = _flawed(*_examples(8), {5: 99.0})
    before = _flat(model)
    for _ in range(20):
        with pytest.raises(tf.errors.InvalidArgumentError):
            step._whole(features, labels, np.ones(8, np.float32))
    assert np.array_equal(_flat(model), before) and not drawn
    step([(features, labels, np.ones(8, np.float32))])
    assert not np.array_equal(_flat(model), before) and len(drawn) == 1


def test_release_that_fails_is_not_taken_for_an_example_that_does(monkeypatch):
    _, step = _step(MECHANISMS["gaussian"])

    def fail():
        raise RuntimeError("no noise")

    monkeypatch.setattr(step._noise, "_uniform", fail)
    with pytest.raises(tf.errors.OpError, match="no noise"):
        step([_chunk(range(8), np.ones(8))])
