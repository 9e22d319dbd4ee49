"""What is released lies on a grid whose noise pays for the rounding."""

import numpy as np
import pytest

from tfpriv import noise
from tfpriv.errors import UserError
from tfpriv.noise import native
from tfpriv.noise.discrete_gaussian import PROVED_UNIT, UNIT


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_release_is_the_rounded_sum_with_its_noise(dtype, size):
    generator = np.random.default_rng(0)
    total = (1e3 * generator.normal(size=size)).astype(dtype)
    drawn = generator.integers(-(2**30), 2**30, size)
    width = 1.7e-6
    found = noise.release(total, drawn, width)
    assert found.dtype == dtype and found.shape == (size,)
    expected = (width * (np.rint(total.astype(np.float64) * (1 / width)) + drawn)).astype(dtype)
    np.testing.assert_array_equal(found, expected)


def test_sums_that_round_alike_release_the_same_bytes():
    generator = np.random.default_rng(0)
    width = 2.0**-20
    steps = generator.integers(-1000, 1000, 5000)
    drawn = generator.integers(-(2**28), 2**28, 5000)
    one, other = (width * (steps + generator.uniform(-0.49, 0.49, 5000)) for _ in range(2))
    assert not np.any(one == other)
    released = noise.release(one, drawn, width)
    assert released.tobytes() == noise.release(other, drawn, width).tobytes()
    np.testing.assert_array_equal(released / width, steps + drawn)


def test_a_sum_in_another_order_of_memory_gets_each_number_its_noise():
    total = np.arange(6, dtype=np.float32).reshape(2, 3).T
    found = noise.release(total, np.arange(6), 1.0)
    np.testing.assert_array_equal(found, total + np.arange(6).reshape(3, 2))


@pytest.mark.parametrize("drawn", [np.zeros(3, np.int64), np.zeros(4, np.int32)])
def test_noise_of_another_size_or_type_than_the_sum_s_is_refused(drawn):
    with pytest.raises(ValueError, match="for a sum of 4 numbers"):
        noise.release(np.zeros(4), drawn, 1.0)


@pytest.mark.parametrize("noise_multiplier", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("size", [1, 1000, 10**7])
@pytest.mark.parametrize("rounding", [1.0, 30.0])
def test_noise_is_the_multiplier_of_the_clip_and_the_rounding_together(
    noise_multiplier, size, rounding
):
    if noise_multiplier * size**0.5 * rounding > 0.1 * PROVED_UNIT:
        with pytest.raises(UserError, match="too much for the grid"):
            noise.step_width(noise_multiplier, size, rounding)
        return
    width = noise.step_width(noise_multiplier, size, rounding)
    moved = 1 / width + rounding * size**0.5
    assert PROVED_UNIT / moved == pytest.approx(noise_multiplier, rel=1e-12)
    # The proof needs a variance that is less by 16, also where that is a third of the unit's.
    assert UNIT**2 / 3 - 16 >= PROVED_UNIT**2 / 3


def test_rounding_costs_a_model_of_a_million_weights_little():
    assert noise.step_width(1.0, 10**6) * UNIT == pytest.approx(1.0, rel=2e-5)


def test_a_single_number_stays_one():
    released = noise.release(np.float32(2.2), np.array([5]), 1.0)
    assert released.shape == () and released == 7


def test_library_that_is_not_built_is_missed_with_what_builds_it(monkeypatch):
    monkeypatch.setattr(native.machinery, "EXTENSION_SUFFIXES", [".unbuilt"])
    with pytest.raises(UserError, match=r"kernels\.unbuilt is missing.* with `make install`"):
        native.load.__wrapped__()
