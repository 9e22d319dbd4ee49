"""Refuses what a model may not hold under a certain kind of training."""

import collections

import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.models import structure
from tfpriv.models.side_effects import side_effects

SUBSTITUTE = "use GroupNormalization or LayerNormalization, which look at one example at a time"


def refuse_batch_normalization(model: tf.keras.Model, why: str) -> None:
    """Refuses a model with batch normalization, wherever it is nested.

    Args:
        model: A model that has been built.
        why: What is wrong with it, a clause that begins with "which" or "whose".

    Raises:
        UserError: with the layer's name and the substitute.
    """
    for layer in structure.layers_of(model):
        # SyncBatchNormalization is a subclass in one release of Keras and not in another.
        if any("BatchNormalization" in kind.__name__ for kind in type(layer).__mro__):
            raise UserError(
                f"Layer {layer.name} of the model is a {type(layer).__name__}, {why}; {SUBSTITUTE}."
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
    """Refuses a model that keeps or tells the data that it reads.

    In private training what it keeps would hold the data without noise: a moving average, a metric
    of `add_metric`, a variable that Keras does not track, a table, a queue, a Python list, a line
    on the terminal. Federated clients send back what gradients changed, and the rest would be lost.

    The forward pass, in training and outside it, and the gradient with respect to the weights are
    traced as training traces them, and every operation with a side effect is refused. Two kinds
    are not: reads, and draws of random numbers by TensorFlow's operations or by the generators of
    Keras's own layers, as dropout. The state of a generator is a function of its seed and of the
    sizes drawn, and so of the sizes of batches, which may be private; `FrozenState` keeps it out of
    what is saved. A generator of the user's own is refused, as nothing says what sizes it draws.

    Python code that behaves otherwise when it is traced again is not seen through.

    Args:
        model: A model that has been built.

    Raises:
        UserError: if the model keeps or tells what it reads; names the operation and what to do.
    """
    refuse_batch_normalization(model, "whose moving averages federated training does not carry")
    for traced in _traces(model):
        for effect in side_effects(traced, _generator_states(model)):
            raise UserError(_message(effect))
    _refuse_kept_tensors(model)


def _traces(model):
    spec = structure.input_spec(model)

    @tf.function
    def gradient(batch):
        with tf.GradientTape() as tape:
            outputs = model(batch, training=True)
        return tape.gradient(outputs, model.trainable_weights)

    @tf.function
    def evaluation(batch):
        return model(batch, training=False)

    for function in (gradient, evaluation):
        yield function.get_concrete_function(spec)


def _generator_states(model):
    # One that has not drawn yet may not have its generator.
    held = structure.random_generators_of(model)
    generators = [getattr(held_object, "_generator", None) for held_object in held]
    return [
        held_object.state
        for held_object in generators
        if isinstance(held_object, tf.random.Generator)
    ]


def _message(effect):
    where = f"({effect.op} in {effect.node})"
    if effect.runs_python:
        return (
            f"The model runs Python code {where}, which could keep the data that it reads, as "
            "neither federated nor private training allows; write it with TensorFlow's operations."
        )
    if effect.variable is not None:
        return (
            f"The model's forward pass writes to the variable {effect.variable.name} {where}, "
            "which neither federated nor private training allows, as it could hold the data "
            "without noise; leave out the layer or the metric that does."
        )
    return (
        f"The model's forward pass does more than make outputs {where}, which neither federated "
        "nor private training allows, as it could keep or show the data without noise; leave it "
        "out."
    )


def _refuse_kept_tensors(model):
    """Refuses a layer that keeps a tensor of its traced call, as in a Python list."""
    for layer in [model, *structure.layers_of(model)]:
        for name, value in vars(layer).items():
            # Keras's own: the same values, wrapped, and the regularizers'.
            if name.startswith("_self_") or name == "_losses":
                continue
            if any(tf.is_symbolic_tensor(leaf) for leaf in _leaves(value)):
                raise UserError(
                    f"Layer {layer.name} of the model keeps what it computes in its attribute "
                    f"{name!r}, which neither federated nor private training allows; leave that "
                    "out."
                )


def _leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple | set | collections.deque):
        return [value]
    return [leaf for part in value for leaf in _leaves(part)]
