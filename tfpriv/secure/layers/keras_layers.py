"""Reads Keras models: their layers in order, and what of a layer cannot be had on shares."""

import itertools
from typing import NoReturn

import tensorflow as tf

from tfpriv.errors import UserError


def in_order(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
    """Returns the layers of a model in which each feeds the next, those of inner models included.

    Raises:
        UserError: The model has branches, several inputs or outputs, or cannot be read.
    """
    layers = getattr(model, "layers", [])
    if isinstance(model, tf.keras.Sequential):
        pass
    elif getattr(model, "_is_graph_network", False):
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise UserError(
                f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs; on "
                "shares it must have one of each."
            )
        for before, after in itertools.pairwise(layers):
            fed_by = [node.inbound_layers for node in after.inbound_nodes]
            if fed_by != [before]:
                raise UserError(
                    f"layer {after.name} of the model is not fed by {before.name} alone; on shares "
                    "each layer must feed the next, as in a tf.keras.Sequential model."
                )
    else:
        raise UserError(
            f"the model is a {type(model).__name__} whose layers cannot be read in order; on "
            "shares it must be a tf.keras.Sequential or a functional model."
        )
    flat = []
    for layer in layers:
        if isinstance(layer, tf.keras.Model):
            flat += in_order(layer)
        elif not isinstance(layer, tf.keras.layers.InputLayer):
            flat.append(layer)
    return flat


def kind_of(layer: tf.keras.layers.Layer) -> str:
    """Returns the name of a layer's class; for a class that is not Keras's own, with its module.

    A user's layer may have the name of one of Keras's and compute something else.
    """
    kind = type(layer)
    if kind.__module__.split(".")[0] == "keras":
        return kind.__name__
    return f"{kind.__module__}.{kind.__name__}"


def refuse(
    layer: tf.keras.layers.Layer, what: str, remedy: str, done: str = "computed"
) -> NoReturn:
    """Raises UserError: the layer has something that cannot be computed, or trained, on shares."""
    raise UserError(
        f"layer {layer.name} of the model has {what}, which cannot be {done} on shares; use "
        f"{remedy}."
    )


def refuse_channels_first(layer: tf.keras.layers.Layer) -> None:
    """Raises UserError if a layer of images reads the channels before the sides."""
    if layer.data_format != "channels_last":
        refuse(layer, f"data_format={layer.data_format}", "data_format=channels_last")
