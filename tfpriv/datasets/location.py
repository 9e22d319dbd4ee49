"""Location-30: which kind of person visits these places? A benchmark of membership inference."""

import io
import os

import numpy as np

from tfpriv.datasets import archives, download
from tfpriv.datasets.dataset import CLASSIFICATION, Dataset
from tfpriv.datasets.tables import split

_FILE = "dataset_location.tgz"
_MEMBER = "bangkok"
# Full commit ids only: a short one is not an address that has to last.
_COMMIT = "169de9de00de049dd2e571cf7279e64698ac046a"
COLLECTION = download.Collection(
    name="location30",
    sha256={_FILE: "927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33"},
    address=f"https://raw.githubusercontent.com/privacytrustlab/datasets/{_COMMIT}",
)


def load_location30(data_dir: str | os.PathLike | None = None) -> Dataset:
    """Loads Location-30: 4,008 training and 1,002 test persons, 446 features, 30 classes.

    A feature is 1 if the person checked in at a place or kind of place around Bangkok, else 0; a
    class is a cluster of such persons. Split 80 to 20 in the same proportions of classes, always
    the same way. Source: Shokri, Stronati, Song, Shmatikov, "Membership inference attacks against
    machine learning models", 2017 (arXiv 1610.05820, section VI), from the Foursquare check-ins of
    Yang et al.; the file is the one that privacytrustlab curates.
    """
    contents, provenance = download.fetch(COLLECTION, data_dir)
    content = io.BytesIO(archives.tar_member(contents[_FILE], _MEMBER))
    table = np.loadtxt(content, np.int8, delimiter=",", quotechar='"')
    labels = table[:, 0].astype(np.int32) - 1
    features = table[:, 1:].astype(np.float32)
    train, test = split(labels, stratify=True)
    return Dataset(
        name=COLLECTION.name,
        task=CLASSIFICATION,
        num_classes=30,
        train_features=features[train],
        train_labels=labels[train],
        test_features=features[test],
        test_labels=labels[test],
        provenance=provenance,
        preparation=(
            "the classes and the choice of places, which were found by looking at all persons "
            "before the data were published",
        ),
    )
