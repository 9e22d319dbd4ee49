"""Small data sets that scikit-learn carries: digits, breast_cancer and diabetes.

They need no download.
"""

import hashlib
import os

import numpy as np

from tfpriv.datasets import scaling as scalings
from tfpriv.datasets.dataset import CLASSIFICATION, REGRESSION, Dataset
from tfpriv.datasets.tables import split
from tfpriv.errors import UserError

# Of the numbers as scikit-learn gives them, features then labels, as little-endian float64.
_SHA256 = {
    "digits": "f19a7d92591ca0a1ffc65ec172e8149afdff995e0d2c4cb0afd151f38471ff90",
    "breast_cancer": "cdd5f37c36cbdfc2e5ee074cec7540fac54340874afb25917a673e446270d0d0",
    "diabetes": "f9481a0aaf503dbf46e3faa55bb06750e7f0c645a2b348bd367fdd3f65f7cf63",
}

# A typical value and a spread of each measure of a cell nucleus; see load_breast_cancer.
_NUCLEUS = np.array(
    [
        (15, 4),  # radius
        (20, 5),  # texture
        (95, 25),  # perimeter
        (700, 350),  # area
        (0.1, 0.02),  # smoothness
        (0.1, 0.05),  # compactness
        (0.1, 0.1),  # concavity
        (0.05, 0.05),  # concave points
        (0.2, 0.04),  # symmetry
        (0.06, 0.01),  # fractal dimension - 1
    ]
)

# A typical value and a spread of each measurement; see load_diabetes.
_PATIENT = np.array(
    [
        (50, 15),  # age
        (1.5, 0.5),  # sex
        (25, 5),  # body mass index
        (95, 15),  # mean arterial pressure
        (200, 40),  # total cholesterol
        (125, 35),  # LDL
        (50, 15),  # HDL
        (4, 1.25),  # total cholesterol / HDL
        (4.8, 0.5),  # logarithm of triglycerides
        (90, 15),  # glucose
    ]
)
_PROGRESSION = (150.0, 75.0)


def load_digits(data_dir: str | os.PathLike | None = None) -> Dataset:
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
        preparation=(),
    )


def load_breast_cancer(
    data_dir: str | os.PathLike | None = None, scaling: str = scalings.STANDARDIZED
) -> Dataset:
    """Loads Wisconsin diagnostic breast cancer: 455 training and 114 test patients, 30 features.

    Two classes (0 malignant, 1 benign), split 80 to 20 in the same proportions of classes. Source:
    Street, Wolberg, Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993
    (UCI).

    A feature is the mean, the standard error or the mean of the three largest of one measure over
    the cell nuclei of an image. The public constants of the ten measures are round numbers that
    follow from their definitions: a nucleus is some 30 points across, so its radius is 15, its
    perimeter 2 pi 15 and its area pi 15^2; compactness is 0 for a disc, 0.06 for an ellipse of 3 to
    2 and 0.19 for one of 2 to 1; texture is a deviation of 256 grey values, and
    the others are fractions of a radius or a contour. The nuclei of an image are taken to differ as
    much as the images do, and to be about 16: then the standard error is a quarter of the spread,
    and the three largest lie 1.5 spreads above.

    Args:
        data_dir: Not read; it comes with scikit-learn.
        scaling: How the features are scaled, one of tfpriv.datasets.scaling.NAMES: "public", to
            [-3, 3], or "standardized".
    """
    del data_dir
    from sklearn import datasets

    features, labels = datasets.load_breast_cancer(return_X_y=True)
    provenance = _verify("breast_cancer", features, labels)
    train, test = split(labels, stratify=True)
    train_features, test_features = scalings.scale_columns(
        features[train], features[test], _nuclei_of_an_image(), scaling
    )
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
        preparation=scalings.preparation(scaling),
    )


def _nuclei_of_an_image():
    """Returns a typical value and a spread of the mean, error and three largest, [30, 2]."""
    typical, spread = _NUCLEUS.T
    means = np.stack([typical, spread], axis=1)
    errors = np.stack([spread / 4, spread / 4], axis=1)
    largest = np.stack([typical + 1.5 * spread, 1.5 * spread], axis=1)
    return np.concatenate([means, errors, largest])


def load_diabetes(
    data_dir: str | os.PathLike | None = None, scaling: str = scalings.STANDARDIZED
) -> Dataset:
    """Loads diabetes: 353 training and 89 test patients, 10 features, regression.

    The label is a measure of the disease's progression after one year, of which label_scale and
    label_offset give the original value. Split 80 to 20. Source: Efron, Hastie, Johnstone,
    Tibshirani, "Least angle regression", 2004.

    The public constants are round numbers for adults in general: 120 over 80 is a mean arterial
    pressure of 93, a body mass index of 25 is the limit of overweight (WHO), fasting glucose is
    normal between 70 and 110 mg/dl, and cholesterol and triglycerides are about those of adults in
    the USA (Carroll et al., "Trends in serum lipids and lipoproteins of adults, 1960-2002", 2005).
    The progression has no unit, so its offset and scale follow the published range of all 442
    patients, 25 to 346.

    Args:
        data_dir: Not read; it comes with scikit-learn.
        scaling: How features and labels are scaled, one of tfpriv.datasets.scaling.NAMES:
            "public", features to [-3, 3] and labels with the offset 150 and the scale 75, or
            "standardized".
    """
    del data_dir
    from sklearn import datasets

    features, labels = datasets.load_diabetes(return_X_y=True, scaled=False)
    provenance = _verify("diabetes", features, labels)
    train, test = split(labels, stratify=False)
    train_features, test_features = scalings.scale_columns(
        features[train], features[test], _PATIENT, scaling
    )
    if scaling == scalings.PUBLIC:
        offset, scale = _PROGRESSION
    else:
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
        preparation=scalings.preparation(scaling, "columns and of the labels"),
    )


def _verify(name, features, labels):
    content = b"".join(np.ascontiguousarray(part, "<f8").tobytes() for part in (features, labels))
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256[name]:
        raise UserError(
            f"scikit-learn's {name} data is altered (sha256 {digest}, expected {_SHA256[name]}); "
            "install scikit-learn again."
        )
    return {f"scikit-learn {name}": {"sha256": digest, "source": "package"}}
