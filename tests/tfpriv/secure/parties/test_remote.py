"""Tests of tfpriv.secure.remote: three real servers, and what becomes of a client without one.

A process that has connected keeps its servers' devices, so each client here is a process of its
own. What fails before that is tested in this one.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tfpriv.errors import UserError
from tfpriv.secure.parties import loopback, remote
from tfpriv.secure.parties.addresses import host_of
from tfpriv.secure.parties.remote import PartyError

ROOT = pathlib.Path(__file__).parents[4]

# What every client does first. `compute` multiplies and takes a ReLU on shares of what server0
# brings in, so that the client itself has nothing to share.
CLIENT = """
import json, os, sys, time
from tfpriv import environment
environment.quiet_tensorflow()
import numpy as np
import psutil
import tensorflow as tf
from tfpriv.errors import UserError
from tfpriv.secure import native
from tfpriv.secure.parties import connection
from tfpriv.secure.protocols import running
from tfpriv.secure.parties import remote
from tfpriv.secure.parties import watch
from tfpriv.secure.protocols.engine import tfe

X = np.arange(-6, 6).reshape(3, 4) / 4
W = np.linspace(-1, 1, 8).reshape(4, 2)
RIGHT = np.maximum(X @ W, 0)

def tell(*words):
    print(*words, flush=True)

def seeds(them):
    counts = {}
    for name, device in them.devices.items():
        with tf.device(device):
            counts[name] = int(native.load().seeds_drawn())
    return counts

def computation(protocol):
    @tf.function(autograph=False)
    def compute():
        x = protocol.define_private_input("server0", lambda: tf.constant(X))
        w = protocol.define_private_input("server0", lambda: tf.constant(W))
        return protocol.relu(protocol.matmul(x, w)).reveal().to_native()
    return compute

def exact(protocol):
    # Comparisons and products of integers, which have one right result to the last bit.
    @tf.function(autograph=False)
    def compute():
        x = protocol.define_private_input("server0", lambda: tf.constant(X))
        above = protocol.relu(x)
        return (above + protocol.relu(protocol.negative(x))).reveal().to_native()
    return compute().numpy().tobytes()

def run():
    them = remote.connect(sys.argv[1], trusted_network=True)
    with remote.watching(them), running.protocol("aby3", them) as protocol:
        work(them, computation(protocol))

def main():
    try:
        run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
"""

STEPS = """
# A silent server is found sooner than the 20 s that it takes otherwise.
watch._PROBE_SECONDS = 2.0

def work(them, compute):
    while True:
        compute()
        tell("step")

main()
"""


@pytest.fixture(scope="module")
def servers():
    """The players file and the servers by name, which a test may end if it starts them again."""
    with loopback.players() as (config, started):
        folder = str(config.parent)
        started = dict(started)
        try:
            yield config, started
        finally:
            for player in started.values():
                player.end()
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if folder in str(p.info)] == []


def altered(servers, folder, **changes):
    """Writes a players file with other addresses, None for a port that nobody uses; returns it."""
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        port = unused.getsockname()[1]
    found = json.loads(servers[0].read_text())
    found |= {name: address or f"localhost:{port}" for name, address in changes.items()}
    path = folder / "players.json"
    path.write_text(json.dumps(found))
    return path, port


def start_again(servers, name):
    config, started = servers
    started[name].end()
    started[name] = loopback.Player(name, config)
    started[name].wait_until_ready()


@contextlib.contextmanager
def client(config, code, *, prefix=()):
    """A client's process, which does not outlive the block."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", CLIENT + code, str(config)],
        cwd=ROOT,
        # TensorFlow, once imported here, has set it to less.
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killer = threading.Timer(100, process.kill)
    killer.start()
    try:
        yield process
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def step(process):
    """Waits until the client has computed once more."""
    line = process.stdout.readline()
    assert line == "step\n", process.communicate()


def ending(process):
    """Waits for the client's own end: its status, what it said of errors, and how long it took."""
    start = time.monotonic()
    error = process.communicate(timeout=40)[1]
    return process.returncode, error, time.monotonic() - start


def test_result_is_the_local_one_and_each_server_draws_its_own_randomness(servers, tmp_path):
    path, port = altered(servers, tmp_path, client=None)
    code = """
def work(them, compute):
    listening = psutil.Process().net_connections("tcp")
    tell([c.laddr.port for c in listening if c.status == psutil.CONN_LISTEN])
    compute()
    before = seeds(them)
    result = compute().numpy()
    after = seeds(them)
    np.testing.assert_allclose(result, RIGHT, atol=1e-3)
    tell(json.dumps({name: after[name] - before[name] for name in before}))
    with running.protocol("aby3", them) as protocol:
        bits = exact(protocol)

    # What is wrong in the computation itself is no server's fault.
    try:
        with remote.watching(them), tf.device(them.devices["server1"]):
            tf.debugging.Assert(tf.constant(False), ["wrong"])
    except tf.errors.InvalidArgumentError as error:
        tell(type(error).__name__)

    with running.protocol("aby3", connection.local()) as protocol:
        np.testing.assert_allclose(computation(protocol)().numpy(), RIGHT, atol=1e-3)
        assert exact(protocol) == bits
    with running.protocol("securenn", connection.local()) as protocol:
        assert exact(protocol) == bits == np.abs(X).tobytes()
    tell("done")

main()
"""
    with client(path, code) as process:
        out, error = process.communicate(timeout=90)
    assert (process.returncode, error) == (0, "")
    listening, drawn, *rest = out.splitlines()
    assert listening == f"[{port}]"
    assert rest == ["InvalidArgumentError", "done"]
    drawn = json.loads(drawn)
    assert drawn.pop("client") == 0
    assert set(drawn) == {"server0", "server1", "server2"}
    assert all(count > 0 for count in drawn.values()), drawn


@pytest.mark.slow
def test_killed_client_and_ctrl_c_leave_servers_that_serve_the_next(servers):
    with client(servers[0], STEPS) as process:
        step(process)
        process.kill()
    with client(servers[0], STEPS) as process:
        step(process)
        process.send_signal(signal.SIGINT)
        status, error, seconds = ending(process)
    assert error.splitlines()[-1] == "KeyboardInterrupt"
    assert (status, seconds < 10) == (-signal.SIGINT, True), (error, seconds)


@pytest.mark.slow
def test_killed_server_ends_the_client_and_so_does_one_that_was_started_again(servers):
    config, started = servers
    with client(config, STEPS) as process:
        step(process)
        os.kill(started["server1"].pid, signal.SIGKILL)
        status, error, seconds = ending(process)
    (line,) = error.splitlines()
    assert (status, seconds < 20) == (2, True), (error, seconds)
    assert line.startswith("error: server1 at localhost:")
    start_again(servers, "server1")

    with client(config, STEPS) as process:
        step(process)
        # The client, stopped meanwhile, finds another process at the same address.
        os.kill(process.pid, signal.SIGSTOP)
        start_again(servers, "server2")
        os.kill(process.pid, signal.SIGCONT)
        status, error, seconds = ending(process)
    (line,) = error.splitlines()
    assert (status, seconds < 20) == (2, True), (error, seconds)
    assert line.startswith("error: server2 at localhost:")
    assert "was started again" in line


@pytest.mark.slow
def test_silent_server_ends_the_client_and_ctrl_c_ends_one_that_waits(servers):
    config, started = servers
    with client(config, STEPS) as process:
        step(process)
        os.kill(started["server2"].pid, signal.SIGSTOP)
        try:
            status, error, seconds = ending(process)
        finally:
            os.kill(started["server2"].pid, signal.SIGCONT)
    (line,) = error.splitlines()
    assert (status, seconds < 20) == (2, True), (error, seconds)
    assert line.startswith("error: server2 at localhost:")
    assert "has not answered" in line

    with client(config, STEPS.replace("= 2.0", "= 60.0")) as process:
        step(process)
        os.kill(started["server0"].pid, signal.SIGSTOP)
        try:
            time.sleep(1.0)
            process.send_signal(signal.SIGINT)
            status, error, seconds = ending(process)
        finally:
            os.kill(started["server0"].pid, signal.SIGCONT)
    assert error.splitlines()[-1] == "KeyboardInterrupt"
    assert (status, seconds < 10) == (-signal.SIGINT, True), (error, seconds)


def test_server_that_was_never_started_is_named(servers, tmp_path):
    path, _ = altered(servers, tmp_path, server1=None)
    with pytest.raises(PartyError, match=r"server1 at localhost:\d+ does not answer \(waited 1 s"):
        remote.connect(path, answer_seconds=1)


def test_server_that_hangs_from_the_start_is_named(servers):
    config, started = servers
    os.kill(started["server0"].pid, signal.SIGSTOP)
    try:
        with pytest.raises(PartyError, match=r"server0 at .* does not answer"):
            remote.connect(config, answer_seconds=1)
    finally:
        os.kill(started["server0"].pid, signal.SIGCONT)


def test_servers_that_were_mixed_up_are_named(servers, tmp_path):
    found = json.loads(servers[0].read_text())
    path, _ = altered(servers, tmp_path, server0=found["server2"], server2=found["server0"])
    with pytest.raises(PartyError, match=r"server0 at .* is another server, .*task:2/"):
        remote.connect(path, answer_seconds=5)


def test_another_version_is_refused_with_both_versions(servers, monkeypatch):
    ours = remote.addresses.version()
    monkeypatch.setattr(remote.addresses, "version", lambda: "tfpriv 0.0.0")
    with pytest.raises(PartyError) as error:
        remote.connect(servers[0])
    assert "server0 at localhost:" in str(error.value)
    assert f"runs another version ({ours}) than this client (tfpriv 0.0.0)" in str(error.value)


def test_what_is_no_player_is_refused(servers, tmp_path):
    from concurrent import futures

    import grpc

    other = grpc.server(futures.ThreadPoolExecutor(1))
    port = other.add_insecure_port("localhost:0")
    other.start()
    path, _ = altered(servers, tmp_path, server2=f"localhost:{port}")
    with pytest.raises(PartyError, match=r"server2 at .* is no player of tfpriv"):
        remote.connect(path, answer_seconds=5)
    other.stop(None)


def test_client_whose_port_is_taken_is_refused(servers, tmp_path):
    path, port = altered(servers, tmp_path, client=None)
    with socket.socket() as taken:
        taken.bind(("", port))
        taken.listen()
        with pytest.raises(UserError, match=f"client cannot listen on port {port}"):
            remote.connect(path)


def test_client_refuses_a_network_without_trust(tmp_path):
    path = tmp_path / "players.json"
    path.write_text(json.dumps({f"server{i}": f"192.0.2.{i}:1" for i in range(3)}))
    with pytest.raises(UserError, match=r"server0 has the address 192.0.2.0:1, .*trusted_network"):
        remote.connect(path)


@pytest.fixture
def networks():
    """Four network namespaces, by party, on a bridge in the client's; with each one's address."""
    parties = ("client", "server0", "server1", "server2")
    names = {party: f"tfpriv-{os.getpid()}-{party}" for party in parties}
    hosts = {party: f"10.213.77.{number}" for number, party in enumerate(parties, 1)}

    def ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    try:
        try:
            for party in parties:
                ip("netns", "add", names[party])
                ip("-n", names[party], "link", "set", "lo", "up")
            at_client = ("-n", names["client"])
            ip(*at_client, "link", "add", "bridge", "type", "bridge")
            ip(*at_client, "address", "add", f"{hosts['client']}/24", "dev", "bridge")
            ip(*at_client, "link", "set", "bridge", "up")
            for party in parties[1:]:
                pair = ("link", "add", party, "type", "veth", "peer", "name", "eth0")
                ip(*at_client, *pair, "netns", names[party])
                ip(*at_client, "link", "set", party, "master", "bridge", "up")
                ip("-n", names[party], "address", "add", f"{hosts[party]}/24", "dev", "eth0")
                ip("-n", names[party], "link", "set", "eth0", "up")
        except FileNotFoundError as error:
            pytest.skip(f"no network namespaces: {error}")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces: {error.stderr.strip()}")
        yield names, hosts
    finally:
        if pathlib.Path("/run/netns").is_dir():
            for name in {*names.values()} & {*os.listdir("/run/netns")}:
                subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.slow
def test_in_networks_of_their_own_each_party_talks_from_its_own_address(networks, tmp_path):
    names, hosts = networks
    inside = {party: ("ip", "netns", "exec", name) for party, name in names.items()}
    path = tmp_path / "players.json"
    path.write_text(json.dumps({p: f"{h}:7777" for p, h in hosts.items() if p != "client"}))
    code = """
def work(them, compute):
    np.testing.assert_allclose(compute().numpy(), RIGHT, atol=1e-3)
    tell("step")
    sys.stdin.readline()

main()
"""
    started = []
    try:
        for party in list(hosts)[1:]:
            started.append(
                loopback.Player(party, path, prefix=inside[party], arguments=["--trusted_network"])
            )
        for player in started:
            player.wait_until_ready()
        with client(path, code, prefix=inside["client"]) as process:
            step(process)
            seen = {party: connected(inside[party]) for party in hosts}
            status, error, _ = ending(process)
        assert (status, error) == (0, "")
    finally:
        for player in started:
            player.end()
    for party, pairs in seen.items():
        own = {here for here, _ in pairs} - {"127.0.0.1"}
        others = {there for _, there in pairs} - own - {"127.0.0.1"}
        assert own == {hosts[party]}
        assert others == set(hosts.values()) - own


def connected(inside):
    """Returns the addresses (here, there) of the connections in a network namespace."""
    listed = subprocess.run(
        [*inside, "ss", "-Htn", "state", "established"], check=True, capture_output=True, text=True
    )
    ends = [line.split()[2:4] for line in listed.stdout.splitlines()]
    return [[host_of(end).removeprefix("::ffff:") for end in pair] for pair in ends]
