"""Activations, as layers and at the end of layers."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.layers import registry
from tfpriv.secure.layers.grid import Grid, log2, room_for
from tfpriv.secure.layers.keras_layers import refuse
from tfpriv.secure.layers.stage import MOST_BITS, Stage
from tfpriv.secure.layers.trained import TrainedLayer
from tfpriv.secure.protocols import fixed_point, smooth
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.fixed_point import FACTOR_BITS, Fixed
from tfpriv.secure.protocols.protocol import Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReLU(Stage):
    """max(x, 0)."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        """See `Stage.plain`."""
        return np.maximum(x, 0)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """See `Stage.compute`."""
        return x.with_shares(protocol.relu(x.shares))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smooth(Stage):
    """One of `smooth.ACTIVATIONS`."""

    function: str

    @property
    def kind(self) -> str:
        """See `Stage.kind`."""
        return self.function

    def plain(self, x: np.ndarray) -> np.ndarray:
        """See `Stage.plain`."""
        return smooth.plain(self.function, x)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """See `Stage.compute`."""
        return smooth.evaluate(protocol, self.function, x, grid.bits_given, grid.reads)

    def largest(self, bound: float) -> float:
        """See `Stage.largest`."""
        ends = smooth.plain(self.function, np.array([-bound, 0.0, bound]))
        return float(np.abs(ends).max()) + smooth.largest_error(self.function, bound)

    def bits_to_read(self, bound: float, wanted: int) -> int:
        """See `Stage.bits_to_read`."""
        room = room_for(bound) - smooth.room(self.function)
        return min(smooth.argument_bits(bound), room)

    def bits_to_give(self, bound: float, bits: int, wanted: int) -> int:
        """See `Stage.bits_to_give`."""
        # What it gives can be far smaller than what it reads, which is moved to the same grid.
        return min(wanted, MOST_BITS - log2(bound), room_for(bound), bits + fixed_point.RING_BITS)

    def error(self, error: float, grid: Grid) -> float:
        """See `Stage.error`."""
        function_error = smooth.largest_error(self.function, grid.reads)
        if smooth.room(self.function):
            function_error += grid.reads * 2.0**-FACTOR_BITS
        return (
            smooth.steepest(self.function) * error + function_error + 2.0 ** (1 - grid.bits_given)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponential(Stage):
    """exp(x), as 2^k exp(x - k ln 2), where 2^k is the bound of what it gives."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        """See `Stage.plain`."""
        return np.exp(x)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """See `Stage.compute`."""
        power = log2(grid.gives)
        x = x.with_shares(x.shares - fixed_point.constant(protocol, power * math.log(2), x))
        y = smooth.exponential(protocol, x, 1, MOST_BITS - 2)
        return fixed_point.on_grid(protocol, Fixed(y.shares, y.bits - power), grid.bits_given)

    def largest(self, bound: float) -> float:
        """See `Stage.largest`."""
        return math.exp(min(bound, 40.0))

    def bits_to_read(self, bound: float, wanted: int) -> int:
        """See `Stage.bits_to_read`."""
        return min(smooth.ARGUMENT_BITS, room_for(bound) - 1)

    def bits_to_give(self, bound: float, bits: int, wanted: int) -> int:
        """See `Stage.bits_to_give`."""
        return min(wanted, MOST_BITS - 2 - log2(bound))

    def error(self, error: float, grid: Grid) -> float:
        """See `Stage.error`."""
        return grid.gives * (error + 2 * smooth.largest_error("exp")) + 2.0**-grid.bits_given


@dataclasses.dataclass(frozen=True, kw_only=True)
class Softmax(Stage):
    """The softmax over the last axis."""

    def plain(self, x: np.ndarray) -> np.ndarray:
        """See `Stage.plain`."""
        return softmax(x)

    def compute(self, protocol: Protocol, x: Fixed, weights: Sequence[Fixed], grid: Grid) -> Fixed:
        """See `Stage.compute`."""
        return smooth.softmax(protocol, x, grid.bits_given)

    def largest(self, bound: float) -> float:
        """See `Stage.largest`."""
        return 1.0

    def bits_to_read(self, bound: float, wanted: int) -> int:
        """See `Stage.bits_to_read`."""
        return min(smooth.ARGUMENT_BITS, room_for(bound) - 2)

    def bits_to_give(self, bound: float, bits: int, wanted: int) -> int:
        """See `Stage.bits_to_give`."""
        return min(wanted, MOST_BITS)

    def error(self, error: float, grid: Grid) -> float:
        """See `Stage.error`."""
        return error + smooth.SOFTMAX_ERROR + 2.0**-grid.bits_given


def softmax(x: np.ndarray) -> np.ndarray:
    """Returns the softmax along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class TrainedReLU(TrainedLayer):
    """max(x, 0)."""

    kind: ClassVar[str] = "ReLU"
    can_clip: ClassVar[bool] = True

    def forward(
        self, prot: Protocol, weights: Sequence[Any], x: PrivateTensor
    ) -> tuple[PrivateTensor, PrivateTensor]:
        """See `TrainedLayer.forward`."""
        return prot.relu_with_cmp(x)

    def d_input(
        self, prot: Protocol, weights: Sequence[Any], cache: PrivateTensor, d_y: PrivateTensor
    ) -> PrivateTensor:
        """See `TrainedLayer.d_input`."""
        return prot.mul_ab(d_y, cache)


_KNOWN: dict[str, type[ReLU | Softmax | Exponential] | None] = {
    "relu": ReLU,
    "softmax": Softmax,
    "exponential": Exponential,
    **dict.fromkeys(smooth.ACTIVATIONS),
}


def _name_of(function):
    """Returns by which of the known names Keras, or TensorFlow, has a function; None by none."""
    for name in _KNOWN:
        if any(function is getattr(home, name, None) for home in (tf.keras.activations, tf.nn)):
            return name
    return None


def activation_stages(layer: tf.keras.layers.Layer, function: Any) -> list[Stage]:
    """Returns the stage of an activation that Keras knows by name; none for the linear one.

    Raises:
        UserError: It cannot be computed on shares.
    """
    if function is None or function is tf.keras.activations.linear:
        return []
    name = _name_of(function)
    if name is None:
        raise UserError(
            f"layer {layer.name} of the model has the activation "
            f"{getattr(function, '__name__', function)}, which cannot be computed on shares; use "
            f"{', '.join(_KNOWN)}, or none."
        )
    of_name = f"{layer.name}: {name}"
    made = _KNOWN[name]
    if made is not None:
        return [made(name=of_name)]
    return [Smooth(name=of_name, function=name)]


def trained_activation(layer: tf.keras.layers.Layer) -> list[TrainedLayer]:
    """Returns what a layer's activation is in training; nothing for the linear one.

    Raises:
        UserError: It cannot be trained on shares.
    """
    if layer.activation is None or layer.activation is tf.keras.activations.linear:
        return []
    if _name_of(layer.activation) == "relu":
        return [TrainedReLU()]
    name = getattr(layer.activation, "__name__", str(layer.activation))
    raise UserError(
        f"layer {layer.name} of the model has the activation {name}, which cannot be trained on "
        "shares; use relu, and logits (no activation) at the end."
    )


def _activation(layer):
    return activation_stages(layer, layer.activation)


def _relu(layer):
    for name, plain in (("max_value", None), ("negative_slope", 0), ("threshold", 0)):
        value = getattr(layer, name)
        if value != plain:
            refuse(layer, f"{name}={value}", "a plain ReLU")
    return activation_stages(layer, tf.keras.activations.relu)


def _trained_relu(layer):
    if layer.max_value is not None or layer.negative_slope or layer.threshold:
        refuse(layer, "a maximum, slope or threshold", "a plain ReLU", "trained")
    return [TrainedReLU()]


def _elu(layer):
    if layer.alpha != 1:
        refuse(layer, f"alpha={layer.alpha}", "alpha=1")
    return activation_stages(layer, tf.keras.activations.elu)


def _softmax(layer):
    if layer.axis not in (-1, len(layer.input_shape) - 1):
        refuse(layer, f"axis={layer.axis}", "axis=-1")
    return activation_stages(layer, tf.keras.activations.softmax)


registry.register(tf.keras.layers.Activation, stages=_activation, trained=trained_activation)
registry.register(tf.keras.layers.ReLU, stages=_relu, trained=_trained_relu)
registry.register(tf.keras.layers.ELU, stages=_elu)
registry.register(tf.keras.layers.Softmax, stages=_softmax)
