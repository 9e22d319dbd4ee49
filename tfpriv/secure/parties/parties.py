"""Who computes: three servers that hold shares, and the client, who has inputs and gets answers."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parties:
    """The parties of a computation and the TensorFlow devices that they are.

    Attributes:
        devices: By name of the party, the device that its operations run on.
        separate: Whether each party has a device of its own, so that what travels between them can
            be read off a graph.
    """

    devices: dict[str, str]
    separate: bool
