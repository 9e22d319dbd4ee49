"""Local parties and protocols for the tests of tfpriv.secure.

Imported inside the fixtures: pytest loads this file before it configures TensorFlow (see
tests/conftest.py).
"""

import pytest


@pytest.fixture(scope="session")
def local_parties():
    from tfpriv.secure.parties import connection

    return connection.local()


@pytest.fixture
def aby3(local_parties):
    from tfpriv.secure.protocols import running

    with running.protocol("aby3", local_parties) as protocol:
        yield protocol


@pytest.fixture(params=["aby3", "securenn"])
def protocol(request, local_parties):
    from tfpriv.secure.protocols import running

    with running.protocol(request.param, local_parties) as protocol:
        yield protocol
