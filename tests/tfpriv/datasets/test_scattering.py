"""The scattering transform against kymatio's own."""

import numpy as np
import pytest

from tfpriv.datasets import scattering as module
from tfpriv.datasets.scattering import scattering


@pytest.mark.parametrize("sides", [(28, 28), (8, 8), (40, 24)])
def test_transform_is_kymatios(sides):
    from kymatio.numpy import Scattering2D

    images = np.random.default_rng(0).random((3, *sides, 2)).astype(np.float32)
    planes = np.moveaxis(images, 3, 1).reshape(6, *sides)
    wanted = Scattering2D(J=2, shape=sides, L=8)(planes).reshape(3, 162, *(s // 4 for s in sides))
    found = scattering(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    images = np.random.default_rng(0).random((5, 8, 8, 1)).astype(np.float32)
    whole = scattering(images)
    monkeypatch.setattr(module, "_CHUNK", 2)
    np.testing.assert_allclose(scattering(images), whole, atol=1e-6)


def test_one_image_is_transformed_as_among_others():
    images = np.random.default_rng(0).random((4, 12, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(scattering(images)[2:3], scattering(images[2:3]), atol=1e-6)


def test_constant_image_has_no_coefficients_but_its_mean():
    coefficients = scattering(np.full((1, 16, 16, 1), 0.5, np.float32))
    np.testing.assert_allclose(coefficients[0, 0], 0.5, atol=1e-4)
    np.testing.assert_allclose(coefficients[0, 1:], 0, atol=1e-5)
