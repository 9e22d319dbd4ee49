"""Tests of tfpriv.secure.player and loopback: how a server starts, refuses and ends."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tfpriv.errors import UserError
from tfpriv.secure.parties import loopback

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path):
    """A players file with ports that nobody uses."""
    path = tmp_path / "players.json"
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("", 0))
        ports = [each.getsockname()[1] for each in sockets]
    path.write_text(json.dumps({f"server{i}": f"127.0.0.1:{p}" for i, p in enumerate(ports)}))
    return path


def refusal(*flags):
    """Runs a player that is to refuse, and returns its one line."""
    ended = subprocess.run(
        [sys.executable, "-m", "tfpriv.secure.player", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2, ended
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line


def gone(pid, seconds=10.0):
    """Waits for a process to end."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    return True


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_says_the_threat_model_and_when_it_is_ready_and_ends_cleanly(config, end):
    player = loopback.Player("server1", config)
    try:
        player.wait_until_ready()
        log = player.log.read_text()
        os.kill(player.pid, end)
        assert gone(player.pid)
    finally:
        status = player.end()
    said = " ".join(log.split())
    assert "no two of them put what they see together (semi-honest, not colluding)" in said
    assert "neither encrypted nor authenticated" in said
    assert f"starting at {json.loads(config.read_text())['server1']}." in said
    assert "listen at their own addresses alone" in said
    assert "run any graph" in said
    assert status == 0
    # Nothing else is there: no warnings of TensorFlow's.
    assert len(log.splitlines()) == 8
    assert player.log.read_text() == log + f"server1 ends: {end.name}.\n"


def test_a_name_that_is_none_is_refused(config):
    assert "--name=server3 is no server; the servers are server0" in refusal(
        f"--config={config}", "--name=server3"
    )


def test_missing_flags_are_refused(config):
    assert "--config is missing" in refusal("--name=server0")
    assert "--name is missing" in refusal(f"--config={config}")
    assert "'server0' is not a flag" in refusal(f"--config={config}", "server0")


def test_wrong_file_is_refused(tmp_path):
    assert "cannot be read" in refusal(f"--config={tmp_path}/none.json", "--name=server0")


def test_port_in_use_is_refused(config):
    port = int(json.loads(config.read_text())["server0"].split(":")[1])
    with socket.socket() as taken:
        taken.bind(("", port))
        taken.listen()
        line = refusal(f"--config={config}", "--name=server0")
    assert f"server0 cannot listen on port {port} (Address already in use)" in line


@pytest.mark.parametrize("name", ["server0", "server1"])
def test_a_network_is_refused_without_trust(config, name):
    config.write_text(config.read_text().replace("127.0.0.1", "192.0.2.7", 1))
    line = refusal(f"--config={config}", f"--name={name}")
    assert "server0 has the address 192.0.2.7:" in line
    assert "--trusted_network" in line


def test_an_address_of_another_machine_is_refused_with_trust_too(config):
    config.write_text(config.read_text().replace("127.0.0.1", "198.51.100.7"))
    line = refusal(f"--config={config}", "--name=server0", "--trusted_network")
    assert "server0 has the address 198.51.100.7:" in line
    assert "is none of this machine" in line


def test_a_player_that_does_not_start_is_an_error_with_what_it_said(tmp_path):
    player = loopback.Player("server0", tmp_path / "players.json")
    with pytest.raises(UserError, match="server0 did not start; it said: error: the players file"):
        player.wait_until_ready()
    assert player.end() == 2


@pytest.mark.parametrize("end", ["pass", "raise RuntimeError", "os.kill(os.getpid(), 9)"])
def test_no_way_for_its_parent_to_end_leaves_it_behind(config, end):
    code = (
        "import os, pathlib\n"
        "from tfpriv.secure.parties.loopback import Player\n"
        f"print(Player('server0', pathlib.Path({str(config)!r})).pid, flush=True)\n"
        f"{end}"
    )
    parent = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert gone(int(parent.stdout))


def test_a_stopped_player_is_ended(config):
    player = loopback.Player("server0", config)
    time.sleep(0.5)
    os.kill(player.pid, signal.SIGSTOP)
    player.end()
    assert gone(player.pid, 0.1)


def test_it_imports_tensorflow_and_nothing_that_takes_long_beside_it():
    code = (
        "import sys\n"
        "from tfpriv.secure import player\nfrom tfpriv.secure.parties import loopback\n"
        "print({'tensorflow', 'tf_encrypted', 'grpc', 'matplotlib'} & set(sys.modules))\n"
        "from tfpriv.secure.parties import addresses\n"
        "addresses.version()\n"
        "print('tf_encrypted' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.splitlines() == ["set()", "False"], ended.stderr
