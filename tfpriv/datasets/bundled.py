"""Small data sets that scikit-learn carries: digits, breast_cancer and diabetes.

They need no download. Tables are standardized with the mean and standard deviation of their
training examples; these statistics come from the data without noise, and no privacy statement
covers them.
"""

import hashlib

import numpy as np

from tfpriv.datasets.dataset import CLASSIFICATION, REGRESSION, Dataset
from tfpriv.errors import UserError

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0

# Of the numbers as scikit-learn gives them, features then labels, as little-endian float64.
_SHA256 = {
    "digits": "f19a7d92591ca0a1ffc65ec172e8149afdff995e0d2c4cb0afd151f38471ff90",
    "breast_cancer": "cdd5f37c36cbdfc2e5ee074cec7540fac54340874afb25917a673e446270d0d0",
    "diabetes": "f9481a0aaf503dbf46e3faa55bb06750e7f0c645a2b348bd367fdd3f65f7cf63",
}


def load_digits(data_dir=None) -> Dataset:
    """Loads scikit-learn's digits: 1,437 training and 360 test images [8, 8, 1] in [0, 1].

    Ten classes, split 80 to 20 in the same proportions of classes, always the same way. Source:
    the test set of UCI's "Optical recognition of handwritten digits" (Alpaydin, Kaynak, 1998).
    """
    del data_dir  # It comes with scikit-learn.
    from sklearn import datasets

    features, labels = datasets.load_digits(return_X_y=True)
    provenance = _verify("digits", features, labels)
    train, test = split(labels, stratify=True)
    images = (features / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    labels = labels.astype(np.int32)
    return Dataset(
        name="digits",
        task=CLASSIFICATION,
        num_classes=10,
        train_features=images[train],
        train_labels=labels[train],
        test_features=images[test],
        test_labels=labels[test],
        provenance=provenance,
    )


def load_breast_cancer(data_dir=None) -> Dataset:
    """Loads Wisconsin diagnostic breast cancer: 455 training and 114 test patients, 30 features.

    Two classes (0 malignant, 1 benign), standardized features, split 80 to 20 in the same
    proportions of classes. Source: Street, Wolberg, Mangasarian, 1993 (UCI).
    """
    del data_dir
    from sklearn import datasets

    features, labels = datasets.load_breast_cancer(return_X_y=True)
    provenance = _verify("breast_cancer", features, labels)
    train, test = split(labels, stratify=True)
    train_features, test_features = standardize(features[train], features[test])
    labels = labels.astype(np.int32)
    return Dataset(
        name="breast_cancer",
        task=CLASSIFICATION,
        num_classes=2,
        train_features=train_features,
        train_labels=labels[train],
        test_features=test_features,
        test_labels=labels[test],
        provenance=provenance,
    )


def load_diabetes(data_dir=None) -> Dataset:
    """Loads diabetes: 353 training and 89 test patients, 10 features, regression.

    The label is a measure of the disease's progression after one year, 25 to 346, standardized;
    label_scale and label_offset undo it. Features are standardized too. Split 80 to 20. Source:
    Efron, Hastie, Johnstone, Tibshirani, "Least angle regression", 2004.
    """
    del data_dir
    from sklearn import datasets

    features, labels = datasets.load_diabetes(return_X_y=True, scaled=False)
    provenance = _verify("diabetes", features, labels)
    train, test = split(labels, stratify=False)
    train_features, test_features = standardize(features[train], features[test])
    offset, scale = float(labels[train].mean()), float(labels[train].std())
    labels = ((labels - offset) / scale).astype(np.float32)
    return Dataset(
        name="diabetes",
        task=REGRESSION,
        num_classes=1,
        train_features=train_features,
        train_labels=labels[train],
        test_features=test_features,
        test_labels=labels[test],
        label_scale=scale,
        label_offset=offset,
        provenance=provenance,
    )


def standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shifts and scales columns to mean 0 and standard deviation 1 over the training rows.

    Args:
        train: [n, columns] numbers.
        test: [m, columns] numbers, treated with the training rows' statistics.

    Returns:
        Both as float32. A column that is constant over the training rows is only shifted.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return tuple(((part - mean) / deviation).astype(np.float32) for part in (train, test))


def split(labels: np.ndarray, *, stratify: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns which examples are for training and which for testing, 80 to 20.

    Args:
        labels: [n], one an example.
        stratify: Whether both parts have the same proportions of classes.

    Returns:
        The numbers of the training and of the test examples; always the same ones.
    """
    from sklearn import model_selection

    return model_selection.train_test_split(
        np.arange(len(labels)),
        test_size=_TEST_FRACTION,
        random_state=_SPLIT_SEED,
        stratify=labels if stratify else None,
    )


def _verify(name, features, labels):
    content = b"".join(np.ascontiguousarray(part, "<f8").tobytes() for part in (features, labels))
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256[name]:
        raise UserError(
            f"scikit-learn's {name} data is altered (sha256 {found}, expected {_SHA256[name]}); "
            "install scikit-learn again."
        )
    return {f"scikit-learn {name}": {"sha256": found, "source": "package"}}
