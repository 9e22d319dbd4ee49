import dataclasses

import numpy as np
import pytest

from tfpriv import datasets
from tfpriv.datasets import location
from tfpriv.errors import UserError

_FILE = "dataset_location.tgz"
# Of the published file, classes 1 to 30.
_COUNTS = [
    169, 178, 147, 155, 97, 182, 120, 308, 145, 210, 189, 184, 141, 122, 229,
    110, 176, 128, 180, 254, 228, 117, 158, 170, 139, 139, 155, 152, 149, 179,
]  # fmt: skip


@pytest.fixture(scope="module")
def location30(location_file):
    return datasets.load("location30")


def _set_address(monkeypatch, address):
    collection = dataclasses.replace(location.COLLECTION, address=address)
    monkeypatch.setattr(location, "COLLECTION", collection)


def test_location30_is_location30(location30):
    datasets.check(location30)
    assert (location30.task, location30.num_classes) == ("classification", 30)
    assert location30.train_features.shape == (4008, 446)
    assert location30.test_features.shape == (1002, 446)
    for features in (location30.train_features, location30.test_features):
        assert features.dtype == np.float32
        assert set(np.unique(features)) == {0.0, 1.0}
    assert list(location30.provenance) == [_FILE]
    total = location30.train_features.sum(dtype=int) + location30.test_features.sum(dtype=int)
    assert total == 269047


def test_classes_found_among_all_persons_are_named(location30):
    (sentence,) = location30.preparation
    assert "classes" in sentence


def test_split_keeps_the_proportions_of_the_classes(location30):
    train, test = np.bincount(location30.train_labels), np.bincount(location30.test_labels)
    assert (train + test).tolist() == _COUNTS
    # A class's share of the test examples is rounded to a whole number.
    assert abs(test - 0.2 * (train + test)).max() < 1


def test_split_is_disjoint_and_complete(location30, location_file, monkeypatch):
    # Persons may look the same, so the rows are told apart by their number in the file.
    features = np.concatenate([location30.train_features, location30.test_features])
    labels = np.concatenate([location30.train_labels, location30.test_labels])
    rows = []
    original = location.split

    def recording(*arguments, **options):
        rows.extend(original(*arguments, **options))
        return rows

    monkeypatch.setattr(location, "split", recording)
    again = datasets.load("location30")
    order = np.concatenate(rows)
    assert sorted(order) == list(range(5010))
    np.testing.assert_array_equal(again.train_features, location30.train_features)
    np.testing.assert_array_equal(again.test_labels, location30.test_labels)
    # The file's first person: class 13, and its places begin 0, 1, 0, 1, 0.
    first = int(np.argmax(order == 0))
    assert labels[first] == 12
    assert features[first, :5].tolist() == [0, 1, 0, 1, 0]


def test_damaged_file_is_fetched_again(location_file, tmp_path, monkeypatch, caplog):
    _set_address(monkeypatch, location_file.parent.as_uri())
    cached = tmp_path / "location30" / _FILE
    cached.parent.mkdir()
    cached.write_bytes(location_file.read_bytes()[:-100])
    dataset = datasets.load("location30", tmp_path)
    assert dataset.provenance[_FILE]["source"] == "address"
    assert "altered or incomplete" in caplog.text
    assert cached.read_bytes() == location_file.read_bytes()


def test_damaged_file_that_cannot_be_fetched_again_is_refused(tmp_path, monkeypatch):
    _set_address(monkeypatch, None)
    cached = tmp_path / "location30" / _FILE
    cached.parent.mkdir()
    cached.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"location30 data could not be fetched.*--dataset=digits"):
        datasets.load("location30", tmp_path)
    assert not cached.exists()
