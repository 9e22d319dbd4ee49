"""A Keras model as a pure function of its weights, in the form that TFF runs on clients."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfpriv.errors import UserError
from tfpriv.federated.examples import Examples
from tfpriv.models import Objective

Weights = tuple[tf.Tensor, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalModel:
    """What clients train: a function of weights and examples, and where the examples lie.

    Attributes:
        predict: (weights, features) -> outputs; only for use in a graph.
        weights_type: TFF's type of `ModelWeights`, without non-trainable weights.
        objective: What the outputs mean.
        examples: The training set.
    """

    predict: Callable[[Weights, tf.Tensor], tf.Tensor]
    weights_type: tff.StructType
    objective: Objective
    examples: Examples

    def read(self, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns features and labels of a batch of row numbers, [width] int32, -1 for none."""
        return self.examples.rows(tf.boolean_mask(batch, batch >= 0))

    def gradient(self, weights: Weights, features: tf.Tensor, labels: tf.Tensor):
        """Returns the gradient of the mean loss, and the sums of loss and right answers."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            outputs = self.predict(weights, features)
            losses = self.objective.loss(labels, outputs)
            loss = tf.reduce_mean(losses)
        gradient = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return gradient, self.sums(losses, labels, outputs)

    def sums(self, losses: tf.Tensor, labels: tf.Tensor, outputs: tf.Tensor):
        """Returns the sums over a batch of loss and right answers (0 for regression)."""
        if self.objective.task == "regression":
            correct = tf.zeros([])
        else:
            correct = tf.reduce_sum(self.objective.correct(labels, outputs))
        return tf.reduce_sum(losses), correct


def build_local_model(
    build: Callable[[], tf.keras.Model],
    model: tf.keras.Model,
    objective: Objective,
    examples: Examples,
) -> LocalModel:
    """Returns the functional form of a Keras model.

    TFF builds the model anew inside each client's graph, with tensors in the place of variables.

    Args:
        build: Builds the model; may be called several times and must build the same one.
        model: One that it built, with the weights to start from.
        objective: What the outputs mean.
        examples: The training set.

    Raises:
        UserError: if TFF cannot take the model, or its functional form gives other outputs.
    """
    features, labels = examples.features.array, examples.labels.array
    spec = tuple(
        tf.TensorSpec((None, *a.shape[1:]), tf.as_dtype(a.dtype)) for a in (features, labels)
    )
    try:
        functional = tff.learning.models.functional_model_from_keras(
            build, tf.keras.losses.MeanSquaredError(), spec
        )
        _check_same_outputs(functional, model, features[:4])
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"TFF cannot run the model {model.name!r} on clients ({type(error).__name__}: "
            f"{_first_line(error)}); build it from plain Keras layers whose weights are made in "
            "their constructors or build methods."
        ) from error

    def predict(weights, features):
        return functional.predict_on_batch((weights, ()), features, True)

    return LocalModel(
        predict=predict,
        weights_type=weights_type(model),
        objective=objective,
        examples=examples,
    )


def weights_type(model: tf.keras.Model) -> tff.StructType:
    """Returns TFF's type of a model's trainable weights."""
    trainable = tuple((np.float32, tuple(v.shape)) for v in model.trainable_weights)
    return tff.types.to_type(tff.learning.models.ModelWeights(trainable, ()))


def _check_same_outputs(functional, model, features):
    weights = model.get_weights()
    shapes = [tuple(w.shape) for w in functional.initial_weights[0]]
    if shapes != [w.shape for w in weights]:
        raise UserError(
            f"the model {model.name!r} makes its weights in the order of shapes {shapes} but lists "
            f"them as {[w.shape for w in weights]}; make its layers in the order of their use."
        )
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tensors = tuple(tf.constant(w) for w in weights)
        outputs = functional.predict_on_batch((tensors, ()), tf.constant(features), False)
        found = session.run(outputs)
    expected = np.asarray(model(features, training=False))
    if not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
        raise UserError(
            f"the model {model.name!r} gives other outputs when it is built anew with the same "
            "weights; its function must build the same model each time and use weights in the "
            "order in which they are made."
        )


def _first_line(error):
    lines: Sequence[str] = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
