"""Refuses what a model may not hold under a certain kind of training."""

import numpy as np
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.models import inspection

_SUBSTITUTE = "use GroupNormalization or LayerNormalization, which look at one example at a time"

# Dropout may hide in one draw how examples mix.
_DRAWS = 10


def refuse_example_mixing(model: tf.keras.Model) -> None:
    """Refuses a model in which examples of a batch influence each other.

    Under example-level differential privacy each example's gradient is clipped by itself. That
    bounds an example's influence only if no other example's gradient depends on it.

    Batch normalization is found by its type, wherever it is nested. Layers of the user's own are
    found by what they do to a random batch: whether the first example's outputs change with the
    second example, or have a gradient with respect to it.

    Args:
        model: A model that has been built.

    Raises:
        UserError: if it mixes examples; names the layer, where one is known, and the substitute.
    """
    for layer in inspection.layers_of(model):
        if _is_batch_normalization(layer):
            raise UserError(
                f"Layer {layer.name} of the model is a {type(layer).__name__}, which mixes the "
                "examples of a batch, so example-level differential privacy cannot hold; "
                f"{_SUBSTITUTE}."
            )
    if _mixes_examples(model):
        raise UserError(
            "The model's outputs for one example depend on the other examples of the batch, so "
            f"example-level differential privacy cannot hold; {_SUBSTITUTE}."
        )


def refuse_regularization(model: tf.keras.Model) -> None:
    """Refuses a model with losses of its own, where only each example's loss is differentiated.

    Args:
        model: A model that has been built.

    Raises:
        UserError: if `model.losses` is not empty.
    """
    if model.losses:
        raise UserError(
            f"The model has {len(model.losses)} regularization losses, which belong to no example, "
            "so they cannot be clipped by example; build it without regularizers and add_loss."
        )


def refuse_moving_state(model: tf.keras.Model) -> None:
    """Refuses a model whose forward pass changes weights, as batch normalization's averages.

    In private training such weights would hold the data without noise. Federated clients send back
    what gradients changed. Averages that a client's forward pass moved
    would be lost, and the model evaluated with those it started from.

    Args:
        model: A model that has been built.

    Raises:
        UserError: if a call in training mode changes weights; names them and the substitute.
    """
    for layer in inspection.layers_of(model):
        if _is_batch_normalization(layer):
            raise UserError(
                f"Layer {layer.name} of the model is a {type(layer).__name__}, whose moving "
                f"averages federated training does not carry; {_SUBSTITUTE}."
            )
    before = model.get_weights()
    model(_batches_like_inputs(model)[0], training=True)
    moved = [
        weight.name
        for weight, old in zip(model.weights, before, strict=True)
        if not np.array_equal(weight.numpy(), old)
    ]
    if moved:
        model.set_weights(before)
        raise UserError(
            f"The model's forward pass changes its weights {', '.join(moved)}, which neither "
            "federated nor private training carries; leave out the layers that hold them."
        )


def _is_batch_normalization(layer):
    # SyncBatchNormalization is a subclass in one release of Keras and not in another.
    return any("BatchNormalization" in kind.__name__ for kind in type(layer).__mro__)


def _batches_like_inputs(model):
    """Two random batches of two examples, which differ in the second example only.

    All values are 0 or 1: models that read tokens often declare them as floats.
    """
    spec = tf.nest.flatten(model.save_spec())[0]
    first = tf.cast(inspection.random_batch(spec.shape[1:], "int32", 2), spec.dtype)
    return first, tf.concat([first[:1], 1 - first[1:]], axis=0)


def _mixes_examples(model):
    first, second = _batches_like_inputs(model)
    before = model.get_weights()
    mixes = any(_output_moves(model, first, second, training) for training in (False, True))
    if not mixes and first.dtype.is_floating:
        draws = _DRAWS if _is_random(model, first) else 1
        mixes = any(_has_gradient_across(model, first) for _ in range(draws))
    model.set_weights(before)
    return mixes


def _output_moves(model, first, second, training):
    outputs, again, changed = (
        model(batch, training=training)[0].numpy() for batch in (first, first, second)
    )
    # A model that is random, as with dropout, differs without mixing; its gradient still tells.
    return np.allclose(outputs, again) and not np.allclose(outputs, changed, atol=1e-6)


def _is_random(model, batch):
    one, other = (model(batch, training=True).numpy() for _ in range(2))
    return not np.array_equal(one, other)


def _has_gradient_across(model, batch):
    with tf.GradientTape() as tape:
        tape.watch(batch)
        outputs = model(batch, training=True)[0]
        # A plain sum has no gradient through a softmax.
        total = tf.reduce_sum(outputs * tf.random.stateless_normal(outputs.shape, (1, 2)))
    gradient = tape.gradient(total, batch)
    return gradient is not None and bool(np.any(gradient[1].numpy() != 0))
