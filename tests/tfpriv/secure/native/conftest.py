"""TensorFlow and the ops, loaded once."""

import pytest

from tfpriv import environment

environment.quiet_tensorflow()

from tfpriv.secure import native  # noqa: E402


@pytest.fixture(scope="session")
def ops():
    return native.load()
