"""Which Keras layers there are on shares, and what each of them is there.

A layer is known by its very type, since a subclass may compute something else. Whoever has a layer
of their own registers it in the file that defines it:

    registry.register(MyLayer, stages=stages_of_mine, trained=trained_of_mine)
"""

from collections.abc import Callable

import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.layers.keras_layers import kind_of
from tfpriv.secure.layers.stage import Stage
from tfpriv.secure.layers.trained import TrainedLayer

_STAGES: dict[type[tf.keras.layers.Layer], Callable] = {}
_TRAINED: dict[type[tf.keras.layers.Layer], Callable] = {}


def register(
    kind: type[tf.keras.layers.Layer],
    *,
    stages: Callable[[tf.keras.layers.Layer], list[Stage]] | None = None,
    trained: Callable[[tf.keras.layers.Layer], list[TrainedLayer]] | None = None,
) -> None:
    """Makes a Keras layer known, in the place of what was registered for it before.

    Args:
        kind: The layer's class.
        stages: Returns what a layer of it is in inference, [] if it does nothing there; refuses a
            setting that cannot be computed by a `UserError`. None: there is no inference.
        trained: Returns what it is in training. None: it cannot be trained.
    """
    for makers, make in ((_STAGES, stages), (_TRAINED, trained)):
        makers.pop(kind, None)
        if make is not None:
            makers[kind] = make


def stages_of(layer: tf.keras.layers.Layer) -> list[Stage]:
    """Returns the stages of a layer, none if it does nothing at inference.

    Raises:
        UserError: The layer, or a setting of it, cannot be computed on shares; it is named.
    """
    return _made(layer, _STAGES, "computed", "those that can:")


def trained_of(layer: tf.keras.layers.Layer) -> list[TrainedLayer]:
    """Returns what a layer is in training.

    Raises:
        UserError: The layer, or a setting of it, cannot be trained on shares; it is named.
    """
    return _made(layer, _TRAINED, "trained", "use")


def _made(layer, makers, done, offer):
    make = makers.get(type(layer))
    if make is None:
        raise UserError(
            f"layer {layer.name} of the model is a {kind_of(layer)}, which cannot be {done} on "
            f"shares; {offer} {', '.join(sorted(kind.__name__ for kind in makers))}."
        )
    return make(layer)
