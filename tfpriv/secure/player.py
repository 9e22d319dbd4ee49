"""One of the three servers as a process of its own.

    python -m tfpriv.secure.player --config=players.json --name=server0

players.json says where the servers are: {"server0": "host:port", "server1": ..., "server2": ...}.
"""

import os
import signal
import sys
from typing import TYPE_CHECKING

from absl import app, flags

from tfpriv import environment, errors, listening
from tfpriv.errors import UserError
from tfpriv.secure.parties import addresses

if TYPE_CHECKING:
    import tensorflow as tf


def start(config: str, name: str, *, trusted_network: bool = False) -> "tf.distribute.Server":
    """Starts a server in this process, for as long as the process lives.

    Args:
        config: The players file.
        name: Which of its servers.
        trusted_network: Whether addresses that are not loopback are allowed.

    Returns:
        The tf.distribute.Server, which answers already.

    Raises:
        UserError: The file is wrong, an address is not allowed or is none of this machine, the port
            is taken, or the server would listen elsewhere too.
    """
    players = addresses.read(config)
    if name not in addresses.SERVERS:
        raise UserError(
            f"--name={name} is no server; the servers are {', '.join(addresses.SERVERS)}."
        )
    addresses.refuse_networks(players, trusted_network=trusted_network)
    # Through a web proxy gRPC would not find the others; the client may be anywhere.
    for variable in ("grpc_proxy", "https_proxy", "http_proxy"):
        os.environ.pop(variable, None)
    host, port = addresses.host_of(players[name]), addresses.port_of(players[name])
    place = listening.at(name, host, port)
    _say(f"{name} of {config}: starting at {place}.\n{addresses.THREAT_MODEL}")
    version = addresses.version()

    import tensorflow as tf

    try:
        with place.serving():
            server = tf.distribute.Server(
                tf.train.ClusterSpec(
                    {addresses.JOB: [players[server_name] for server_name in addresses.SERVERS]}
                ),
                job_name=addresses.JOB,
                task_index=addresses.SERVERS.index(name),
            )
    except tf.errors.OpError as error:
        raise UserError(
            f"{name} cannot listen at {place} ({error.message}); choose another port in {config}."
        ) from error
    _show_version(server.target, version)
    _say(f"{name} is ready: {version}, process {os.getpid()}.")
    return server


def _show_version(target, version):
    import tensorflow as tf

    with tf.Graph().as_default():
        variable = tf.compat.v1.get_variable(
            addresses.VERSION_VARIABLE, initializer=version, use_resource=False
        )
        alone = tf.compat.v1.ConfigProto(device_filters=[addresses.NO_OTHERS])
        with tf.compat.v1.Session(target, config=alone) as session:
            session.run(variable.initializer)


def _say(text):
    print(text, flush=True)


def main() -> None:
    """Runs the program: starts a server and waits for SIGTERM or SIGINT."""
    environment.quiet_tensorflow()
    errors.speak_of_flags()
    flags.DEFINE_string("config", None, "The players file: JSON, name of the party to host:port.")
    flags.DEFINE_string("name", None, f"Which party this is: {', '.join(addresses.SERVERS)}.")
    flags.DEFINE_boolean(
        "trusted_network",
        False,
        "Allow addresses that are not loopback. Nothing that travels is encrypted or "
        "authenticated, and whoever reaches the port can run any graph here.",
    )
    app.define_help_flags()
    arguments = app.parse_flags_with_usage(sys.argv)
    try:
        if len(arguments) > 1:
            raise UserError(f"{arguments[1]!r} is not a flag; write --name=value.")
        for flag in ("config", "name"):
            if not flags.FLAGS[flag].value:
                raise UserError(f"--{flag} is missing; write --config=players.json --name=server0.")
        name = flags.FLAGS.name

        # TensorFlow's server cannot be closed: it ends with its process.
        def end(signal_number, _):
            _say(f"{name} ends: {signal.Signals(signal_number).name}.")
            os._exit(0)

        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, end)
        server = start(flags.FLAGS.config, name, trusted_network=flags.FLAGS.trusted_network)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    while server:
        signal.pause()


if __name__ == "__main__":
    main()
