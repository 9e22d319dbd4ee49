"""Random networks on shares against float64, within the bound that is computed for each.

`make grid` draws such networks for an hour.
"""

import collections

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as some

from tfpriv.errors import UserError
from tfpriv.secure.inference import evaluator, grids, network, ranges
from tfpriv.secure.parties import connection
from tfpriv.secure.protocols import running, smooth

L = tf.keras.layers
_ACTIVATIONS = (None, "relu", *smooth.ACTIVATIONS)
_BATCH = 4
# Numbers that a network may not be wider than, to be drawn in a second.
_LARGEST_KERNEL = 200_000


@some.composite
def networks(draw):
    """Returns (protocol, layers as (class, settings), shape, powers of ten, seed)."""
    power = some.floats(-6, 6)
    on_images = draw(some.booleans())
    if on_images:
        shape = (draw(some.integers(4, 9)), draw(some.integers(4, 9)), draw(some.integers(1, 5)))
        row = draw(some.lists(some.sampled_from(_IMAGE_LAYERS), min_size=1, max_size=3))
    else:
        depth = draw(some.integers(1, 20))
        widest = 10_000 if depth == 1 else 64
        shape = (draw(some.integers(1, widest)),)
        row = []
        for _ in range(depth):
            units = draw(some.integers(1, min(64, max(1, _LARGEST_KERNEL // shape[0]))))
            row.append((L.Dense, {"units": units, "activation": draw(_activation)}))
    return {
        "protocol": draw(some.sampled_from(("aby3", "securenn"))),
        "row": row,
        "shape": shape,
        "weights": 10 ** draw(power),
        "inputs": 10 ** draw(power),
        "seed": draw(some.integers(0, 2**16)),
    }


_activation = some.sampled_from(_ACTIVATIONS)
_IMAGE_LAYERS = (
    (L.Conv2D, {"filters": 3, "kernel_size": 3, "padding": "same", "activation": "relu"}),
    (L.Conv2D, {"filters": 2, "kernel_size": (1, 2), "strides": 2, "padding": "same"}),
    (L.DepthwiseConv2D, {"kernel_size": 2, "padding": "same"}),
    (L.MaxPooling2D, {"pool_size": 2, "padding": "same"}),
    (L.MaxPooling2D, {"pool_size": 3, "strides": 1, "padding": "same"}),
    (L.AveragePooling2D, {"pool_size": 3, "strides": 2, "padding": "same"}),
    (L.GlobalAveragePooling2D, {"keepdims": True}),
    (L.GlobalMaxPooling2D, {"keepdims": True}),
    (L.BatchNormalization, {}),
    (L.Activation, {"activation": "tanh"}),
    (L.Softmax, {}),
)


def model_of(case) -> tf.keras.Model:
    """Builds a network, with weights that are not zero."""
    model = tf.keras.Sequential([L.InputLayer(case["shape"])])
    for kind, settings in case["row"]:
        model.add(kind(**settings))
    generator = np.random.default_rng(case["seed"])
    weights = []
    for variable in model.weights:
        spread = case["weights"] / np.sqrt(max(np.prod(variable.shape[:-1]), 1))
        drawn = generator.normal(0, spread, variable.shape)
        weights.append(np.abs(drawn) + spread if "variance" in variable.name else drawn)
    model.set_weights(weights)
    return model


def check(case, protocol, them) -> bool:
    """Fails if a network's answers on shares are further off than computed.

    Returns:
        Whether it was computed; otherwise it was refused with a sentence.
    """
    model = model_of(case)
    net = network.from_keras(model, softmax="approximate")
    generator = np.random.default_rng(case["seed"] + 1)
    x = generator.normal(0, case["inputs"], (_BATCH, *net.input_shape))
    try:
        plain, bounds = ranges.measure(net, x)
        secure = evaluator.SecureModel(net, bounds, protocol, them, _BATCH)
    except UserError as error:
        # Numbers that twenty layers made of a million each, or of a millionth.
        assert "layer" in str(error)
        return False
    found = secure.predict(x)
    errors = np.abs(found - plain).max()
    bound = grids.errors(net.stages, secure.grids)[-1]
    assert errors <= bound, (errors, bound)
    if len(case["row"]) == 1 and np.abs(plain).max() > 2.0**-30:
        assert errors <= 2.0**-10 * np.abs(plain).max(), (errors, np.abs(plain).max())
    return True


def drawn(number: int, *, is_fixed: bool, count: collections.Counter):
    """Returns a function that checks so many random networks, the same each time if fixed.

    It adds to `count` how many were computed and how many refused.
    """

    @hypothesis.settings(
        max_examples=number,
        deadline=None,
        derandomize=is_fixed,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(networks())
    def run(case):
        tf.keras.backend.clear_session()
        them = connection.local()
        with running.protocol(case["protocol"], them) as protocol:
            count["computed" if check(case, protocol, them) else "refused"] += 1

    return run


@pytest.mark.slow
def test_random_networks_are_right_within_their_bound():
    count = collections.Counter()
    drawn(30, is_fixed=True, count=count)()
    assert count["computed"] > 2 * count["refused"]
