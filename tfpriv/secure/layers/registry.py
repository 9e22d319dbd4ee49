"""Which Keras layers there are on shares, and what each of them is there.

A layer is known by its very type, since a subclass may compute something else. Whoever has a layer
of their own registers it in the file that defines it:

    registry.register(MyLayer, stages=stages_of_mine, trained=trained_of_mine)
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.layers.keras_layers import kind_of
from tfpriv.secure.layers.stage import Stage
from tfpriv.secure.layers.trained import TrainedLayer


@dataclasses.dataclass(frozen=True)
class _Form:
    stages: Callable[[tf.keras.layers.Layer], list[Stage]] | None
    trained: Callable[[tf.keras.layers.Layer], list[TrainedLayer]] | None


_FORMS: dict[type[tf.keras.layers.Layer], _Form] = {}


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
    _FORMS[kind] = _Form(stages, trained)


def known_in_inference() -> list[str]:
    """Returns the names of the layers that can be computed on shares."""
    return sorted(kind.__name__ for kind, form in _FORMS.items() if form.stages)


def known_in_training() -> list[str]:
    """Returns the names of the layers that can be trained on shares."""
    return sorted(kind.__name__ for kind, form in _FORMS.items() if form.trained)


def stages_of(layer: tf.keras.layers.Layer) -> list[Stage]:
    """Returns the stages of a layer, none if it does nothing at inference.

    Raises:
        UserError: The layer, or a setting of it, cannot be computed on shares; it is named.
    """
    form = _FORMS.get(type(layer))
    if form is None or form.stages is None:
        raise UserError(
            f"layer {layer.name} of the model is a {kind_of(layer)}, which cannot be computed on "
            f"shares; those that can: {', '.join(known_in_inference())}."
        )
    return form.stages(layer)


def trained_of(layer: tf.keras.layers.Layer) -> list[TrainedLayer]:
    """Returns what a layer is in training.

    Raises:
        UserError: The layer, or a setting of it, cannot be trained on shares; it is named.
    """
    form = _FORMS.get(type(layer))
    if form is None or form.trained is None:
        raise UserError(
            f"layer {layer.name} of the model is a {kind_of(layer)}, which cannot be trained on "
            f"shares; use {', '.join(known_in_training())}."
        )
    return form.trained(layer)
