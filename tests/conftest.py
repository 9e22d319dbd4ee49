"""What several rooms' tests share."""

import pathlib
import shutil

import pytest

from tfpriv import errors
from tfpriv.datasets import download
from tfpriv.errors import UserError

# As programs do; `test_errors` and `test_library` see what callers of the library do.
errors.speak_of_flags()

_SECURE = pathlib.Path(__file__).parent / "tfpriv" / "secure"
_SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def writers_file():
    """The cached file of MNIST's writers."""
    from tfpriv.datasets import images

    return _cached_file(images.WRITERS)


@pytest.fixture(scope="session")
def location_file():
    """The cached file of Location-30."""
    from tfpriv.datasets import location

    return _cached_file(location.COLLECTION)


def _cached_file(collection):
    """Returns a collection's one file, taken from shared/data beside the checkout if there."""
    (name,) = collection.sha256
    cached, shared = download.cache_folder() / collection.name / name, _SHARED_DATA / name
    if shared.exists() and not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared, cached)
    try:
        download.fetch(collection)
    except UserError as error:
        pytest.skip(str(error))
    return cached


def pytest_configure(config):
    """Gives local parties devices of their own, if their tests are asked for.

    It must come before any test starts TensorFlow; other tests do not need to import it.
    """
    asked_for = [pathlib.Path(argument.split("::")[0]).resolve() for argument in config.args]
    if any(_SECURE.is_relative_to(path) or path.is_relative_to(_SECURE) for path in asked_for):
        from tfpriv import environment

        environment.quiet_tensorflow()

        from tfpriv.secure.parties import connection

        connection.separate_local_devices()
