"""What a running program of each kind listens at: in the system's own list, for all its processes.

A run of a federated program, a server, and its clients; and a program that needs no server.
"""

import contextlib
import ipaddress
import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tfpriv.secure.parties import loopback

ROOT = pathlib.Path(__file__).parents[3]


def is_loopback(address):
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def outer_addresses():
    """Returns the addresses by which others reach this machine."""
    addresses = []
    for each in itertools.chain(*psutil.net_if_addrs().values()):
        with contextlib.suppress(ValueError):  # Of a network card.
            address = ipaddress.ip_address(each.address)
            if not address.is_loopback and not address.is_link_local:
                addresses.append(each.address)
    return addresses


def answering_outside(port):
    """Returns at which outer addresses of this machine somebody answers at a port."""
    answered = []
    for address in outer_addresses():
        with contextlib.suppress(OSError):
            socket.create_connection((address, port), timeout=5).close()
            answered.append(address)
    return answered


def tree(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def listening_now(pid):
    """Returns a process and its children: (name of the program, address, port) of what listens."""
    found = set()
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in process.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN:
                    found.add((process.name(), each.laddr.ip, each.laddr.port))
    return found


class Program:
    """A program that has ended, and what was seen while it ran.

    Attributes:
        listened: (Name of the program, address, port) of what it and its children listened at.
        names: Of its processes.
        sockets: The paths of their Unix sockets, with the permissions of the folder.
    """

    def __init__(self, *arguments, output):
        self.listened, self.names, self.sockets = set(), set(), {}
        command = [sys.executable, "-m", *arguments]
        with open(output, "w+") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
            try:
                deadline = time.monotonic() + 200
                while process.poll() is None and time.monotonic() < deadline:
                    self.look(process.pid)
                    time.sleep(0.05)
            finally:
                process.kill()
                process.wait()
            assert process.returncode == 0, output.read_text()

    def look(self, pid):
        self.listened |= listening_now(pid)
        for process in tree(pid):
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                self.names.add(process.name())
                for each in process.net_connections("unix"):
                    # The loopback of asyncio and the like has no name.
                    if each.laddr.startswith("/"):
                        mode = os.stat(os.path.dirname(each.laddr)).st_mode
                        self.sockets[each.laddr] = mode & 0o777


@pytest.fixture(scope="module")
def players():
    """The players file of three running servers, and the servers by name."""
    with loopback.players() as (config, started):
        yield config, started


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    from tfpriv import models

    path = tmp_path_factory.mktemp("model") / "model.keras"
    models.save(models.build("logistic", (8, 8, 1), 10, seed=0), path)
    return path


def test_federated_run_listens_at_no_port_and_at_a_socket_of_its_user_alone(tmp_path):
    program = Program(
        *("experiments.federated", "--dataset=diabetes", "--model=mlp", "--num_clients=5"),
        *("--clients_per_round=5", "--rounds=3", f"--output_dir={tmp_path / 'run'}"),
        output=tmp_path / "log",
    )
    assert "worker_binary" in program.names
    assert program.listened == set()
    ((path, mode),) = program.sockets.items()
    assert mode == 0o700
    assert not os.path.exists(os.path.dirname(path))


def test_player_listens_at_its_address_alone_and_answers_nowhere_else(players):
    config, started = players
    for name, address in json.loads(config.read_text()).items():
        port = int(address.rpartition(":")[2])
        ((_, host, listens),) = listening_now(started[name].pid)
        assert is_loopback(host) and listens == port
        assert answering_outside(port) == []


@pytest.mark.parametrize("kind", ["inference", "training"])
def test_client_listens_on_loopback_alone(players, model_file, tmp_path, kind):
    flags = {
        "inference": (f"--model={model_file}", "--dataset=digits", "--num_examples=32"),
        "training": ("--dataset=diabetes", "--model=mlp", "--batch_size=16", "--max_steps=2"),
    }
    program = Program(
        *(f"experiments.secure_{kind}", f"--players={players[0]}", *flags[kind]),
        f"--output_dir={tmp_path / 'run'}",
        output=tmp_path / "log",
    )
    ((_, host, _),) = program.listened
    assert is_loopback(host)


def test_program_with_all_parties_in_it_listens_nowhere(model_file, tmp_path):
    program = Program(
        *("experiments.secure_inference", f"--model={model_file}", "--dataset=digits"),
        *("--num_examples=32", f"--output_dir={tmp_path / 'run'}"),
        output=tmp_path / "log",
    )
    assert program.listened == set()


def test_player_with_an_outer_address_listens_there_alone(tmp_path):
    for address in outer_addresses()[:1]:
        config = tmp_path / "players.json"
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
            port = probe.getsockname()[1]
        host = f"[{address}]" if ":" in address else address
        config.write_text(
            json.dumps({f"server{i}": f"{host}:{(port + i) % 2**16 or 1}" for i in range(3)})
        )
        player = loopback.Player("server0", config, arguments=["--trusted_network"])
        try:
            player.wait_until_ready()
            ((_, listens, at_port),) = listening_now(player.pid)
            assert listens.removeprefix("::ffff:") == address and at_port == port
            socket.create_connection((address, port), timeout=5).close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
        finally:
            player.end()
        return
    pytest.skip("this machine has no outer address")
