"""Where TensorFlow's servers listen: at one place that we choose, and nowhere else.

They take a port and no address, and listen on every address of the machine. The library in
`native` is called when they bind, and gives them a place. What came of it is looked up in the
system's own list of sockets.

Importing this package does not load TensorFlow.
"""

import contextlib
import dataclasses
import errno
import importlib.util
import ipaddress
import os
import pathlib
import re
import socket
import tempfile
from collections.abc import Iterator

import psutil

from tfpriv.errors import UserError
from tfpriv.listening import native

# What bind.cc reads.
_PLACE = "TFPRIV_LISTEN"


def private_folder() -> pathlib.Path:
    """Makes a temporary folder that only this user can enter, for a child's socket, and returns it.

    The address of a Unix socket has 108 bytes, and LD_PRELOAD separates by spaces and colons: where
    the usual folder for temporary files does not suit them it is made in /tmp.
    """
    usual = tempfile.gettempdir()
    suits = re.fullmatch(r"[A-Za-z0-9_./-]{1,60}", usual)
    return pathlib.Path(tempfile.mkdtemp(prefix="tfpriv-worker-", dir=usual if suits else "/tmp"))


def child_environment(place: str | os.PathLike, folder: pathlib.Path) -> dict[str, str]:
    """Returns the environment variables by which a child has its servers listen at a place.

    Args:
        place: An IP address, or the path of a Unix socket, which serves instead of any port.
        folder: One made by `private_folder`, which is to last as long as the child starts.

    Raises:
        UserError: if the native library is missing or does not load.
    """
    native.load()
    library = folder / "bind.so"
    library.symlink_to(native.path())
    others = os.environ.get("LD_PRELOAD")
    return {
        "LD_PRELOAD": f"{library}:{others}" if others else str(library),
        _PLACE: os.fspath(place),
    }


def ports(pid: int | None = None) -> set[tuple[str, int]]:
    """Returns the (IP address, port) at which a process of this user listens by TCP.

    Args:
        pid: The process, which may be gone; this one when None.
    """
    try:
        return {_address(connection) for connection in _listening(pid)}
    except psutil.NoSuchProcess:
        return set()


def written(host: str, port: int) -> str:
    """Returns an address as `host:port`, an IPv6 one in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclasses.dataclass(frozen=True)
class Place:
    """An address of this machine that one server of this process is to listen at.

    Attributes:
        name: Whose it is, for messages.
        host: The IP address.
        port: The port.
    """

    name: str
    host: str
    port: int
    # Sockets that keep the port at the other addresses that the host's name means, so that nobody
    # else answers there who is taken for this server.
    _kept: tuple[socket.socket, ...] = dataclasses.field(repr=False, compare=False)

    def __str__(self):
        return written(self.host, self.port)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Has the TensorFlow server that is started in the block, on the port, listen here alone.

        TensorFlow is to be loaded. A server that listens elsewhere listens no more afterwards.

        Raises:
            UserError: if the native library is missing or has no effect.
        """
        library = native.load()
        tensorflow = importlib.util.find_spec("tensorflow")
        assert tensorflow and tensorflow.origin, "TensorFlow is to be loaded"
        folder = pathlib.Path(tensorflow.origin).parent
        calls = library.divert(f"{folder}/".encode())
        if not calls or library.listen_at(self.port, self.host.encode()):
            raise UserError(
                f"{self.name} is not started, as it would listen on every address of this machine: "
                f"the calls of bind in {folder} were not found; use the TensorFlow that "
                "requirements.lock names (`make install`)."
            )
        before = ports()
        yield
        new_ports = ports() - before
        if new_ports != {(self.host, self.port)}:
            _stop_listening(new_ports)
            listens = ", ".join(written(*port) for port in sorted(new_ports)) or "nowhere"
            raise UserError(
                f"{self.name} was to listen at {self} alone and listened at {listens}, which was "
                "ended; build the native library anew with `make install`."
            )


def at(name: str, host: str, port: int) -> Place:
    """Finds where a server that is known as host:port listens, before it is started.

    Args:
        name: Whose server it is, for messages.
        host: An IP address of this machine, or a name of it; of several addresses that it means the
            first is taken.
        port: The port, which nobody may be using.

    Raises:
        UserError: if the host is not this machine, or means all addresses, or the port is taken.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(
            f"{name} cannot listen at {written(host, port)} ({error.strerror}); write an address "
            "of this machine in the players file of every party."
        ) from error
    place = None
    kept: list[socket.socket] = []
    for family, address in dict.fromkeys((info[0], info[4][0]) for info in infos):
        if ipaddress.ip_address(address).is_unspecified:
            raise UserError(
                f"{name} has the address {written(host, port)}, which means every address of the "
                "machine; write one of them in the players file of every party."
            )
        try:
            probe = _bound(family, address, port, shared=place is None)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            raise UserError(
                f"{name} cannot listen on port {port} ({error.strerror}); end what uses it, or "
                "choose another port in the players file of every party."
            ) from error
        if place is None:
            place = _plain(address)
            probe.close()
        else:
            kept.append(probe)
    if place is None:
        raise UserError(
            f"{name} has the address {written(host, port)}, which is none of this machine, and "
            "listens nowhere else; start it where the address is, or write another one in the "
            "players file of every party."
        )
    return Place(name, place, port, tuple(kept))


def _bound(family, address, port, *, shared):
    """Returns a socket at an address; one that is shared is a trial for who listens there next."""
    probe = socket.socket(family)
    try:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            # As gRPC does: connections that were closed a moment ago do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
        if shared:
            probe.listen()
    except OSError:
        probe.close()
        raise
    return probe


def _plain(address):
    """Returns an IP address in its usual form; an IPv6 socket lists IPv4 as ::ffff:a.b.c.d."""
    parsed = ipaddress.ip_address(address)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _listening(pid=None):
    connections = psutil.Process(pid).net_connections("tcp")
    return [connection for connection in connections if connection.status == psutil.CONN_LISTEN]


def _address(connection):
    return _plain(connection.laddr.ip), connection.laddr.port


def _stop_listening(addresses):
    for connection in _listening():
        if _address(connection) in addresses:
            # A second handle: TensorFlow goes on holding, and closes, its own.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as again:
                again.shutdown(socket.SHUT_RDWR)
