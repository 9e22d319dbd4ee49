"""Which Keras layers and activations are served on secret shares, how exactly, and at what cost.

  python -m benchmarks.secure_layers

Each is built, evaluated on shares by both protocols, and offered to secure training. It writes
docs/secure_layers.json and, from it, docs/secure_layers.md. Errors are random in their last bits;
bytes and rounds are read off the graph.
"""

import json
import math
import pathlib
from collections.abc import Callable

from tfpriv import environment

environment.quiet_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfpriv.errors import UserError  # noqa: E402
from tfpriv.secure.inference import config as inference_config  # noqa: E402
from tfpriv.secure.inference import evaluator, network, ranges  # noqa: E402
from tfpriv.secure.parties import connection  # noqa: E402
from tfpriv.secure.protocols import running  # noqa: E402
from tfpriv.secure.training import backpropagation  # noqa: E402

DOCS = pathlib.Path(__file__).parents[1] / "docs"
_BATCH = 4
_IMAGE = (8, 8, 4)
L = tf.keras.layers


def _activation(name) -> Callable:
    return lambda: [L.Activation(name, input_shape=(32,))]


CASES = {
    "Dense": lambda: [L.Dense(8, input_shape=(32,))],
    "Dense(use_bias=False)": lambda: [L.Dense(8, use_bias=False, input_shape=(32,))],
    "Dense on [steps, features]": lambda: [L.Dense(8, input_shape=(4, 32))],
    "Conv2D": lambda: [L.Conv2D(8, 3, input_shape=_IMAGE)],
    "Conv2D(strides=2, padding=same)": lambda: [
        L.Conv2D(8, 3, strides=2, padding="same", input_shape=_IMAGE)
    ],
    "Conv2D(use_bias=False)": lambda: [L.Conv2D(8, 3, use_bias=False, input_shape=_IMAGE)],
    "Conv2D(dilation_rate=2)": lambda: [L.Conv2D(8, 3, dilation_rate=2, input_shape=_IMAGE)],
    "Conv2D(groups=2)": lambda: [L.Conv2D(8, 3, groups=2, input_shape=_IMAGE)],
    "DepthwiseConv2D": lambda: [L.DepthwiseConv2D(3, input_shape=_IMAGE)],
    "SeparableConv2D": lambda: [L.SeparableConv2D(8, 3, input_shape=_IMAGE)],
    "Conv2DTranspose": lambda: [L.Conv2DTranspose(8, 3, input_shape=_IMAGE)],
    "Conv1D": lambda: [L.Conv1D(8, 3, input_shape=(8, 4))],
    "MaxPooling2D": lambda: [L.MaxPooling2D(2, input_shape=_IMAGE)],
    "MaxPooling2D(strides=1, padding=same)": lambda: [
        L.MaxPooling2D(3, strides=1, padding="same", input_shape=_IMAGE)
    ],
    "AveragePooling2D": lambda: [L.AveragePooling2D(2, input_shape=_IMAGE)],
    "AveragePooling2D(padding=same)": lambda: [
        L.AveragePooling2D(3, strides=2, padding="same", input_shape=_IMAGE)
    ],
    "GlobalMaxPooling2D": lambda: [L.GlobalMaxPooling2D(input_shape=_IMAGE)],
    "GlobalAveragePooling2D": lambda: [L.GlobalAveragePooling2D(input_shape=_IMAGE)],
    "BatchNormalization": lambda: [L.BatchNormalization(input_shape=_IMAGE)],
    "BatchNormalization after Dense": lambda: [
        L.Dense(8, input_shape=(32,)),
        L.BatchNormalization(),
    ],
    "LayerNormalization": lambda: [L.LayerNormalization(input_shape=(32,))],
    "Flatten": lambda: [L.Flatten(input_shape=_IMAGE)],
    "Reshape": lambda: [L.Reshape((16, 16), input_shape=_IMAGE)],
    "Dropout": lambda: [L.Dropout(0.5, input_shape=(32,)), L.ReLU()],
    "ReLU": lambda: [L.ReLU(input_shape=(32,))],
    "ReLU(max_value=6)": lambda: [L.ReLU(max_value=6, input_shape=(32,))],
    "LeakyReLU": lambda: [L.LeakyReLU(input_shape=(32,))],
    "ELU": lambda: [L.ELU(input_shape=(32,))],
    "Softmax": lambda: [L.Softmax(input_shape=(32,))],
    "Embedding": lambda: [L.Embedding(10, 4, input_length=8)],
    "LSTM": lambda: [L.LSTM(4, input_shape=(8, 4))],
} | {
    f"activation {name}": _activation(name)
    for name in (
        *("relu", "sigmoid", "tanh", "softplus", "swish", "gelu", "elu", "selu", "hard_sigmoid"),
        *("exponential", "softmax", "softsign", "mish"),
    )
}


def measure(names=CASES) -> dict[str, dict]:
    """Returns, by case, `training` and, by protocol, what was measured or why it is refused."""
    rows = {}
    them = connection.local()
    for name in names:
        tf.keras.utils.set_random_seed(0)
        rows[name] = {"training": _is_trained(name)}
    for name_of_protocol in inference_config.PROTOCOLS:
        with running.protocol(name_of_protocol, them) as protocol:
            for name in names:
                rows[name][name_of_protocol] = _evaluated(name, protocol, them)
    return rows


def _is_trained(name):
    model = tf.keras.Sequential(CASES[name]())
    try:
        backpropagation.network_of(model)
    except UserError:
        return False
    return True


def _evaluated(name, protocol, them):
    """Returns the error, of the largest output, and bytes and rounds; or None if it is refused."""
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential(CASES[name]())
    try:
        net = network.from_keras(model, softmax="approximate")
    except UserError:
        return None
    x = np.random.default_rng(0).normal(0, 3, (_BATCH, *net.input_shape))
    plain, bounds = ranges.measure(net, x)
    secure = evaluator.SecureModel(net, bounds, protocol, them, _BATCH)
    error = np.abs(secure.predict(x) - plain).max() / np.abs(plain).max()
    sent, rounds = 0, 0
    for result in secure.stage_by_stage(x, reveal=False):
        sent += sum(result.traffic.bytes_sent.values())
        rounds += result.traffic.rounds
    return {"error": float(error), "bytes": sent / plain.size, "rounds": rounds}


def as_text(rows: dict[str, dict]) -> str:
    """Returns the page."""
    lines = []
    for name, row in rows.items():
        cells = []
        for protocol in inference_config.PROTOCOLS:
            found = row[protocol]
            if found is None:
                cells += ["no", "", ""]
            else:
                cells += [_power(found["error"]), f"{found['bytes']:.0f}", str(found["rounds"])]
        cells.append("yes" if row["training"] else "no")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return _PAGE.format(rows="\n".join(lines))


def _power(error):
    return "exact" if error < 2.0**-40 else f"2^{math.ceil(math.log2(error))}"


_PAGE = """# Layers on secret shares

Written by `python -m benchmarks.secure_layers`, which builds each layer and evaluates it on shares;
a test repeats it. What is not in the list is refused by name.

- **error**: the largest difference from float64 in four random examples of spread 3, as a part of
  the largest output. Weights and inputs of any size give about the same.
- **bytes** and **rounds**: what the three servers send each other for an element of the output, and
  how many messages follow one after the other. A dense layer's or a convolution's bytes grow with
  what it reads, beside what it gives.
- **training**: whether `experiments.secure_training` takes it (ABY3 only).

A softmax or sigmoid at the end is left to the client, who applies it to the outputs in plaintext,
unless `--softmax=approximate` says otherwise. A BatchNormalization after a layer with weights costs
nothing: it goes into them.

| layer | aby3: error | bytes | rounds | securenn: error | bytes | rounds | training |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}
"""


def main() -> None:
    """Measures all, and writes the results and the page."""
    connection.separate_local_devices()
    rows = measure()
    (DOCS / "secure_layers.json").write_text(json.dumps(rows, indent=1) + "\n")
    (DOCS / "secure_layers.md").write_text(as_text(rows))


if __name__ == "__main__":
    main()
