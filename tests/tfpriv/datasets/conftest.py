import numpy as np
import pytest

from tfpriv import datasets


@pytest.fixture(scope="session")
def mnist():
    return datasets.load("mnist")


@pytest.fixture(scope="session")
def digits():
    return datasets.load("digits")


@pytest.fixture
def tiny():
    """Ten examples of two classes, the label the parity of the example's number."""
    labels = (np.arange(10) % 2).astype(np.int32)
    return datasets.Dataset(
        name="tiny",
        task="classification",
        num_classes=2,
        train_features=np.arange(10, dtype=np.float32)[:, np.newaxis],
        train_labels=labels,
        test_features=np.arange(4, dtype=np.float32)[:, np.newaxis],
        test_labels=labels[:4],
    )
