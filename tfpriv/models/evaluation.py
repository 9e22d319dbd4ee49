"""Evaluates a model on whole arrays."""

import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.models.objective import Objective


def evaluate(
    model: tf.keras.Model,
    features: np.ndarray,
    labels: np.ndarray,
    objective: Objective,
    batch_size: int = 1000,
    label_scale: float = 1.0,
) -> dict[str, float]:
    """Returns a model's mean loss and its accuracy or error over all examples.

    The graph is traced at the first call for a model and used again at later ones, whatever the
    number of examples. Sums are kept in float64.

    Args:
        model: A built model.
        features: Shape `[n, ...]`.
        labels: Shape `[n]`, or `[n, length]` for a label at each position.
        objective: What the outputs mean.
        batch_size: Examples in a batch; the last one may be smaller.
        label_scale: What one unit of a regression label is worth in the data's own units.

    Returns:
        `loss`, the mean over examples, and for classification `accuracy` in [0, 1], for regression
        `rmse`, the root of the mean squared error times `label_scale`.

    Raises:
        UserError: if there are no examples, or not as many labels as examples.
    """
    if len(features) != len(labels) or not len(features):
        raise UserError(
            f"There are {len(features)} examples and {len(labels)} labels to evaluate on; give at "
            "least one example, and one label for each."
        )
    sums = _batch_sums(model, objective, _batch_spec(features), _batch_spec(labels))
    loss = correct = 0.0
    for start in range(0, len(features), batch_size):
        batch = slice(start, start + batch_size)
        batch_loss, batch_correct = sums(
            tf.convert_to_tensor(features[batch]), tf.convert_to_tensor(labels[batch])
        )
        loss += float(batch_loss)
        correct += float(batch_correct)
    loss /= len(features)
    if objective.task == "regression":
        return {"loss": loss, "rmse": loss**0.5 * label_scale}
    return {"loss": loss, "accuracy": correct / len(features)}


def notes_on_baseline(test: Mapping[str, float], baseline: Mapping[str, float]) -> tuple[str, ...]:
    """Returns what to say of a model that is no better than a constant answer.

    Args:
        test: test_accuracy or test_rmse.
        baseline: As `datasets.Dataset.baseline`.
    """
    accuracy, majority = test.get("test_accuracy"), baseline.get("baseline_accuracy")
    remedy = "the model has learned nothing; scale the features, or see docs/choosing.md."
    if accuracy is not None and majority is not None and accuracy <= majority:
        return (
            f"the test accuracy, {accuracy:.1%}, is not above the {majority:.1%} of always "
            f"answering the most frequent class: {remedy}",
        )
    error, spread = test.get("test_rmse"), baseline.get("baseline_rmse")
    if error is not None and spread is not None and error >= spread:
        return (
            f"the test error, {error:.4g}, is not below the {spread:.4g} of always answering the "
            f"mean: {remedy}",
        )
    return ()


def _batch_spec(array):
    return tf.TensorSpec([None, *array.shape[1:]], array.dtype)


# Few, so that the graphs and weights of models no longer in use are let go.
@functools.lru_cache(maxsize=4)
def _batch_sums(model, objective, feature_spec, label_spec):
    @tf.function
    def sums(features, labels):
        outputs = model(features, training=False)
        loss = tf.reduce_sum(tf.cast(objective.loss(labels, outputs), tf.float64))
        if objective.task == "regression":
            return loss, tf.zeros([], tf.float64)
        return loss, tf.reduce_sum(tf.cast(objective.correct(labels, outputs), tf.float64))

    return sums.get_concrete_function(feature_spec, label_spec)
