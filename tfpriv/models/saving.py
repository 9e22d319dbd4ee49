"""Saves a trained model."""

import os

import tensorflow as tf

from tfpriv import files


def save(model: tf.keras.Model, path: str | os.PathLike) -> None:
    """Writes a model for `tf.keras.models.load_model`, whole or not at all.

    Compile settings are left out: they were not used in training, and a loss function of the user's
    own among them would keep the file from loading elsewhere.

    Args:
        model: A built model.
        path: The file, whose name ends in `.keras`.
    """
    # Keras 2.14 has no public way to save a compiled model without its compile settings.
    compiled = model._is_compiled
    model._is_compiled = False
    try:
        with files.replacing(path) as temporary:
            model.save(temporary, save_format="keras")
    finally:
        model._is_compiled = compiled
