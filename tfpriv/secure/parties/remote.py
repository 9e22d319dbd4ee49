"""Servers that are processes of their own: reaching them, and noticing when one is gone."""

import concurrent.futures
import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Iterator

import grpc
import tensorflow as tf

from tfpriv import listening
from tfpriv.errors import UserError
from tfpriv.secure.parties import addresses
from tfpriv.secure.parties.addresses import CLIENT, SERVERS
from tfpriv.secure.parties.parties import Parties
from tfpriv.secure.parties.watch import CHANNEL_OPTIONS, Watch

ANSWER_SECONDS = 20.0
_LOOK_AGAIN_SECONDS = 5.0
_DEVICE = f"/job:{addresses.JOB}/replica:0/task:{{}}/device:CPU:0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemoteParties(Parties):
    """Servers in processes of their own, and the client in this one.

    Attributes:
        addresses: By name of the server, its host:port.
        incarnations: By name of the server, a number that another process would not have.
    """

    addresses: dict[str, str]
    incarnations: dict[str, int]


class PartyError(UserError):
    """A party cannot be reached, is gone, or is not what it should be; the message names it."""


def connect(
    path: str | os.PathLike,
    *,
    trusted_network: bool = False,
    answer_seconds: float = ANSWER_SECONDS,
) -> RemoteParties:
    """Connects this process, as the client, to three servers that run `tfpriv.secure.player`.

    To be called before this process holds tensors: TensorFlow's devices are set up anew. From then
    on this process is a TensorFlow server too, which listens at the client's address alone.

    Args:
        path: The players file.
        trusted_network: Whether addresses that are not loopback are allowed.
        answer_seconds: How long to wait for servers that are starting.

    Raises:
        UserError: The file is wrong, an address is not allowed, or the client's is none of this
            machine, is taken, or is not the only one at which this process would listen.
        PartyError: A server does not answer, is another one than the file says, or runs another
            version.
    """
    players = addresses.read(path)
    addresses.refuse_networks(players, trusted_network=trusted_network)
    addresses.avoid_proxies(players)
    client = players.pop(CLIENT, None)
    place = client and _place(client)
    version = addresses.version()
    with concurrent.futures.ThreadPoolExecutor(len(SERVERS)) as pool:
        greeted = list(pool.map(lambda name: _greet(name, players[name], answer_seconds), SERVERS))
    for name, greeting in zip(SERVERS, greeted, strict=True):
        if greeting.version != version:
            raise PartyError(
                f"{name} at {players[name]} runs another version ({greeting.version}) than this "
                f"client ({version}); install the same at all parties."
            )
    place = place or _place(_own(players))
    # The client's job is called as it was before, so that its devices keep their names.
    cluster = {
        addresses.JOB: [players[name] for name in SERVERS],
        "localhost": [client or str(place)],
    }
    parties = RemoteParties(
        devices={CLIENT: "/job:localhost/replica:0/task:0/device:CPU:0"}
        | {name: _DEVICE.format(task) for task, name in enumerate(SERVERS)},
        separate=True,
        addresses=players,
        incarnations={
            name: greeting.incarnation for name, greeting in zip(SERVERS, greeted, strict=True)
        },
    )
    with watching(parties), place.serving():
        tf.config.experimental_connect_to_cluster(tf.train.ClusterSpec(cluster))
        tf.config.list_logical_devices()  # TensorFlow, and with it this process's server, starts.
    return parties


@contextlib.contextmanager
def watching(parties: Parties) -> Iterator[None]:
    """Watches over the servers while the block computes with them; local parties need none of it.

    When a server is gone or silent, or the user presses Ctrl-C, the call in progress fails. Should
    it not even fail, the process is ended a few seconds later, with the same sentence.

    Raises:
        PartyError: A server is gone or silent; from the call that was in progress.
    """
    if not isinstance(parties, RemoteParties):
        yield
        return
    watch = Watch(parties.addresses)
    try:
        with watch:
            yield
    except Exception as error:
        # TensorFlow makes other errors out of a Ctrl-C that comes in the middle of a call.
        if watch.interrupted:
            raise KeyboardInterrupt from None
        reason = watch.reason
        if reason is None and isinstance(error, tf.errors.OpError):
            reason = _reason_of_failure(parties)
        if reason:
            raise PartyError(reason) from error
        raise


@dataclasses.dataclass(frozen=True)
class _Greeting:
    version: str
    incarnation: int


def _greet(name, address, seconds):
    """Asks the server at an address who it is and what it runs."""
    where = f"{name} at {address}"
    deadline = time.monotonic() + seconds
    with grpc.insecure_channel(address, CHANNEL_OPTIONS) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            raise PartyError(
                f"{where} does not answer (waited {seconds:g} s); start it with `python -m "
                f"tfpriv.secure.player --config=FILE --name={name}`."
            ) from None
    task = SERVERS.index(name)
    config = tf.compat.v1.ConfigProto(
        device_filters=[addresses.NO_OTHERS],
        operation_timeout_in_ms=max(1, int(1000 * (deadline - time.monotonic()))),
    )
    with tf.Graph().as_default():
        version = tf.compat.v1.get_variable(
            addresses.VERSION_VARIABLE, shape=(), dtype=tf.string, use_resource=False
        )
        while True:
            try:
                with tf.compat.v1.Session(f"grpc://{address}", config=config) as session:
                    runs = session.run(version).decode()
                    (device,) = session.list_devices()
                if device.name != _DEVICE.format(task):
                    raise PartyError(
                        f"{where} is another server, {device.name}; give all parties the same "
                        "players file."
                    )
                return _Greeting(runs, device.incarnation)
            except tf.errors.OpError as error:
                # A server listens a moment before it can say its version.
                waiting = isinstance(error, tf.errors.FailedPreconditionError)
                if waiting and time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                reason = error.message.partition("\n")[0]
                raise PartyError(
                    f"{where} is no player of tfpriv that answers ({reason}); start it with "
                    f"`python -m tfpriv.secure.player --config=FILE --name={name}`."
                ) from error


def _reason_of_failure(parties):
    """Returns what is wrong with a server after a call failed, or None if it was the call."""
    for name, address in parties.addresses.items():
        try:
            greeting = _greet(name, address, _LOOK_AGAIN_SECONDS)
        except PartyError:
            return (
                f"{name} at {address} is gone or does not answer; start it and this client again."
            )
        if greeting.incarnation != parties.incarnations[name]:
            return (
                f"{name} at {address} ended and was started again, and what it held is lost; start "
                "this client again."
            )
    return None


def _place(address):
    return listening.at(CLIENT, addresses.host_of(address), addresses.port_of(address))


def _own(servers):
    """Returns an address of this machine by which the servers can reach this process."""
    address = servers[SERVERS[0]]
    family, kind, _, _, target = socket.getaddrinfo(
        addresses.host_of(address), addresses.port_of(address), type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind) as probe:
        probe.connect(target)  # Sends nothing: it asks the routing table.
        host = probe.getsockname()[0]
    with socket.socket(family) as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    return listening.written(host, port)
