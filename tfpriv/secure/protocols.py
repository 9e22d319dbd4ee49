"""Protocols by name, each built anew for one computation."""

import contextlib

from tfpriv.secure import engine
from tfpriv.secure.aby3 import ABY3
from tfpriv.secure.engine import tensors, tfe
from tfpriv.secure.parties import SERVERS, Parties
from tfpriv.secure.securenn import SecureNN


@contextlib.contextmanager
def running(name: str, parties: Parties):
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
        if name == "aby3":
            protocol = ABY3(*SERVERS)
        else:
            protocol = SecureNN(fixedpoint_config=tensors.fixed64_ni)
        tfe.set_protocol(protocol)
        yield protocol
    finally:
        tfe.set_config(tfe.LocalConfig())
        # What tf-encrypted remembers of calls that it has seen, graphs included.
        tfe.protocol.protocol.nodes.clear()
