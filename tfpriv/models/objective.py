"""What a model is trained and judged by, the same in every kind of training."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss, and the fraction of right answers, of each example by itself.

    Both functions are made of TensorFlow operations and work eagerly, in a `tf.function`, and in
    a TFF computation.

    Attributes:
        task: "classification" (cross-entropy) or "regression" (squared error).
        from_logits: Whether a classifier's outputs are logits, not probabilities.
    """

    task: str
    from_logits: bool = True

    def __post_init__(self) -> None:
        if self.task not in ("classification", "regression"):
            raise ValueError(f"task is {self.task!r}; it must be 'classification' or 'regression'")

    def loss(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each example, float32 of shape `[batch]`.

        Args:
            labels: Classes as integers of shape `[batch]` or, for a label at each position,
                `[batch, length]`, whose losses are averaged over the positions. For regression,
                numbers of shape `[batch]` or `[batch, 1]`.
            outputs: Float32 of the labels' shape with the classes as one more axis, or one output
                for two classes; see `of_classes`. For regression, of shape `[batch]` or
                `[batch, 1]`, whichever shape the labels have.
        """
        if self.task == "regression":
            return tf.square(_numbers(outputs) - _numbers(labels))
        losses = tf.keras.losses.sparse_categorical_crossentropy(
            labels, self.of_classes(outputs), from_logits=self.from_logits
        )
        return _mean_by_example(losses)

    def of_classes(self, outputs: tf.Tensor) -> tf.Tensor:
        """Returns a classifier's outputs, one for each class.

        Where two classes have one output, it is the second one's logit or probability.

        Args:
            outputs: Float32 of the labels' shape with the classes, or one output for two classes,
                as one more axis.
        """
        if outputs.shape[-1] != 1:
            return outputs
        others = tf.zeros_like(outputs) if self.from_logits else 1.0 - outputs
        return tf.concat([others, outputs], axis=-1)

    def correct(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Returns the fraction of right answers of each example, float32 of shape `[batch]`.

        An answer is the class of the largest output; the fraction is 0 or 1, or a mean over the
        positions.

        Args:
            labels: As for `loss`.
            outputs: As for `loss`.

        Raises:
            ValueError: for regression, where no answer is right or wrong.
        """
        if self.task == "regression":
            raise ValueError("regression has no right answers to count")
        answers = tf.argmax(self.of_classes(outputs), axis=-1, output_type=tf.int32)
        return _mean_by_example(tf.cast(tf.equal(answers, tf.cast(labels, tf.int32)), tf.float32))


def _numbers(values):
    """Gives labels and outputs one shape: [batch, 1] less [batch] would be [batch, batch]."""
    values = tf.cast(values, tf.float32)
    return tf.reshape(values, [tf.shape(values)[0]])


def _mean_by_example(values):
    return tf.reduce_mean(values, axis=tf.range(1, tf.rank(values)))
