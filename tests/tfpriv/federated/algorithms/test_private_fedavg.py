"""Tests of tfpriv.federated.algorithms.private_fedavg: DP-SGD as a silo really runs it."""

import numpy as np
import pytest
from scipy import stats

from tfpriv import privacy

_RATE = 0.5
_CLIP = 0.3
_BATCH = 4


def _plan(noise_multiplier, clip_norm=_CLIP, population=12):
    return privacy.PrivacyPlan(
        unit="example",
        sampler=privacy.PoissonSampler(population=population, expected_size=_BATCH),
        mechanism=privacy.Gaussian(clip_norm=clip_norm, noise_multiplier=noise_multiplier),
        delta=1e-5,
    )


@pytest.fixture
def silo(worker, trial):
    """Makes a trial of one silo that steps at `_RATE`."""

    def make(model, noise_multiplier, weights=None, clip_norm=_CLIP):
        return trial(
            model,
            _plan(noise_multiplier, clip_norm),
            weights,
            privacy_unit="example",
            noise_multiplier=noise_multiplier,
            clip_norm=clip_norm,
            batch_size=_BATCH,
            client_learning_rate=_RATE,
        )

    return make


_FEATURES = np.array(
    [[1, 0], [0, 3], [0.1, 0.2], [-5, 1], [np.nan, 0], [np.inf, 1], [1e25, 1e25]], np.float32
)
_LABELS = np.array([0, 1, 1, 0, 1, 0, 1], np.int32)
_START = [np.array([[0.1, -0.2], [0.3, 0.4]], np.float32), np.array([0.0, 0.1], np.float32)]


@pytest.fixture(scope="module")
def logistic(local_model):
    return local_model(_FEATURES, _LABELS)[0]


def _clipped_gradient(weights, row):
    x, y = _FEATURES[row].astype(np.float64), _LABELS[row]
    logits = x @ weights[0] + weights[1]
    p = np.exp(logits) / np.exp(logits).sum()
    p[y] -= 1
    gradient = [np.outer(x, p), p]
    norm = np.sqrt(sum((g**2).sum() for g in gradient))
    return [g * min(1.0, _CLIP / norm) for g in gradient]


def test_without_noise_it_is_the_loop_over_examples_clipped_one_by_one(silo, logistic):
    batches = np.array([[0, 1, -1], [-1, -1, -1], [2, 3, 1]])
    moved = silo(logistic, 0.0, _START).round(batches)
    weights = [w.astype(np.float64) for w in _START]
    for batch in batches:
        for_example = [_clipped_gradient(weights, row) for row in batch[batch >= 0]]
        total = [sum(g) for g in zip(*for_example, strict=True)] or [0.0, 0.0]
        # Divided by the expected size of a batch, not by the size that was drawn.
        weights = [w - _RATE * t / _BATCH for w, t in zip(weights, total, strict=True)]
    for found, w, w0 in zip(moved, weights, _START, strict=True):
        np.testing.assert_allclose(found, w - w0, atol=1e-6)


@pytest.mark.parametrize("row", [0, 1, 2, 3, 6])
def test_an_example_moves_a_step_by_no_more_than_the_clip(silo, logistic, row):
    moved = silo(logistic, 0.0, _START).round([[row]])
    norm = np.sqrt(sum((m**2).sum() for m in moved))
    assert norm <= _RATE * _CLIP / _BATCH + 1e-6
    if row != 2:
        assert norm == pytest.approx(_RATE * _CLIP / _BATCH, abs=1e-6)


@pytest.mark.parametrize("row", [4, 5])
def test_an_example_whose_gradient_is_not_finite_contributes_nothing(silo, logistic, row):
    alone = silo(logistic, 0.0, _START).round([[row]])
    assert all((m == 0).all() for m in alone)
    beside = silo(logistic, 0.0, _START).round([[0, row]])
    without = silo(logistic, 0.0, _START).round([[0, -1]])
    for found, expected in zip(beside, without, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-7)


_NO_EXAMPLE = [[-1]]


def _noise(moved):
    return np.concatenate([m.ravel() for m in moved])


def test_the_noise_has_the_accounted_scale_and_no_other(silo, wide_model):
    # No example: what the silo sends is the noise of one step.
    noise = _noise(silo(wide_model, 2.0).round(_NO_EXAMPLE))
    scale = _RATE * 2.0 * _CLIP / _BATCH
    assert stats.kstest(noise / scale, "norm").pvalue > 1e-6
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(noise / (wrong * scale), "norm").pvalue < 1e-6


def test_steps_clients_rounds_and_tensors_have_noise_of_their_own(silo, wide_model):
    run = silo(wide_model, 2.0)
    scale = _RATE * 2.0 * _CLIP / _BATCH
    one_step, four_steps, two_clients = (
        _noise(run.round(*cohort))
        for cohort in ([_NO_EXAMPLE], [_NO_EXAMPLE * 4], [_NO_EXAMPLE, _NO_EXAMPLE])
    )
    # Sums of independent noise grow by the root of their number, and means fall.
    assert four_steps.std() == pytest.approx(2 * scale, rel=0.05)
    assert two_clients.std() == pytest.approx(scale / 2**0.5, rel=0.05)
    half = len(one_step) // 2
    pairs = [
        (one_step, four_steps),
        (one_step, two_clients),
        (one_step, _noise(run.round(_NO_EXAMPLE))),
        (one_step[:half], one_step[half:]),
    ]
    for first, second in pairs:
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.07


def test_a_round_without_silos_changes_nothing(silo, logistic):
    assert all((m == 0).all() for m in silo(logistic, 2.0, _START).round())
