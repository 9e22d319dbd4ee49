"""Principal components are those of the examples, behind the noise that is accounted for."""

import numpy as np
import pytest
from scipy import stats

from tfpriv import noise, privacy
from tfpriv.central import pca


def _examples(count=500, shape=(4, 3)):
    generator = np.random.default_rng(0)
    scales = 1.5 ** -np.arange(np.prod(shape))
    rows = generator.normal(size=(count, len(scales))) * scales
    return rows.reshape(count, *shape).astype(np.float32)


def _unit(features):
    rows = features.reshape(len(features), -1).astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("noise_multiplier", [0.0, 1e-5])
def test_components_are_numpys_of_the_matrix_without_noise(noise_multiplier):
    features = _examples()
    found = pca.private_components(features, 5, noise_multiplier)
    assert found.shape == (12, 5) and found.dtype == np.float32
    _, _, expected = np.linalg.svd(_unit(features))
    np.testing.assert_allclose(np.abs(np.sum(found * expected[:5].T, axis=0)), 1, atol=1e-5)
    np.testing.assert_allclose(found.T @ found, np.eye(5), atol=1e-5)


def test_each_example_weighs_the_same_and_zeros_nothing():
    features = _examples(7000)
    features[::2] *= 1e-20
    features[5] = 3e38
    moments = pca.second_moments(features)
    np.testing.assert_allclose(np.trace(moments), 7000)
    np.testing.assert_allclose(moments, _unit(features).T @ _unit(features))
    features[5] = 0
    np.testing.assert_allclose(np.trace(pca.second_moments(features)), 6999)
    assert np.isfinite(pca.private_components(np.zeros_like(features), 3, 1.0)).all()


@pytest.mark.parametrize("values", [[3e38] + [0] * 11, [1e-30] * 12, [1.0, -1.0] * 6])
def test_one_example_moves_the_upper_triangle_by_at_most_one(values):
    features = _examples(50)
    more = np.concatenate([features, np.float32(values).reshape(1, 4, 3)])
    zeroed = more * np.float32(np.arange(51) < 50)[:, None, None]
    for other in (features, zeroed):
        moved = np.triu(pca.second_moments(more) - pca.second_moments(other))
        assert np.linalg.norm(moved) <= 1 + 1e-12


def _noised_matrix(monkeypatch, features, noise_multiplier):
    """Returns the matrix that eigenvectors are taken of."""
    seen = []
    eigh = np.linalg.eigh

    def spy(matrix):
        seen.append(matrix)
        return eigh(matrix)

    with monkeypatch.context() as patch:
        patch.setattr(np.linalg, "eigh", spy)
        pca.private_components(features, 5, noise_multiplier)
    return seen[0]


def test_noise_is_symmetric_normal_and_never_the_same(monkeypatch):
    features = np.zeros([5, 300], np.float32)
    first, second = (_noised_matrix(monkeypatch, features, 1.0) for _ in range(2))
    np.testing.assert_array_equal(first, first.T)
    upper = first[np.triu_indices(300)]
    assert len(np.unique(upper)) > 0.99 * len(upper)
    assert stats.kstest(upper, "norm").pvalue > 1e-4
    assert stats.kstest(np.diag(first), "norm").pvalue > 1e-4
    assert not np.any(first == second)


def test_noised_matrix_lies_on_the_grid_whatever_the_low_bits_of_the_moments(monkeypatch):
    matrix = _noised_matrix(monkeypatch, _examples(), 3.0)
    steps = matrix / noise.step_width(3.0, 78)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-5)


def test_noise_has_the_scale_that_is_accounted_for(monkeypatch):
    """The matrix that eigenvectors are taken of lies a noise of the multiplier off."""
    features = _examples(100, (20, 20))
    matrix = _noised_matrix(monkeypatch, features, 7.0)
    np.testing.assert_array_equal(matrix, matrix.T)
    added = (matrix - pca.second_moments(features))[np.triu_indices(400)]
    assert stats.kstest(added / 7.0, "norm").pvalue > 1e-4
    plan = privacy.PrivacyPlan(
        unit="example",
        sampler=privacy.build_sampler("poisson", 100, 10),
        mechanism=privacy.Gaussian(clip_norm=1.0, noise_multiplier=1.0),
        delta=1e-5,
        release_noise_multiplier=7.0,
    )
    assert plan.event([]).event.noise_multiplier == 7.0
