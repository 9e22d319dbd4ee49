"""Where the parties are: the players file, and what two of them compare before they compute.

Importing this module loads neither TensorFlow nor tf-encrypted.
"""

import ipaddress
import json
import os
import re
import socket

import tfpriv
from tfpriv.errors import UserError

SERVERS = ("server0", "server1", "server2")
CLIENT = "client"

# The name that TensorFlow's devices have for the servers.
JOB = "tfe"

# The variable, in a server's own memory, that says what it runs.
VERSION_VARIABLE = "tfpriv_version"

# As the only device filter of a session: the server that is asked answers for itself alone.
NO_OTHERS = "/job:none"

# gRPC's variable for hosts that no web proxy is asked for.
NO_PROXY = "no_grpc_proxy"

THREAT_MODEL = """\
What is assumed: the three servers follow the protocol and no two of them put what they see
together (semi-honest, not colluding). The client decides what is computed: it builds the graph that
every server runs.
What is not protected: messages travel by TensorFlow's gRPC, neither encrypted nor authenticated.
Servers and client listen at their own addresses alone, and run any graph that anybody who reaches
them there sends; every user of the same machine does, at a loopback address too."""


def read(path: str | os.PathLike) -> dict[str, str]:
    """Reads a players file: a JSON object of `"server0": "host:port"` and so on.

    Args:
        path: The file. It names the three servers, and may name `client`, the address at which the
            servers find the client; without it the client finds one by itself.

    Returns:
        The addresses by name, the servers first and in their order.

    Raises:
        UserError: The file is missing or wrong.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_pairs_hook=_without_repeats)
    except OSError as error:
        raise UserError(
            f"the players file {path} cannot be read ({error.strerror}); write it as {_EXAMPLE}."
        ) from error
    except ValueError as error:
        raise UserError(
            f"the players file {path} is not right: {error}; write it as {_EXAMPLE}."
        ) from error
    try:
        return _checked(content)
    except ValueError as error:
        raise UserError(f"the players file {path} {error}; write it as {_EXAMPLE}.") from error


_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):[0-9]{1,5}")
_EXAMPLE = '{"server0": "host:port", "server1": "host:port", "server2": "host:port"}'


def _without_repeats(pairs):
    names = [name for name, _ in pairs]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"it names {min(repeated)} twice")
    return dict(pairs)


def _checked(content):
    if not isinstance(content, dict):
        raise ValueError("holds no JSON object")
    for name in content:
        if name not in (*SERVERS, CLIENT):
            raise ValueError(
                f"names {name!r}, and the parties are {', '.join(SERVERS)} and perhaps {CLIENT}"
            )
    missing = [name for name in SERVERS if name not in content]
    if missing:
        raise ValueError(f"names no {missing[0]}")
    owners: dict[str, str] = {}
    for name, address in content.items():
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            raise ValueError(f"gives {name} the address {address!r}, which is not host:port")
        if not 0 < port_of(address) < 2**16:
            raise ValueError(f"gives {name} the port {port_of(address)}, and ports are 1 to 65535")
        other = owners.setdefault(address.lower(), name)
        if other != name:
            raise ValueError(f"gives {other} and {name} the same address {address}")
    return {name: content[name] for name in (*SERVERS, CLIENT) if name in content}


def port_of(address: str) -> int:
    """Returns the port of a `host:port`."""
    return int(address.rpartition(":")[2])


def host_of(address: str) -> str:
    """Returns the host of a `host:port`, without the brackets of IPv6."""
    return address.rpartition(":")[0].strip("[]")


def refuse_networks(addresses: dict[str, str], *, trusted_network: bool) -> None:
    """Raises UserError if an address is not loopback and the network is not said to be trusted."""
    if trusted_network:
        return
    for name, address in addresses.items():
        if not _is_loopback(host_of(address)):
            raise UserError(
                f"{name} has the address {address}, which is not loopback, and what travels is "
                "neither encrypted nor authenticated; use loopback addresses (through a tunnel, "
                "see README.md), or say --trusted_network if only the parties can reach these "
                "addresses."
            )


def _is_loopback(host):
    try:
        resolved = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False  # Nobody knows what the name will mean later.
    return all(ipaddress.ip_address(address).is_loopback for address in resolved)


def avoid_proxies(addresses: dict[str, str]) -> None:
    """Keeps gRPC, in this process, from sending what goes to these hosts through a web proxy."""
    avoided = os.environ.get(NO_PROXY) or os.environ.get("no_proxy")
    hosts = sorted(map(host_of, addresses.values()))
    os.environ[NO_PROXY] = ",".join([avoided, *hosts] if avoided else hosts)


def version() -> str:
    """Returns what must be the same at all parties; loads the native ops into TensorFlow.

    Raises:
        UserError: The native ops are missing or do not fit.
    """
    from importlib import metadata

    from tfpriv.secure import native

    # TensorFlow names the module by a hash of the ops' names, arguments, types and descriptions.
    ops = native.load().__name__[:10]
    return (
        f"tfpriv {tfpriv.__version__}, tensorflow {metadata.version('tensorflow')}, "
        f"native ops {ops}"
    )
