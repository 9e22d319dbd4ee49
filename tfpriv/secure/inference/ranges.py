"""How large the numbers of a network can be, and whether examples keep within it.

On shares a number that is too large for the ring gives a wrong number without a sign of it.
"""

import math
from collections.abc import Callable

import numpy as np

from tfpriv.errors import UserError
from tfpriv.secure.inference import grids
from tfpriv.secure.inference.network import Network

_BATCH = 256
# Bounds lie this much above what was seen, before they go up to a power of two.
_MARGIN = 1.25


def measure(net: Network, examples: np.ndarray) -> tuple[np.ndarray, tuple[float, ...]]:
    """Computes the network in plaintext, and bounds that its numbers keep on such examples.

    A bound is a power of two: the shares' grids tell it to whoever computes on them.

    Args:
        net: The network.
        examples: Shape [n, ...]: those to be computed on shares, or others like them that may be
            known.

    Returns:
        The outputs, float64 of shape [n, ...], and one more bound than the network has stages (see
        `grids.choose`).

    Raises:
        UserError: An example, a weight or a result is not a finite number, or there is no example,
            or they have another shape than the network takes.
    """
    largest = [0.0] * (len(net.stages) + 1)

    def note(place, values):
        largest[place] = max(largest[place], float(np.abs(values).max()))

    outputs = _computed(net, examples, note)
    return outputs, tuple(_power_above(_MARGIN * size) for size in largest)


def from_input_bound(net: Network, bound: float) -> tuple[float, ...]:
    """Returns bounds that hold for all examples within a bound, by interval arithmetic.

    They tell nothing about any example, and grow from layer to layer as if all that is summed had
    one sign: deep networks get coarser grids by them than by `measure`.

    Args:
        net: The network.
        bound: What no number of an example is above, in magnitude.
    """
    _refuse_weights(net)
    bounds = [_power_above(bound)]
    for stage in net.stages:
        bounds.append(_power_above(stage.largest(bounds[-1])))
    return tuple(bounds)


def check(net: Network, examples: np.ndarray, bounds: tuple[float, ...]) -> np.ndarray:
    """Computes the network in plaintext and returns its outputs, float64 of shape [n, ...].

    Args:
        net: The network.
        examples: Shape [n, ...].
        bounds: As `measure` or `from_input_bound` return them.

    Raises:
        UserError: A number is above its bound, or not finite; the example or the layer is named.
    """

    def refuse(place, values):
        above = np.abs(values) > bounds[place]
        if above.any():
            raise UserError(
                f"{_name(net, place)} {values[above].flat[0]:.6g}, and for this model on shares "
                f"it was said to stay within {bounds[place]:g}; give examples with larger numbers "
                "when the bounds are made, or a larger --input_bound."
            )

    return _computed(net, examples, refuse)


def _computed(net, examples, look: Callable[[int, np.ndarray], None]):
    _refuse_weights(net)
    examples, outputs = net.as_examples(examples), []
    for start in range(0, len(examples), _BATCH):
        x = examples[start : start + _BATCH]
        for place in range(len(net.stages) + 1):
            if place:
                with np.errstate(over="ignore", invalid="ignore"):
                    x = net.stages[place - 1].plain(x)
            if not np.isfinite(x).all():
                which = ""
                if not place:
                    bad = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
                    which = f"example {start + int(np.argmax(bad))} of them: "
                raise UserError(
                    f"{which}{_name(net, place)} {x[~np.isfinite(x)].flat[0]}, and shares hold "
                    "finite numbers only; leave it out, or scale the features or the model."
                )
            look(place, x)
        outputs.append(x)
    return np.concatenate(outputs)


def _name(net, place):
    if not place:
        return "the examples have the value"
    return f"layer {net.stages[place - 1].name} of the model gives"


def _refuse_weights(net):
    for stage in net.stages:
        for weight in stage.weights:
            if not np.isfinite(weight).all():
                raise UserError(
                    f"layer {stage.name} of the model has the weight "
                    f"{weight[~np.isfinite(weight)].flat[0]}, and shares hold finite numbers "
                    "only; train the model again."
                )


def _power_above(size):
    return 2.0 ** grids.log2(size) if size < math.inf else size
