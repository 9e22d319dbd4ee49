"""Tests of tfpriv.listening. They load no TensorFlow, but in processes of their own."""

import os
import pathlib
import socket
import stat
import subprocess
import sys
import tempfile

import pytest

from tfpriv import listening
from tfpriv.errors import UserError
from tfpriv.listening import native

ROOT = pathlib.Path(__file__).parents[3]
# An address for documentation (RFC 5737), which no machine has.
NOWHERE = "198.51.100.7"
IPV6 = socket.has_dualstack_ipv6()
needs_ipv6 = pytest.mark.skipif(not IPV6, reason="no IPv6 on this machine")


def unused_port(host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


@pytest.fixture
def no_library(tmp_path, monkeypatch):
    """As if the install had not built the native library."""
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    native.load.cache_clear()
    yield
    native.load.cache_clear()


# A program that binds as gRPC does, for `sockets` in turn, and says what became of it.
BINDS = """
import os, socket, sys
def bind(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as ours:
        if family == socket.AF_INET6:
            ours.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        ours.setblocking(False)
        try:
            ours.bind((address, int(sys.argv[1])))
            if kind == socket.SOCK_STREAM:
                ours.listen()
            # Python remembers the family that it asked for.
            with socket.socket(fileno=os.dup(ours.fileno())) as found:
                said = found.getsockname()
            flags = os.get_blocking(ours.fileno()), os.get_inheritable(ours.fileno())
            print(said if isinstance(said, str) else said[0], *flags)
        except OSError as error:
            print(error.strerror)
"""


def binds(place, folder, *calls, port=None):
    """Returns what a child says that is to have its servers at a place."""
    ended = subprocess.run(
        [sys.executable, "-c", BINDS + "\n".join(calls), str(port or unused_port())],
        env=os.environ | listening.child_environment(place, folder),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0 and ended.stderr == "", ended
    return ended.stdout.splitlines()


@pytest.fixture
def folder():
    folder = listening.private_folder()
    yield folder
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()


FOUR, SIX = "bind(socket.AF_INET, '0.0.0.0')", "bind(socket.AF_INET6, '::')"


def test_child_listens_at_the_loopback_of_ipv4(folder):
    assert binds("127.0.0.1", folder, FOUR) == ["127.0.0.1 False False"]


@needs_ipv6
@pytest.mark.parametrize(
    ("place", "bound"), [("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")], ids=["v4", "v6"]
)
def test_child_that_asks_for_ipv6_listens_at_the_place(folder, place, bound):
    mapped = "bind(socket.AF_INET6, '::ffff:0.0.0.0')"
    assert binds(place, folder, SIX, mapped) == [f"{bound} False False"] * 2


def test_child_without_ipv6_cannot_listen_at_an_ipv6_place(folder):
    assert binds("::1", folder, FOUR) == ["Cannot assign requested address"]


@pytest.mark.parametrize("call", [FOUR, pytest.param(SIX, marks=needs_ipv6)], ids=["v4", "v6"])
def test_child_listens_at_a_unix_socket_that_replaces_the_port(folder, call):
    path = folder / "socket"
    assert binds(path, folder, call) == [f"{path} False False"]
    assert stat.S_ISSOCK(path.stat().st_mode)


def test_other_binds_of_a_child_are_left_alone(folder):
    datagram = "bind(socket.AF_INET, '0.0.0.0', socket.SOCK_DGRAM)"
    said = binds("127.0.0.2", folder, "bind(socket.AF_INET, '127.0.0.3')", datagram)
    assert said == ["127.0.0.3 False False", "0.0.0.0 False False"]


def test_other_preloaded_libraries_stay(folder, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "libc.so.6")
    assert listening.child_environment("::1", folder)["LD_PRELOAD"].endswith("/bind.so:libc.so.6")


def test_nobody_else_enters_the_private_folder(folder):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["with a space", "with:colon", "long" * 30])
def test_private_folder_suits_sockets_and_the_loader(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    found = listening.private_folder()
    found.rmdir()
    assert found.parent == pathlib.Path("/tmp")


def test_without_the_library_nothing_is_started(folder, no_library):
    says = r"not built \(.*bind.*\.so is missing\), and without it servers listen on every address"
    with pytest.raises(UserError, match=says):
        listening.child_environment("127.0.0.1", folder)
    with pytest.raises(UserError, match=says), listening.at("us", "127.0.0.1", 1).serving():
        raise AssertionError("started")


def test_a_library_that_does_not_load_is_refused(tmp_path, monkeypatch, no_library):
    (tmp_path / "bind.so").write_bytes(b"no library")
    monkeypatch.setattr("importlib.machinery.EXTENSION_SUFFIXES", [".so"])
    with pytest.raises(UserError, match=r"does not load \(.*make install"):
        native.load()


def test_place_is_the_address_of_the_name():
    port = unused_port()
    assert str(listening.at("us", "127.0.0.1", port)) == f"127.0.0.1:{port}"


@needs_ipv6
def test_place_may_be_of_ipv6():
    port = unused_port("::1")
    assert str(listening.at("us", "::1", port)) == f"[::1]:{port}"


@needs_ipv6
def test_others_cannot_answer_at_the_names_other_addresses(monkeypatch):
    port = unused_port()
    both = [
        (family, socket.SOCK_STREAM, 6, "", (address, port))
        for family, address in [
            (socket.AF_INET6, "2001:db8::7"),  # For documentation: not of this machine.
            (socket.AF_INET6, "::1"),
            (socket.AF_INET, "127.0.0.1"),
        ]
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    place = listening.at("us", "myself", port)
    assert place.host == "::1"
    with pytest.raises(OSError, match="in use"), socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    # Another who wants the same is refused, for the kept address too.
    both.pop(1)
    with pytest.raises(UserError, match=f"others cannot listen on port {port} "):
        listening.at("others", "myself", port)


def test_a_port_in_use_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"us cannot listen on port {port} \(Address already"):
            listening.at("us", "127.0.0.1", port)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(UserError, match=f"us has the address {NOWHERE}:7000, which is none of"):
        listening.at("us", NOWHERE, 7000)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_address_is_refused(host):
    with pytest.raises(UserError, match="means every address of the machine; write one of them"):
        listening.at("us", host, 7000)


def test_a_name_that_nobody_knows_is_refused():
    with pytest.raises(UserError, match=r"us cannot listen at nobody-knows-this.invalid:7000 \("):
        listening.at("us", "nobody-knows-this.invalid", 7000)


# Starts TensorFlow's server, with a library that is as `library` says.
SERVER = """
import socket, sys, types
from tfpriv import environment, listening
environment.quiet_tensorflow()
from tfpriv.listening import native
import tensorflow as tf
port = int(sys.argv[1])
real = native.load()
{library}
try:
    with listening.at("us", "127.0.0.1", port).serving():
        server = tf.distribute.Server({{"job": ["127.0.0.1:%d" % port]}}, job_name="job")
        print("started", flush=True)
except listening.UserError as error:
    print(error, flush=True)
print(listening.ports(), flush=True)
"""


def served(library):
    port = unused_port()
    ended = subprocess.run(
        [sys.executable, "-c", SERVER.format(library=library), str(port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended
    return port, ended.stdout.splitlines()


def test_server_of_this_process_listens_at_its_place_alone():
    port, lines = served("")
    assert lines == ["started", f"{{('127.0.0.1', {port})}}"]


def test_server_that_cannot_be_diverted_is_not_started():
    _, lines = served("native.load = lambda: types.SimpleNamespace(divert=lambda folder: 0)")
    (error, ports) = lines
    assert error.startswith("us is not started, as it would listen on every address")
    assert "make install" in error
    assert ports == "set()"


def test_server_that_listens_elsewhere_all_the_same_is_refused_and_listens_no_more():
    port, lines = served(
        "native.load = lambda: types.SimpleNamespace("
        "divert=lambda folder: 1, listen_at=lambda port, host: 0)"
    )
    started, error, ports = lines
    assert started == "started"
    assert error.startswith(f"us was to listen at 127.0.0.1:{port} alone and listened at ")
    assert f"[::]:{port}" in error or f"0.0.0.0:{port}" in error
    assert ports == "set()"
