"""What several rooms' tests share."""

import pathlib
import shutil

import pytest

from tfpriv.datasets import download
from tfpriv.errors import UserError

_WRITERS_FILE = "qmnist-train-labels-idx2-int.gz"
_SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def writers_file():
    """The cached file of MNIST's writers, taken from shared/data beside the checkout if there."""
    from tfpriv.datasets import images

    cached = download.cache_folder() / "qmnist" / _WRITERS_FILE
    shared = _SHARED_DATA / _WRITERS_FILE
    if shared.exists() and not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared, cached)
    try:
        download.fetch(images.WRITERS)
    except UserError as error:
        pytest.skip(str(error))
    return cached
