"""Norms and clips of numbers from 1e-30 to 1e30, alone and mixed, against float64."""

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import norms

SCALES = (1e-30, 1e-19, 1e-10, 1.0, 1e10, 1e19, 1e30)
CLIPS = (1e-10, 1e-3, 1.0, 1e3, 1e10)
SHAPES = ((7,), (), (3, 2), (1000,))
LARGEST = float(np.finfo(np.float32).max)


def _tensors(scales):
    """Tensors of normal numbers times the scales, which are a number or drawn for each."""
    generator = np.random.default_rng(1)
    drawn = {
        "mixed": lambda shape: 10.0 ** generator.uniform(-30, 30, shape),
        "one large": lambda shape: np.where(generator.random(shape) < 0.01, 1e30, 1e-30),
        "mostly zero": lambda shape: np.where(generator.random(shape) < 0.1, 1e-25, 0.0),
    }
    scale = drawn.get(scales, lambda shape: np.full(shape, scales))
    return [np.asarray(scale(shape) * generator.normal(size=shape), np.float32) for shape in SHAPES]


def _exact_norm(tensors):
    return float(np.sqrt(sum(np.sum(np.square(t.astype(np.float64))) for t in tensors)))


KINDS = (*SCALES, "mixed", "one large", "mostly zero")


@pytest.mark.parametrize("scales", KINDS)
def test_norm_is_that_of_float64(scales):
    tensors = _tensors(scales)
    found = float(norms.global_norm(tensors))
    assert found == pytest.approx(_exact_norm(tensors), rel=1e-5)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("scales", KINDS)
def test_clipped_tensors_are_float64s_and_no_longer_than_the_clip(scales, clip):
    tensors = _tensors(scales)
    exact = _exact_norm(tensors)
    clipped = [np.asarray(t) for t in norms.clip_by_global_norm(tensors, clip)]
    assert _exact_norm(clipped) <= clip * (1 + 1e-5)
    for found, tensor in zip(clipped, tensors, strict=True):
        wanted = tensor.astype(np.float64) * min(1.0, clip / exact)
        # Of a number what float32 cannot hold beside the clip may be lost.
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-37 * max(1.0, clip))


@pytest.mark.parametrize("clip", CLIPS)
def test_clip_of_many_examples_at_once_is_that_of_each(clip):
    rows = [np.stack(parts) for parts in zip(*map(_tensors, KINDS), strict=True)]
    together = tf.vectorized_map(lambda row: norms.clip_by_global_norm(row, clip), rows)
    for number, kind in enumerate(KINDS):
        for found, alone in zip(
            together, norms.clip_by_global_norm(_tensors(kind), clip), strict=True
        ):
            np.testing.assert_allclose(found[number], alone, rtol=1e-5, atol=1e-37)


def test_zeros_stay_zeros_and_a_tensor_within_the_clip_stays_to_the_last_bit():
    assert float(norms.global_norm([np.zeros(3, np.float32)])) == 0
    np.testing.assert_array_equal(norms.clip_by_global_norm([np.zeros(3, np.float32)], 1.0)[0], 0)
    tensors = _tensors(1e-10)
    for found, tensor in zip(norms.clip_by_global_norm(tensors, 1.0), tensors, strict=True):
        np.testing.assert_array_equal(found, tensor)


def test_finite_numbers_with_a_norm_beyond_float32_are_clipped():
    tensors = [np.full(100, LARGEST, np.float32)]
    assert float(norms.global_norm(tensors)) == np.inf
    np.testing.assert_allclose(norms.clip_by_global_norm(tensors, 1.0)[0], 0.1, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_number_that_is_not_finite_is_found_wherever_it_is(bad):
    tensors = _tensors(1.0)
    assert bool(norms.is_finite(tensors))
    tensors[2][1, 1] = bad
    assert not bool(norms.is_finite(tensors))
    assert not np.isfinite(norms.global_norm(tensors))
