"""The same training in plaintext: the same first weights, batches and steps, in floats."""

import numpy as np
import tensorflow as tf

from tfpriv.secure.training import objectives, optimizers
from tfpriv.secure.training.config import SecureTrainingConfig
from tfpriv.secure.training.task import Task

_BATCH = 1000
_NOISE_STREAM = 0x9A1


class PlainTraining:
    """What a secure run is printed beside.

    Attributes:
        model: A copy of the model, which is trained.
    """

    def __init__(
        self,
        task: Task,
        model: tf.keras.Model,
        config: SecureTrainingConfig,
        noise_stddev: float = 0.0,
    ) -> None:
        """Takes a copy of the model as it is now.

        Args:
            task: The examples.
            model: The model with its initial weights.
            config: A complete SecureTrainingConfig; with a clip_norm, each example's gradient is
                clipped.
            noise_stddev: Of the noise on the sum of clipped gradients, from NumPy's ordinary
                generator: for comparison, not for privacy.
        """
        self.model = tf.keras.models.clone_model(model)
        self.model.set_weights(model.get_weights())
        self._task = task
        self._optimizer = optimizers.plain(self.model.trainable_weights, config)
        self._clip_norm = config.clip_norm
        self._noise_stddev = noise_stddev
        self._random = np.random.default_rng((config.seed, _NOISE_STREAM))
        # Poisson samples have all sizes.
        examples = tf.TensorSpec([None, *task.train_features.shape[1:]])
        labels = tf.TensorSpec([None, *task.train_labels.shape[1:]])
        self._gradients = tf.function(self._summed, input_signature=[examples, labels])
        self._apply = tf.function(self._optimizer.apply)

    def step(self, rows: np.ndarray, number: int) -> None:
        """Trains on a batch of training examples; steps count from 1."""
        gradients = self._gradients(self._task.train_features[rows], self._task.train_labels[rows])
        if self._noise_stddev:
            gradients = [
                g + self._random.normal(0, self._noise_stddev, g.shape).astype(np.float32)
                for g in gradients
            ]
        self._apply(gradients, tf.constant(number, tf.float64))

    def answers(self, features: np.ndarray) -> np.ndarray:
        """Returns the outputs for examples, [n, outputs]."""
        return answers(self.model, features)

    def _summed(self, features, labels):
        weights = self.model.trainable_weights
        with tf.GradientTape() as tape:
            losses = loss(self._task.objective, labels, self.model(features))
        if self._clip_norm is None:
            return tape.gradient(losses, weights)
        example_gradients = tape.jacobian(losses, weights)
        squares = [tf.reduce_sum(g**2, axis=range(1, len(g.shape))) for g in example_gradients]
        factors = self._clip_norm / tf.maximum(tf.sqrt(tf.add_n(squares)), self._clip_norm)
        return [tf.tensordot(factors, g, axes=1) for g in example_gradients]


def loss(objective: str, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the loss of each example, whose gradient is `objectives.gradient` on shares."""
    if objective == objectives.SOFTMAX:
        return tf.nn.softmax_cross_entropy_with_logits(labels, outputs)
    if objective == objectives.SIGMOID:
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, outputs)
    else:
        losses = tf.square(outputs - labels)
    return tf.reduce_sum(losses, axis=1)


def answers(model: tf.keras.Model, features: np.ndarray) -> np.ndarray:
    """Returns a model's outputs for examples, [n, outputs]."""
    parts = [model(features[i : i + _BATCH]).numpy() for i in range(0, len(features), _BATCH)]
    return np.concatenate(parts)
