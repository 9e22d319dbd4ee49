"""Features are computed by example, kept on disk, and never taken from a damaged file."""

import numpy as np
import pytest

from tfpriv import datasets
from tfpriv.datasets import features, scattering
from tfpriv.errors import UserError


@pytest.fixture(name="digits", scope="module")
def _digits():
    return datasets.load("digits")


def test_features_are_normalized_by_example_and_group(digits, tmp_path):
    found = datasets.with_features(digits, "scattering", tmp_path)
    assert found.train_features.shape == (1437, 81 * 4)
    assert found.test_features.shape == (360, 81 * 4)
    groups = found.test_features.reshape(360, 27, -1)
    maps = scattering.scattering(digits.test_features).reshape(360, 27, -1)
    mean, variance = maps.mean(axis=2, keepdims=True), maps.var(axis=2, keepdims=True)
    np.testing.assert_allclose(groups, (maps - mean) / np.sqrt(variance + 1e-5), atol=1e-3)


def test_no_features_leave_the_data_as_they_are(digits):
    assert datasets.with_features(digits, "none") is digits


def test_second_time_comes_from_the_disk(digits, tmp_path, monkeypatch):
    first = datasets.with_features(digits, "scattering", tmp_path)
    monkeypatch.setattr(features, "scattering", None)
    second = datasets.with_features(digits, "scattering", tmp_path)
    assert np.array_equal(first.train_features, second.train_features)
    assert second.train_features.dtype == np.float32


@pytest.mark.parametrize(
    "damage", [lambda b: b[:500], lambda b: b[:-4] + b"\0\1\2\3", lambda b: b""]
)
def test_damaged_file_is_made_anew(damage, digits, tmp_path, capsys):
    first = datasets.with_features(digits, "scattering", tmp_path)
    for path in (tmp_path / "features").iterdir():
        path.write_bytes(damage(path.read_bytes()))
    second = datasets.with_features(digits, "scattering", tmp_path)
    assert capsys.readouterr().err.count("is damaged") == 2
    assert np.array_equal(first.train_features, second.train_features)
    datasets.with_features(digits, "scattering", tmp_path)
    assert "damaged" not in capsys.readouterr().err


def test_folder_that_cannot_be_written_is_a_note(digits, tmp_path, capsys):
    (tmp_path / "features").write_text("a file")
    found = datasets.with_features(digits, "scattering", tmp_path)
    assert len(found.train_features) == 1437
    assert "are not kept" in capsys.readouterr().err


def test_tables_and_unknown_features_are_refused(digits):
    with pytest.raises(UserError, match="needs images"):
        datasets.with_features(datasets.load("breast_cancer"), "scattering")
    with pytest.raises(UserError, match="--features=fourier is not known"):
        datasets.with_features(digits, "fourier")
