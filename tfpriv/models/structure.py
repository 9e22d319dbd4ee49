"""What a model is made of."""

import types

import tensorflow as tf


def layers_of(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
    """Returns all layers, also those inside nested models, wrappers and other layers."""
    forget_dropout_masks(model)
    return [
        module
        for module in model.submodules
        if isinstance(module, tf.keras.layers.Layer)
        and not isinstance(module, tf.keras.metrics.Metric)  # A model may hold those too.
    ]


def forget_dropout_masks(model: tf.keras.Model) -> None:
    """Drops the masks that recurrent cells keep for each graph until their next call.

    `model.submodules` fails at two of them.
    """
    for layer in model._flatten_layers():
        if hasattr(layer, "reset_recurrent_dropout_mask"):
            layer.reset_dropout_mask()
            layer.reset_recurrent_dropout_mask()


def random_generators_of(model: tf.keras.Model) -> list:
    """Returns the generators that Keras's own random layers hold, such as dropout's."""
    return [
        value
        for layer in [model, *layers_of(model)]
        for value in vars(layer).values()
        if type(value).__name__ == "RandomGenerator" and is_keras(type(value))
    ]


def input_spec(model: tf.keras.Model) -> tf.TensorSpec:
    """Returns the shape and the dtype of a batch, [None, ...]."""
    return tf.nest.flatten(model.save_spec())[0]


def is_keras(kind: type) -> bool:
    """Whether a class is Keras's own."""
    return kind.__module__.split(".")[0] == "keras"


def has_own_code(layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer, or a function that it was given, such as its activation, is not Keras's."""
    kind = type(layer)
    # Keras wraps TensorFlow's functions as layers of that module.
    if not is_keras(kind) or isinstance(layer, tf.keras.layers.Lambda):
        return True
    return kind.__module__.endswith(".tf_op_layer") or any(
        isinstance(value, types.FunctionType)
        and value.__module__.split(".")[0] not in ("keras", "tensorflow")
        for value in vars(layer).values()
    )
