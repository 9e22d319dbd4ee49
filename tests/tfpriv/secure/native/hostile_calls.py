"""Calls every native op with random arguments; run as a program, which no call may end.

python -m tests.tfpriv.secure.native.hostile_calls --seed=0 --calls=2000 --log=FILE

The log's last line is the call that is being made, so that it names the one that ended the process.
"""

import argparse
import collections
import os
import pathlib
import random
import resource

from tfpriv import environment

environment.quiet_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.python.framework import op_def_registry  # noqa: E402

from tfpriv.secure import native  # noqa: E402

SOURCES = pathlib.Path(native.__file__).parent
# Of address space, so that an op that asks for too much gets an error and not the machine.
_MEMORY = 8 * 2**30
_TYPES = [tf.bool, tf.int8, tf.uint8, tf.int16, tf.uint16, tf.int32, tf.uint32, tf.int64, tf.uint64]
_TYPES += [tf.float32, tf.float64, tf.string]
_NUMBERS = (0, 1, 2, 3, 5, 8, 16, 31, 32, 33, 62, 63, 64, 65, 127, 128, 129, 1000)
_HUGE = (2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63))
_SIZES = (0, 1, 2, 3, 7, 16, 33)


def names() -> list[str]:
    """Returns the names of all native ops, as the library that is loaded has them."""
    ops = native.load()
    return sorted(
        name for name in dir(ops) if name[0].isupper() and op_def_registry.get(name) is not None
    )


def call(ops, name: str, rng: random.Random, folder: pathlib.Path, say) -> bool:
    """Calls an op once, eagerly or in a graph; returns whether it computed something."""
    definition = op_def_registry.get(name)
    arguments, types = {}, {}
    for attribute in definition.attr:
        value = _attribute(rng, attribute, folder)
        if attribute.type == "type":
            types[attribute.name] = value
        arguments[attribute.name] = value
    common = _shape(rng)
    fitting = _fitting(rng, name, common)
    for argument in definition.input_arg:
        wanted = types.get(argument.type_attr) or tf.as_dtype(argument.type or tf.int64)
        if argument.number_attr:
            count = min(abs(arguments.pop(argument.number_attr, 1)), 40)
            arguments[argument.name] = [_tensor(rng, wanted, common, "") for _ in range(count)]
        else:
            shape = fitting.get(argument.name.removesuffix("_next"), common)
            arguments[argument.name] = _tensor(rng, wanted, shape, argument.name, folder)
    if any(argument.type_attr for argument in definition.input_arg):
        for argument in definition.input_arg:  # TensorFlow takes these from the inputs.
            arguments.pop(argument.type_attr, None)
    in_graph = rng.random() < 0.3
    shown = {key: _shown(value) for key, value in arguments.items()}
    say(f"{name} {'graph' if in_graph else 'eager'} {shown}")
    function = getattr(ops, name)

    def make():
        result = function(**arguments)
        return [] if result is None or isinstance(result, tf.Operation) else result

    try:
        tf.function(make, autograph=False)() if in_graph else make()
    except (tf.errors.OpError, ValueError, TypeError, OverflowError):
        return False
    except AssertionError as error:
        assert str(error) == "Unreachable", (
            name
        )  # TensorFlow's wrapper, of a wrong type in a graph.
        return False
    return True


def _fitting(rng, name, common):
    """Returns the shapes of the inputs whose shapes differ from the common one."""
    a, b, c, d, e = (rng.choice(_SIZES) for _ in range(5))
    last = [2] if name.startswith("I128") else []
    shapes = {key: [*common, 64] for key in ("bits", "row0", "row1")}
    shapes |= {"minval": last, "maxval": last}
    if "MatMul" in name:
        shapes |= {"x": [a, b, *last], "y": [b, c, *last]}
    elif "Conv2D" in name:
        shapes |= {"x": [a, b, c, d], "y": [rng.choice((1, 2, 3)), rng.choice((1, 2, 3)), d, e]}
    return shapes


def _attribute(rng, attribute, folder):
    if attribute.type == "type":
        allowed = [tf.as_dtype(value) for value in attribute.allowed_values.list.type]
        return rng.choice(allowed if rng.random() < 0.95 else _TYPES)
    if attribute.type == "int":
        return _number(rng)
    if attribute.type == "bool":
        return rng.random() < 0.5
    if attribute.type == "shape":
        return list(_shape(rng, huge=0.1))
    if attribute.type == "string":
        allowed = [value.decode() for value in attribute.allowed_values.list.s]
        return rng.choice(allowed if rng.random() < 0.9 else ["", "FULL"])
    if attribute.type == "list(int)":
        if rng.random() < 0.6:
            return [rng.choice((1, 2, 3)) for _ in range(2)]
        return [_number(rng) for _ in range(rng.choice((0, 1, 2, 2, 2, 2, 4)))]
    raise AssertionError(f"no values for attributes of type {attribute.type}")


def _number(rng):
    draw = rng.random()
    if draw < 0.7:
        return rng.choice(_NUMBERS[:8])
    return rng.choice(_NUMBERS) * rng.choice((1, -1)) if draw < 0.9 else rng.choice(_HUGE)


def _shape(rng, huge=0.0):
    if rng.random() < huge:
        return [rng.choice([2**16, *_HUGE[:6]]) for _ in range(rng.choice((1, 2, 4)))]
    return [rng.choice(_SIZES) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 4, 5, 6)))]


def _tensor(rng, dtype, common, name, folder=None):
    """Returns an input: mostly of the common shape or of one that the name asks for."""
    if dtype == tf.string:
        path = folder / f"record{rng.randrange(3)}"
        values = [b"", b"\0" * 1000, b"text", str(path).encode(), b"/nowhere/at/all", b"\xff\0"]
        shape = [] if rng.random() < 0.8 else _shape(rng)[:2]
        count = int(np.prod(shape))
        return tf.constant([rng.choice(values) for _ in range(count)], tf.string, shape)
    if rng.random() < 0.05:
        dtype = rng.choice(_TYPES[:-1])
    shape = list(common)
    if (name.startswith(("key", "seed"))) and rng.random() < 0.9:
        shape = [8]
    elif name == "shape":
        return tf.constant(_clipped(_shape(rng, huge=0.1), dtype), dtype)
    elif rng.random() < 0.1:
        shape = _shape(rng)
    elif rng.random() < 0.1 and shape:
        shape[rng.randrange(len(shape))] = rng.choice(_SIZES)
    elif rng.random() < 0.05:
        shape = [*shape, 2]
    while np.prod(shape) > 2**17:
        shape = shape[1:]
    bits = np.frombuffer(rng.randbytes(8 * int(np.prod(shape))), np.int64).reshape(shape)
    if dtype.is_floating:
        special = np.array([np.nan, np.inf, -np.inf, 1e300, -0.0, 0.5])
        return tf.constant(special[bits % 6], dtype)
    return tf.constant(bits.astype(dtype.as_numpy_dtype), dtype)


def _clipped(shape, dtype):
    return np.array(shape, np.object_).astype(np.int64).astype(dtype.as_numpy_dtype)


def _shown(value):
    if isinstance(value, list) and value and tf.is_tensor(value[0]):
        return [_shown(item) for item in value[:3]]
    if tf.is_tensor(value):
        small = np.ravel(value.numpy())[:8].tolist()
        return f"{value.dtype.name}{value.shape.as_list()} {small}"
    return value


def main() -> None:
    """Makes the calls, and prints how many computed something and how many were errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--log", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # which needs more, and has its own limit
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    tf.get_logger().setLevel("ERROR")
    log_file = arguments.log.resolve()
    os.chdir(log_file.parent)  # An op that writes files writes them here.
    ops, rng, known = native.load(), random.Random(arguments.seed), names()
    computed = collections.Counter()
    with log_file.open("w") as log:

        def say(line):
            log.write(f"{line}\n")
            log.flush()

        for number in range(arguments.calls):
            name = known[number % len(known)]
            computed[name] += call(ops, name, rng, log_file.parent, say)
            if number % 500 == 499:
                tf.keras.backend.clear_session()
        say("done")
    total = computed.total()
    print(f"{len(known)} ops, {total} computed, {arguments.calls - total} errors")
    print(f"never computed: {' '.join(sorted(set(known) - set(+computed))) or 'none'}")


if __name__ == "__main__":
    main()
