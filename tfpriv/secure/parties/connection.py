"""How a process gets the parties of a computation: within itself, or as players elsewhere."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from tfpriv.secure.parties.addresses import CLIENT, SERVERS
from tfpriv.secure.parties.parties import Parties

LOCAL = "local"


def separate_local_devices() -> None:
    """Gives each local party a logical CPU of its own; does nothing once TensorFlow has started."""
    cpus = tf.config.list_physical_devices("CPU")
    if tf.config.get_logical_device_configuration(cpus[0]):
        return
    # It raises once TensorFlow has started: the parties will share one device then.
    with contextlib.suppress(RuntimeError):
        tf.config.set_logical_device_configuration(
            cpus[0], [tf.config.LogicalDeviceConfiguration()] * (len(SERVERS) + 1)
        )


def local() -> Parties:
    """Returns four parties in this process."""
    separate_local_devices()
    names = (CLIENT, *SERVERS)
    separate = len(tf.config.list_logical_devices("CPU")) >= len(names)
    device = "/job:localhost/replica:0/task:0/device:CPU:{}"
    return Parties(
        devices={name: device.format(i if separate else 0) for i, name in enumerate(names)},
        separate=separate,
    )


@contextlib.contextmanager
def connected(players: str, *, trusted_network: bool) -> Iterator[Parties]:
    """Yields the parties that --players names, and watches over them while the block computes.

    To be entered before this process holds tensors.

    Args:
        players: "local", or a players file.
        trusted_network: Whether addresses that are not loopback are allowed.

    Raises:
        UserError: The file is wrong, or a party does not answer or is gone; it is named.
    """
    if players == LOCAL:
        yield local()
        return
    # Its gRPC is loaded for real parties only.
    from tfpriv.secure.parties import remote

    parties = remote.connect(players, trusted_network=trusted_network)
    with remote.watching(parties):
        yield parties
