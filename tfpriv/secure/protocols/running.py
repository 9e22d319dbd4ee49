"""Protocols by name, each built anew for one computation."""

import contextlib
from collections.abc import Iterator

from tfpriv.secure.parties.addresses import SERVERS
from tfpriv.secure.parties.parties import Parties
from tfpriv.secure.protocols import engine
from tfpriv.secure.protocols.aby3 import ABY3
from tfpriv.secure.protocols.engine import tensors, tfe
from tfpriv.secure.protocols.protocol import Protocol
from tfpriv.secure.protocols.securenn import SecureNN


@contextlib.contextmanager
def protocol(name: str, parties: Parties) -> Iterator[Protocol]:
    """Builds a protocol and makes it the one that tf-encrypted's functions and layers use.

    Graphs that the protocol's tensors are in may be run inside the context only.

    Args:
        name: "aby3" or "securenn".
        parties: Who computes.

    Yields:
        The protocol.
    """
    tfe.set_config(engine.configuration(parties.devices))
    try:
        fixed64 = tensors.fixed64_ni
        made = ABY3(*SERVERS) if name == "aby3" else SecureNN(fixedpoint_config=fixed64)
        tfe.set_protocol(made)
        yield made
    finally:
        tfe.set_config(tfe.LocalConfig())
        # What tf-encrypted remembers of calls that it has seen, graphs included.
        tfe.protocol.protocol.nodes.clear()
