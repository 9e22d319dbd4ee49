"""A Keras model as a pure function of its weights, in the form that TFF runs on clients."""

import dataclasses
from collections.abc import Callable
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfpriv.errors import UserError
from tfpriv.federated.examples import Examples
from tfpriv.models import Objective
from tfpriv.models.inspection import random_batch
from tfpriv.models.messages import first_line

Weights = tuple[tf.Tensor, ...]
# The sums of loss and right answers over some examples.
Sums = tuple[tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalModel:
    """What clients train: a function of weights and examples, and where the examples lie.

    Attributes:
        predict: (weights, frozen weights, features) -> outputs.
        weights_type: TFF's type of `ModelWeights`.
        objective: What the outputs mean.
        examples: The training set.
    """

    predict: Callable[[Weights, Weights, tf.Tensor], tf.Tensor]
    weights_type: tff.StructType
    objective: Objective
    examples: Examples

    def read(self, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns features and labels of a batch of row numbers, [width] int32, -1 for none."""
        return self.examples.rows(tf.boolean_mask(batch, batch >= 0))

    def zeros(self) -> Weights:
        """Returns zeros of the shapes of the trainable weights."""
        return tuple(tf.zeros(t.shape, t.dtype.type) for t in self.weights_type.trainable)

    def gradient(
        self, weights: Weights, frozen: Weights, features: tf.Tensor, labels: tf.Tensor
    ) -> tuple[Weights, Sums]:
        """Returns the gradient of the mean loss, and the sums of loss and right answers."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            outputs = self.predict(weights, frozen, features)
            losses = self.objective.loss(labels, outputs)
            loss = tf.reduce_mean(losses)
        gradient = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # An embedding's gradient comes as slices of which several may be of one row; only their sum
        # has the norm that is to be clipped.
        gradient = tuple(map(tf.convert_to_tensor, gradient))
        return gradient, self.sums(losses, labels, outputs)

    def sums(self, losses: tf.Tensor, labels: tf.Tensor, outputs: tf.Tensor) -> Sums:
        """Returns the sums over a batch of loss and right answers (0 for regression)."""
        if self.objective.task == "regression":
            correct = tf.zeros([])
        else:
            correct = tf.reduce_sum(self.objective.correct(labels, outputs))
        return tf.reduce_sum(losses), correct


def build_local_model(
    rebuild: Callable[[], tf.keras.Model],
    model: tf.keras.Model,
    objective: Objective,
    examples: Examples,
) -> LocalModel:
    """Returns the functional form of a Keras model.

    Args:
        rebuild: Builds the model anew inside a graph that is being traced.
        model: What it builds, with the weights to start from.
        objective: What the outputs mean.
        examples: The training set.

    Raises:
        UserError: if the model cannot be made a pure function of its weights.
    """
    features = examples.features.array
    spec = tf.TensorSpec((None, *features.shape[1:]), tf.as_dtype(features.dtype))
    try:
        predict = _trace(rebuild, model, spec)
        # What it finds shows, so it looks at no example of anybody's.
        stand_ins = random_batch(features.shape[1:], features.dtype, 4)
        _check_same_outputs(predict, model, stand_ins)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the model {model.name!r} cannot be run on clients ({first_line(error)}); build it "
            "from Keras layers whose weights are made in their constructors or build methods and "
            "change only by training."
        ) from error
    return LocalModel(
        predict=predict,
        weights_type=weights_type(model),
        objective=objective,
        examples=examples,
    )


def _trace(rebuild, model, spec):
    """Returns (weights, frozen weights, features) -> outputs as one traced function.

    The model is built inside the trace with tensors in the place of its variables, as
    `tff.learning.models.functional_model_from_keras` does it. That builds in a `tf.Graph`, where
    Keras turns to its first version and breaks the models made before.
    """
    created = _variables_in_order(rebuild, spec)

    @tf.function(autograph=False)
    def predict(weights, frozen, features):
        # A graph that is traced in eager mode has TensorFlow's global seed, and with it dropout
        # would begin with the same mask in every client and round.
        tf.compat.v1.get_default_graph().seed = None
        coming = iter(created)

        def instead_of_variable(_, **arguments):
            kind, index = _next_role(coming, arguments.get("name"), model)
            if kind == "trainable":
                return weights[index]
            if kind == "frozen":
                return frozen[index]
            # Not a weight, as an optimizer's step count; nothing depends on it.
            value = arguments["initial_value"]
            return tf.convert_to_tensor(value() if callable(value) else value)

        with tf.variable_creator_scope(instead_of_variable), _plain_layer_normalization():
            return rebuild()(features, training=True)

    trainable_specs, frozen_specs = (
        tuple(tf.TensorSpec(v.shape, v.dtype) for v in variables)
        for variables in (model.trainable_weights, model.non_trainable_weights)
    )
    traced = predict.get_concrete_function(trainable_specs, frozen_specs, spec)
    if traced.captured_inputs:
        raise UserError(
            f"the model {model.name!r} reads {len(traced.captured_inputs)} values that are not "
            "among its weights; give its layers all they need in their constructors."
        )
    return lambda weights, frozen, features: traced(tuple(weights), tuple(frozen), features)


def _plain_layer_normalization():
    """Has LayerNormalization compute its moments itself while it is traced.

    Keras normalizes by a fused batch normalization, whose oneDNN kernel corrupts the worker's
    memory where no gradient with respect to its input is wanted: behind the first layer, or
    behind frozen ones.
    """
    return mock.patch.object(
        tf.keras.layers.LayerNormalization, "_fused_can_be_used", lambda self, rank: False
    )


def _variables_in_order(rebuild, spec):
    """Returns (name, role) of each variable that building makes, in the order of their making.

    A role is ("trainable", i) or ("frozen", i) for the model's i-th weight of that kind, and
    (None, None) for what is no weight.
    """
    created = []

    def keep(create, **arguments):
        variable = create(**arguments)
        created.append((arguments.get("name"), variable))
        return variable

    with tf.variable_creator_scope(keep):
        model = rebuild()
        model(tf.zeros((1, *spec.shape[1:]), spec.dtype), training=True)
    roles = {id(v): ("trainable", i) for i, v in enumerate(model.trainable_weights)}
    roles |= {id(v): ("frozen", i) for i, v in enumerate(model.non_trainable_weights)}
    return [(name, roles.get(id(variable), (None, None))) for name, variable in created]


def _next_role(coming, name, model):
    """Moves on to the variable that is being made, over those that Keras makes outside functions
    only."""
    for expected, role in coming:
        if expected == name:
            return role
        if role[0] is not None:
            raise UserError(
                f"the model {model.name!r} makes a weight {name!r} where it made {expected!r} "
                "before; its function must build the same model each time."
            )
    return None, None


def weights_type(model: tf.keras.Model) -> tff.StructType:
    """Returns TFF's type of a model's weights, trainable and frozen."""
    trainable, frozen = (
        tuple((np.float32, tuple(v.shape)) for v in variables)
        for variables in (model.trainable_weights, model.non_trainable_weights)
    )
    return tff.types.to_type(tff.learning.models.ModelWeights(trainable, frozen))


def _check_same_outputs(predict, model, features):
    outputs = predict(model.trainable_weights, model.non_trainable_weights, features)
    expected = model(features, training=True)
    if _is_random(model, features) or np.allclose(outputs, expected, rtol=1e-4, atol=1e-4):
        return
    raise UserError(
        f"the model {model.name!r} gives other outputs when it is built anew with the same "
        "weights; its function must build the same model each time."
    )


def _is_random(model, features):
    """Says whether the model draws in training, as dropout does: no two outputs are the same."""
    first, second = (model(features, training=True) for _ in range(2))
    return not np.array_equal(first, second)
