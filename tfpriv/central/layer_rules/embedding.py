"""Per-example gradients of embeddings."""

import tensorflow as tf

from tfpriv.central.layer_rules.rule import FLUSHED, PerExample, Tap, Watch, sum_of_products


def embedding(layer: tf.keras.layers.Layer, inputs: tf.Tensor, watch: Watch) -> Tap | None:
    """The rule of `tf.keras.layers.Embedding`, on whole numbers of shape [batch, ...]."""
    if None in inputs.shape[1:]:
        return None
    output = type(layer).call(layer, inputs)
    watch(output)

    def per_example(gradients):
        positions = inputs.shape[1:].num_elements()
        return _Looked(
            tf.reshape(tf.cast(inputs, tf.int32), [-1, positions]),
            tf.reshape(gradients[0], [-1, positions, layer.output_dim]),
            layer.input_dim,
        )

    return Tap(output=output, watched=[output], per_example=per_example)


class _Looked(PerExample):
    """Gradients of the rows that each example looked up, of which some it looked up repeatedly."""

    def __init__(self, indices, gradient, num_rows) -> None:
        super().__init__([indices, gradient])
        self._num_rows = num_rows

    def squared_norms(self):
        indices, gradient = self._rows
        # Gradients of the same row add up before their norm is taken.
        same = indices[:, :, tf.newaxis] == indices[:, tf.newaxis, :]
        products = tf.linalg.matmul(gradient, gradient, transpose_b=True)
        positions, width = gradient.shape[1:]
        return (
            tf.maximum(sum_of_products(tf.where(same, products, 0.0)), 0.0),
            tf.constant(positions**2 * width * FLUSHED),
        )

    def weighted_sum(self, weights):
        indices, gradient = self._rows
        weighted = gradient * weights[:, tf.newaxis, tf.newaxis]
        return [
            tf.math.unsorted_segment_sum(
                tf.reshape(weighted, [-1, weighted.shape[2]]),
                tf.reshape(indices, [-1]),
                self._num_rows,
            )
        ]
