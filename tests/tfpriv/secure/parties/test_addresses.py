"""Tests of tfpriv.secure.addresses. They load no TensorFlow."""

import json
import os

import pytest

from tfpriv.errors import UserError
from tfpriv.secure.parties import addresses

RIGHT = {"server0": "localhost:1", "server1": "localhost:2", "server2": "localhost:3"}


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "players.json"
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return path

    return write


def test_servers_come_first_and_in_their_order(write):
    shuffled = {"server2": "c:3", "client": "d:4", "server0": "a:1", "server1": "[::1]:2"}
    assert list(addresses.read(write(shuffled))) == ["server0", "server1", "server2", "client"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not right: Expecting"),
        ("[]", "holds no JSON object"),
        ('{"server0": "a:1", "server0": "b:1"}', "names server0 twice"),
        ({}, "names no server0"),
        ({k: v for k, v in RIGHT.items() if k != "server1"}, "names no server1"),
        (RIGHT | {"server3": "localhost:4"}, "names 'server3', and the parties are server0"),
        (RIGHT | {"server1": 7}, "gives server1 the address 7, which is not host:port"),
        (RIGHT | {"server1": "localhost"}, "'localhost', which is not host:port"),
        (RIGHT | {"server1": ":5"}, "':5', which is not host:port"),
        (RIGHT | {"server1": "http://a:5"}, "which is not host:port"),
        (RIGHT | {"server1": "a:+5"}, "which is not host:port"),
        (RIGHT | {"server1": "a:5\n"}, "which is not host:port"),
        (RIGHT | {"server1": "a:0"}, "gives server1 the port 0"),
        (RIGHT | {"server1": "a:65536"}, "gives server1 the port 65536"),
        (RIGHT | {"server2": "LOCALHOST:2"}, "gives server1 and server2 the same address"),
        (RIGHT | {"client": "localhost:1"}, "gives server0 and client the same address"),
    ],
)
def test_wrong_file_is_refused_with_what_is_wrong_and_how_to_write_it(write, text, says):
    with pytest.raises(UserError) as error:
        addresses.read(write(text))
    assert says in str(error.value)
    assert '{"server0": "host:port"' in str(error.value)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.json cannot be read \(No such file"):
        addresses.read(tmp_path / "none.json")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "players.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not right"):
        addresses.read(path)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.3.2.1", "[::1]"])
def test_loopback_needs_no_trust(host):
    addresses.refuse_networks({"server0": f"{host}:1"}, trusted_network=False)


@pytest.mark.parametrize(
    "host", ["10.1.2.3", "0.0.0.0", "[::]", "[2001:db8::1]", "nobody-knows-this.invalid"]
)
def test_a_network_needs_trust(host):
    found = {"server0": "localhost:1", "server1": f"{host}:2"}
    with pytest.raises(UserError, match=r"server1 has the address .* neither encrypted nor"):
        addresses.refuse_networks(found, trusted_network=False)
    addresses.refuse_networks(found, trusted_network=True)


def test_proxies_that_were_avoided_before_are_avoided_still(monkeypatch):
    monkeypatch.delenv(addresses.NO_PROXY, raising=False)
    monkeypatch.setenv("no_proxy", "inside.example")
    addresses.avoid_proxies({"server0": "b:1", "server1": "[::1]:2"})
    assert os.environ[addresses.NO_PROXY] == "inside.example,::1,b"
