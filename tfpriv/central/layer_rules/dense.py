"""Per-example gradients of dense layers."""

from collections.abc import Sequence

import tensorflow as tf

from tfpriv.central.layer_rules.rule import (
    FLUSHED,
    Materialized,
    PerExample,
    Tap,
    Watch,
    activate,
    squared_norms,
    sum_of_products,
)


def dense(layer: tf.keras.layers.Layer, inputs: tf.Tensor, watch: Watch) -> Tap | None:
    """The rule of `tf.keras.layers.Dense`, on [batch, ..., width].

    An example's gradient is the outer product of its input and its output's gradient, so its norm
    is the product of theirs (Goodfellow 2015, arXiv 1510.01799).
    """
    if inputs.shape.rank is None or None in inputs.shape[1:]:
        return None
    values = tf.linalg.matmul(inputs, layer.kernel)
    if layer.use_bias:
        values = tf.nn.bias_add(values, layer.bias)
    watch(values)

    def per_example(gradients):
        (gradient,) = gradients
        if inputs.shape.rank == 2:
            return _OuterProducts(inputs, gradient, layer.use_bias)
        return sequence_gradients(
            tf.reshape(inputs, [-1, inputs.shape[1:-1].num_elements(), inputs.shape[-1]]),
            tf.reshape(gradient, [-1, inputs.shape[1:-1].num_elements(), layer.units]),
            use_bias=layer.use_bias,
        )

    return Tap(output=activate(layer, values), watched=[values], per_example=per_example)


def sequence_gradients(
    inputs: tf.Tensor,
    gradient: tf.Tensor,
    *,
    use_bias: bool,
    shape: tf.TensorShape | Sequence[int] | None = None,
) -> PerExample:
    """Returns the gradients of a kernel that is applied at each of several positions.

    Args:
        inputs: [batch, positions, width].
        gradient: [batch, positions, units], of the outputs.
        use_bias: Whether there is a bias too.
        shape: The kernel's shape, if it is not [width, units].
    """
    positions, width, units = inputs.shape[1], inputs.shape[2], gradient.shape[2]
    shape = tf.TensorShape(shape or [width, units])
    if positions * positions * (width + units) < 2 * positions * width * units:
        return _PositionProducts(inputs, gradient, use_bias, shape)
    return _KernelProducts(inputs, gradient, use_bias, shape)


class _KernelProducts(Materialized):
    """The kernel's gradient of each example, by one batched matrix product."""

    def __init__(self, inputs, gradient, use_bias, shape) -> None:
        # The product is faster with its longer side last.
        self._is_transposed = gradient.shape[2] < inputs.shape[2]
        factors = (gradient, inputs) if self._is_transposed else (inputs, gradient)
        gradients = [tf.linalg.matmul(*factors, transpose_a=True)]
        if use_bias:
            gradients.append(tf.reduce_sum(gradient, axis=1))
        super().__init__(gradients)
        self._shape = shape

    def weighted_sum(self, weights):
        kernel, *bias = super().weighted_sum(weights)
        if self._is_transposed:
            kernel = tf.transpose(kernel)
        return [tf.reshape(kernel, self._shape), *bias]


class _OuterProducts(PerExample):
    """An outer product of two vectors for each example, of which only the vectors are held."""

    def __init__(self, inputs, gradient, use_bias) -> None:
        super().__init__([inputs, gradient])
        self._use_bias = use_bias

    def squared_norms(self):
        inputs, gradient = self._rows
        left, right = squared_norms(inputs), squared_norms(gradient)
        if self._use_bias:
            left += 1.0
        # What either lacks counts times the other.
        lacking = gradient.shape[1] * left + inputs.shape[1] * right + 1.0
        return left * right, FLUSHED * lacking

    def weighted_sum(self, weights):
        inputs, gradient = self._rows
        weighted = gradient * weights[:, tf.newaxis]
        sums = [tf.linalg.matmul(inputs, weighted, transpose_a=True)]
        if self._use_bias:
            sums.append(tf.linalg.matvec(gradient, weights, transpose_a=True))
        return sums


class _PositionProducts(PerExample):
    """A sum of outer products over few positions, whose norm the Gram matrices give.

    Li et al. 2021 (arXiv 2110.05679), section 4.
    """

    def __init__(self, inputs, gradient, use_bias, shape) -> None:
        super().__init__([inputs, gradient])
        self._use_bias, self._shape = use_bias, shape

    def squared_norms(self):
        inputs, gradient = self._rows
        right = tf.linalg.matmul(gradient, gradient, transpose_b=True)
        left = tf.linalg.matmul(inputs, inputs, transpose_b=True)
        products = right * left
        if self._use_bias:
            products += right
        # What an entry of either Gram matrix lacks counts times the other's, whose entries add up
        # to no more than the number of positions times its trace.
        positions, width, units = inputs.shape[1], inputs.shape[2], gradient.shape[2]
        lacking = units * (tf.linalg.trace(left) + positions) + width * tf.linalg.trace(right)
        return (
            tf.maximum(sum_of_products(products), 0.0),
            positions * FLUSHED * (lacking + positions),
        )

    def weighted_sum(self, weights):
        inputs, gradient = self._rows
        weighted = gradient * weights[:, tf.newaxis, tf.newaxis]
        flat = [tf.reshape(t, [-1, t.shape[-1]]) for t in (inputs, weighted)]
        sums = [tf.reshape(tf.linalg.matmul(*flat, transpose_a=True), self._shape)]
        if self._use_bias:
            sums.append(tf.reduce_sum(flat[1], axis=0))
        return sums
