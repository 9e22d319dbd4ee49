"""Finds out what a model's outputs mean, and refuses a model that cannot be trained."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike

from tfpriv.errors import UserError
from tfpriv.models.messages import first_line
from tfpriv.models.structure import is_keras, layers_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What training needs to know of a model.

    Attributes:
        from_logits: Whether a classifier's outputs are logits; False for probabilities. True for
            regression, where it means nothing.
        num_parameters: How many numbers training changes.
        has_regularization: Whether the model has losses of its own (`model.losses`), such as weight
            decay, that the trainer must add to the objective.
        notes: Sentences to show the user.
    """

    from_logits: bool
    num_parameters: int
    has_regularization: bool
    notes: tuple[str, ...]


def inspect(
    model: tf.keras.Model,
    input_shape: Sequence[int],
    num_classes: int,
    task: str = "classification",
    *,
    input_dtype: DTypeLike = "float32",
    label_shape: Sequence[int] = (),
) -> ModelInfo:
    """Returns what training needs to know of a model.

    The model is called on random batches, and traced with its gradients as in training. Its weights
    are not changed.

    Args:
        model: The model; one without weights yet is built.
        input_shape: The shape of one example.
        num_classes: The number of classes; 1 for regression.
        task: "classification" or "regression".
        input_dtype: The examples' dtype. Integers are text tokens.
        label_shape: The shape of one label.

    Raises:
        UserError: if it is not a Keras model, is not float32 throughout, keeps a state from batch
            to batch, cannot read a batch of such examples, gives outputs of another shape or
            values that are not finite, or nothing in it can be trained or saved.
    """
    check_type(model, "The model is")
    outputs = predict(model, random_batch(input_shape, input_dtype, 2))
    _check_precision(model)
    shape = [*label_shape, num_classes]
    _check_output(outputs, shape, num_classes, task)
    _check_finite(model, outputs)
    has_regularization = bool(model.losses)
    unused = _check_trainable(model, input_shape, input_dtype)
    from_logits = True
    if task == "classification":
        from_logits = _makes_logits(model, random_batch(input_shape, input_dtype, 32))
    return ModelInfo(
        from_logits=from_logits,
        num_parameters=int(sum(np.prod(v.shape) for v in model.trainable_weights)),
        has_regularization=has_regularization,
        notes=(
            *_compile_notes(model),
            *_frozen_notes(model),
            *_unused_notes(unused),
            *_saving_notes(model),
        ),
    )


def random_batch(
    input_shape: Sequence[int], input_dtype: DTypeLike, batch_size: int, seed: int = 0
) -> tf.Tensor:
    """Returns examples of no meaning: numbers in [0, 1), or tokens 0 and 1 for integers."""
    generator = np.random.default_rng(seed)
    values = generator.random((batch_size, *input_shape))
    if np.issubdtype(np.dtype(input_dtype), np.integer):
        values = np.rint(values)
    return tf.constant(values.astype(input_dtype))


def check_type(model: object, says: str) -> None:
    """Refuses what is not a Keras model.

    Args:
        model: What was returned.
        says: How the message begins, for example "--model=a.py:f returned".

    Raises:
        UserError: if it is not a `tf.keras.Model`.
    """
    if isinstance(model, tf.keras.Model):
        return
    kind = f"{type(model).__module__}.{type(model).__qualname__}".removeprefix("builtins.")
    if isinstance(model, type) and issubclass(model, tf.keras.Model):
        returned, remedy = f"the class {model.__name__} itself", f"return {model.__name__}(...)"
    elif isinstance(model, tf.keras.layers.Layer):
        returned, remedy = f"a layer ({kind})", "return tf.keras.Sequential([...]) with it inside"
    elif model is None:
        returned, remedy = "None", "return the model at the end of the function"
    else:
        returned, remedy = f"an object of type {kind}", "return one tf.keras.Model"
    raise UserError(f"{says} {returned}, not a tf.keras.Model; {remedy}.")


def predict(model: tf.keras.Model, batch: tf.Tensor) -> tf.Tensor:
    """Returns the model's outputs for a batch, building the model if need be.

    Raises:
        UserError: if the model cannot read the batch, keeps a state from batch to batch, or reads
            batches of one size only.
    """
    _check_stateless(model)
    _check_batch_is_free(model)
    try:
        if isinstance(model, tf.keras.Sequential) and not model.built:
            # Built by the batch itself, it would take the batch's size for part of its input shape.
            model(tf.keras.Input(batch.shape[1:], dtype=batch.dtype))
        return model(batch, training=False)
    except Exception as error:
        raise UserError(
            f"The model cannot read a batch of shape {list(batch.shape)} and dtype "
            f"{batch.dtype.name} ({first_line(error)}); build it for the input shape that it is "
            "given."
        ) from error


def _check_batch_is_free(model):
    for tensor in tf.nest.flatten(model.inputs or []):
        if tensor.shape[0] is not None:
            raise UserError(
                f"The model reads batches of exactly {tensor.shape[0]} examples, and batches "
                "differ in size; leave batch_size out of its input."
            )


def _check_precision(model):
    for layer in layers_of(model):
        for dtype in (layer.compute_dtype, *(weight.dtype for weight in layer.trainable_weights)):
            dtype = tf.as_dtype(dtype or "float32")
            if dtype.is_floating and dtype != tf.float32:
                raise UserError(
                    f"Layer {layer.name} of the model computes in {dtype.name}, and gradients are "
                    "clipped, noised and summed in float32; build the model in float32, without a "
                    "mixed-precision policy."
                )


def _check_stateless(model):
    for layer in layers_of(model):
        if getattr(layer, "stateful", False):
            raise UserError(
                f"Layer {layer.name} of the model is stateful, so one batch would leak into the "
                "next; build it with stateful=False."
            )


def _check_output(outputs, shape, num_classes, task):
    if not tf.is_tensor(outputs):
        raise UserError(
            f"The model returns a {type(outputs).__name__} of outputs; return one tensor of shape "
            f"{_batch_shape(shape)}."
        )
    output_shape = list(outputs.shape[1:])
    # Two classes may have one output; see `Objective.of_classes`.
    is_one_of_two = num_classes == 2 and output_shape == [*shape[:-1], 1]
    is_fit = output_shape == shape or (task == "regression" and output_shape == [])
    if not is_fit and not is_one_of_two:
        remedy = f"give its last layer {num_classes} units"
        if output_shape[:-1] != shape[:-1]:
            remedy = f"let it end in {num_classes} outputs for each label"
        wanted = "regression needs" if task == "regression" else f"{num_classes} classes need"
        raise UserError(
            f"The model's output has shape {_batch_shape(output_shape)}, and {wanted} "
            f"{_batch_shape(shape)}; {remedy}."
        )
    if outputs.shape[0] != 2:
        raise UserError(
            f"The model makes {outputs.shape[0]} outputs of a batch of 2 examples; return one row "
            "for each example."
        )
    if outputs.dtype != tf.float32:
        raise UserError(
            f"The model's outputs are {outputs.dtype.name}; return float32 scores, one a class."
        )


def _batch_shape(shape):
    return "[" + ", ".join(["batch", *map(str, shape)]) + "]"


def _check_finite(model, outputs):
    for weight in model.weights:
        if weight.dtype.is_floating and not np.all(np.isfinite(weight.numpy())):
            raise UserError(
                f"The model's initial weight {weight.name} holds values that are not finite; "
                "correct its initial value."
            )
    if not np.all(np.isfinite(outputs.numpy())):
        raise UserError(
            "The model's outputs are not finite for inputs between 0 and 1; look for a division "
            "by zero or a logarithm of zero in it."
        )


def _check_trainable(model, input_shape, input_dtype):
    """Traces a training step; returns the names of weights that the outputs do not depend on."""
    if not model.trainable_weights:
        raise UserError(
            "The model has no weights to train; add a layer with weights, or set trainable=True."
        )
    reached: list[bool] = []

    @tf.function
    def step(batch):
        with tf.GradientTape() as tape:
            outputs = model(batch, training=True)
        gradients = tape.gradient(outputs, model.trainable_weights)
        reached.extend(gradient is not None for gradient in gradients)

    spec = tf.TensorSpec([None, *input_shape], tf.as_dtype(input_dtype))
    try:
        step.get_concrete_function(spec)
    except Exception as error:
        raise UserError(
            "The model runs eagerly but not inside a TensorFlow graph with a batch of any size, "
            f"as training runs it ({first_line(error)}); make its call of TensorFlow operations "
            "only, without numpy and without new weights."
        ) from error
    if not any(reached):
        raise UserError(
            "No gradient reaches the model's weights; make its outputs of operations that have a "
            "gradient, not of argmax, rounding or numpy."
        )
    weights = zip(model.trainable_weights, reached, strict=True)
    return [weight.name for weight, is_reached in weights if not is_reached]


def _makes_logits(model, batch):
    """Says whether a classifier makes logits, and not probabilities, by what its outputs are.

    At its first weights logits may lie between 0 and 1 by chance; so other weights are tried.

    Raises:
        UserError: if several classes have probabilities that do not sum to 1.
    """
    outputs = [predict(model, batch).numpy(), *_outputs_elsewhere(model, batch)]
    outputs = [values[np.isfinite(values).all(axis=-1)] for values in outputs]
    if not all(np.all((values >= 0) & (values <= 1)) for values in outputs):
        return True
    if outputs[0].shape[-1] == 1:
        return False
    if all(np.allclose(values.sum(axis=-1), 1, rtol=0, atol=1e-4) for values in outputs):
        return False
    raise UserError(
        "The model's outputs lie between 0 and 1 and do not sum to 1, as those of sigmoids, and a "
        "class is one of several; use a softmax or no activation at its end."
    )


def _outputs_elsewhere(model, batch):
    """Yields outputs at random weights, large enough for logits to leave [0, 1]."""
    first = [weight.numpy() for weight in model.trainable_weights]
    generator = np.random.default_rng(0)
    try:
        for _ in range(3):
            for weight in model.trainable_weights:
                fan_in = max(1, int(np.prod(weight.shape[:-1])))
                drawn = generator.normal(0, 3 / np.sqrt(fan_in), weight.shape)
                weight.assign(drawn.astype(np.float32))
            yield predict(model, batch).numpy()
    finally:
        for weight, value in zip(model.trainable_weights, first, strict=True):
            weight.assign(value)


def _compile_notes(model):
    config = model.get_compile_config()
    if not config:
        return
    named = [f"optimizer {type(model.optimizer).__name__}"]
    if model.loss:
        named.append(f"loss {_name(model.loss)}")
    if config.get("metrics") or config.get("weighted_metrics"):
        named.append("metrics")
    yield (
        f"The model is compiled; its compile settings ({', '.join(named)}) are not used: the flags "
        "decide."
    )


def _name(loss):
    if isinstance(loss, str):
        return loss
    return getattr(loss, "__name__", type(loss).__name__)


def _frozen_notes(model):
    frozen = int(sum(np.prod(v.shape) for v in model.non_trainable_weights))
    if frozen:
        yield f"{frozen:,} of the model's {model.count_params():,} parameters are not trained."


def _unused_notes(unused):
    if unused:
        yield f"The outputs do not depend on {', '.join(unused)}, which nothing is learned for."


def _saving_notes(model):
    """Tries to describe the model as a file will; a run must not fail when it ends."""
    layers = [model, *layers_of(model)]
    own_classes = sorted({type(layer).__name__ for layer in layers if not is_keras(type(layer))})
    lambdas = [layer.name for layer in layers if isinstance(layer, tf.keras.layers.Lambda)]
    if not own_classes and not lambdas:
        return
    try:
        tf.keras.saving.serialize_keras_object(model)
    except Exception as error:
        raise UserError(
            f"The model cannot be saved ({first_line(error)}); give its own layers a get_config "
            "method."
        ) from error
    if own_classes:
        classes = ", ".join(f"'{name}': {name}" for name in own_classes)
        yield (
            "To load the saved model, give load_model the classes of its own: "
            f"custom_objects={{{classes}}}."
        )
    if lambdas:
        yield (
            f"To load the saved model, give load_model safe_mode=False, as {', '.join(lambdas)} "
            "holds Python code."
        )
