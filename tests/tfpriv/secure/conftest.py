"""Local parties and protocols for the tests of tfpriv.secure."""

import pytest

from tfpriv.secure import parties, protocols


@pytest.fixture(scope="session")
def local_parties():
    return parties.local()


@pytest.fixture
def aby3(local_parties):
    with protocols.running("aby3", local_parties) as protocol:
        yield protocol


@pytest.fixture(params=["aby3", "securenn"])
def protocol(request, local_parties):
    with protocols.running(request.param, local_parties) as protocol:
        yield protocol
