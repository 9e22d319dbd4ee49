"""Per-example gradients of recurrent layers."""

import tensorflow as tf

from tfpriv.central.layer_rules.dense import sequence_gradients
from tfpriv.central.layer_rules.rule import PerExample, Tap, Watch


def lstm(layer: tf.keras.layers.Layer, inputs: tf.Tensor, watch: Watch) -> Tap | None:
    """The rule of `tf.keras.layers.LSTM` with its default activations, on [batch, steps, width].

    At each step the gates' pre-activations are a dense layer of the input and of the state before,
    so their gradients over all steps give those of both kernels and the bias.
    """
    steps = inputs.shape[1]
    if steps is None or not _is_plain(layer):
        return None
    cell = layer.cell
    projected = tf.linalg.matmul(inputs, cell.kernel)
    if cell.use_bias:
        projected = tf.nn.bias_add(projected, cell.bias)
    watch(projected)
    by_step = tf.TensorArray(tf.float32, steps).unstack(tf.transpose(projected, [1, 0, 2]))
    start = tf.zeros([tf.shape(inputs)[0], layer.units])

    def advance(step, state, carry, states):
        gates = by_step.read(step) + tf.linalg.matmul(state, cell.recurrent_kernel)
        enter, forget, candidate, leave = tf.split(gates, 4, axis=1)
        carry = tf.sigmoid(forget) * carry + tf.sigmoid(enter) * tf.tanh(candidate)
        state = tf.sigmoid(leave) * tf.tanh(carry)
        return step + 1, state, carry, states.write(step, state)

    _, last, _, states = tf.while_loop(
        lambda step, *_: step < steps,
        advance,
        (0, start, start, tf.TensorArray(tf.float32, steps, element_shape=start.shape)),
        maximum_iterations=steps,
    )
    every = tf.ensure_shape(tf.transpose(states.stack(), [1, 0, 2]), [None, steps, layer.units])

    def per_example(gradients):
        (gradient,) = gradients
        gradient = tf.ensure_shape(gradient, [None, steps, 4 * layer.units])
        before = tf.concat([start[:, tf.newaxis], every[:, :-1]], axis=1)
        return _Both(
            sequence_gradients(inputs, gradient, use_bias=cell.use_bias),
            sequence_gradients(before, gradient, use_bias=False),
        )

    return Tap(
        output=every if layer.return_sequences else last,
        watched=[projected],
        per_example=per_example,
    )


class _Both(PerExample):
    """The gradients of the kernel and the bias, and those of the recurrent kernel."""

    def __init__(self, inputs, states) -> None:
        super().__init__([])
        self._inputs, self._states = inputs, states

    def with_rows(self, change):
        return _Both(self._inputs.with_rows(change), self._states.with_rows(change))

    def squared_norms(self):
        both = zip(self._inputs.squared_norms(), self._states.squared_norms(), strict=True)
        return tuple(a + b for a, b in both)

    def weighted_sum(self, weights):
        kernel, *bias = self._inputs.weighted_sum(weights)
        return [kernel, *self._states.weighted_sum(weights), *bias]


def _is_plain(layer):
    return (
        layer.activation is tf.keras.activations.tanh
        and layer.recurrent_activation is tf.keras.activations.sigmoid
        and not layer.dropout
        and not layer.recurrent_dropout
        and not layer.go_backwards
        and not layer.stateful
        and not layer.return_state
        and not layer.time_major
    )
