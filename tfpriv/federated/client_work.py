"""What a client does in a round, as a `tff.learning.templates.ClientWorkProcess`.

A client's data is one dense element, its batches (see `tfpriv.federated.batches`), and its work is
one `tf.while_loop`. TFF's own client loop is a `dataset.reduce`, which sets its body up again at
every call and is several times slower for small models.
"""

import collections
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfpriv.federated.canaries import Canaries
from tfpriv.federated.local_model import LocalModel

BATCHES_TYPE = tff.SequenceType(tff.TensorType(np.int32, [None, None]))

# What local training returns: the update (start less end, or a gradient) and the sums of loss and
# right answers.
LocalTraining = Callable[..., tuple]


def local_sgd(
    model: LocalModel,
    optimizer: tff.learning.optimizers.Optimizer,
    proximal_strength: float = 0.0,
) -> LocalTraining:
    """Returns FedAvg's local training (McMahan et al. 2017, Algorithm 1, ClientUpdate).

    With a `proximal_strength` mu above 0 it is FedProx's: mu/2 times the squared distance from the
    round's weights is added to the loss (Li et al. 2020, equation 2).
    """

    def train(start, frozen, batches, rate_factor):
        state = at_rate(initial_optimizer_state(optimizer, start), rate_factor)

        def step(weights, state, batch):
            gradient, sums = model.gradient(weights, frozen, *model.read(batch))
            if proximal_strength:
                gradient = tuple(
                    g + proximal_strength * (w - w0)
                    for g, w, w0 in zip(gradient, weights, start, strict=True)
                )
            state, weights = optimizer.next(state, weights, gradient)
            return weights, state, sums

        end, sums = loop(step, start, state, batches)
        return difference(start, end), sums

    return train


def full_gradient(model: LocalModel) -> LocalTraining:
    """Returns FedSGD's local work: the gradient of the mean loss over all of a client's examples.

    McMahan et al. 2017, section 2.
    """

    def train(start, frozen, batches, rate_factor):
        del rate_factor  # The server takes the only step.
        zeros = tuple(tf.zeros_like(w) for w in start)

        def step(total, state, batch):
            features, labels = model.read(batch)
            gradient, sums = model.gradient(start, frozen, features, labels)
            count = tf.cast(tf.shape(labels)[0], tf.float32)
            return tuple(t + count * g for t, g in zip(total, gradient, strict=True)), state, sums

        total, sums = loop(step, zeros, (), batches)
        count = tf.cast(count_examples(batches), tf.float32)
        return tuple(tf.math.divide_no_nan(t, count) for t in total), sums

    return train


def build_client_work(
    model: LocalModel,
    train: LocalTraining,
    *,
    rate_factor: Callable[[tf.Tensor], tf.Tensor],
    weigh: Callable[[tf.Tensor], tf.Tensor],
    measure: bool,
    canaries: Canaries | None = None,
) -> tff.learning.templates.ClientWorkProcess:
    """Composes local training with the round counter that schedules need, and with measurements.

    Args:
        model: What clients train.
        train: The local training.
        rate_factor: The factor of the client learning rate, by round.
        weigh: What a client's update weighs, by its number of examples in the round.
        measure: Whether to add up the clients' training loss and right answers, without noise.
        canaries: Clients that may be among the others and send directions; None if there are none.
    """
    if canaries is not None:
        train = canaries.beside(train)

    @tff.tensorflow.computation
    def initial_round():
        return tf.zeros([], tf.int32)

    @tff.tensorflow.computation(model.weights_type, BATCHES_TYPE, np.int32)
    def client_update(weights, data, round_number):
        batches = tf.data.Dataset.get_single_element(data)
        update, sums = train(
            tuple(weights.trainable),
            tuple(weights.non_trainable),
            batches,
            rate_factor(round_number),
        )
        finite = _has_finite_norm(update)
        count = tf.cast(count_examples(batches), tf.float32)
        counted = count if canaries is None else canaries.counted(batches, count)
        return _result(update, finite, counted, weigh), _measurements(sums, finite, count)

    @tff.tensorflow.computation(np.int32)
    def next_round(round_number):
        return round_number + 1

    @tff.federated_computation
    def initialize():
        return tff.federated_eval(initial_round, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.int32, tff.SERVER),
        tff.FederatedType(model.weights_type, tff.CLIENTS),
        tff.FederatedType(BATCHES_TYPE, tff.CLIENTS),
    )
    def work(state, weights, data):
        round_number = tff.federated_broadcast(state)
        result, local = tff.federated_map(client_update, (weights, data, round_number))
        return tff.templates.MeasuredProcessOutput(
            tff.federated_map(next_round, state), result, _add_up(local, measure)
        )

    return tff.learning.templates.ClientWorkProcess(initialize, work)


def build_mimelite_work(
    model: LocalModel,
    optimizer: tff.learning.optimizers.Optimizer,
    *,
    rate_factor: Callable[[tf.Tensor], tf.Tensor],
    weigh: Callable[[tf.Tensor], tf.Tensor],
) -> tff.learning.templates.ClientWorkProcess:
    """Composes Mime-lite's client work (Karimireddy et al. 2021, Algorithm 1, MimeLite).

    Clients step with the server's optimizer state, which they leave as it is; the server moves it
    on by the mean of the clients' full gradients at the round's weights.

    Args:
        model: What clients train.
        optimizer: The base optimizer.
        rate_factor: The factor of the client learning rate, by round.
        weigh: As for `build_client_work`.
    """
    gradient_of = full_gradient(model)
    trainable_type = model.weights_type.trainable
    mean = tff.aggregators.MeanFactory(no_nan_division=True).create(
        trainable_type, tff.TensorType(np.float32)
    )

    @tff.tensorflow.computation
    def initial_state():
        specs = tuple(tf.TensorSpec(t.shape, t.dtype.type) for t in trainable_type)
        state = optimizer.initialize(specs)
        return tf.zeros([], tf.int32), tf.nest.map_structure(tf.convert_to_tensor, state)

    round_type, optimizer_type = initial_state.type_signature.result

    @tff.tensorflow.computation(model.weights_type, BATCHES_TYPE, round_type, optimizer_type)
    def client_update(weights, data, round_number, state):
        batches = tf.data.Dataset.get_single_element(data)
        start, frozen = tuple(weights.trainable), tuple(weights.non_trainable)
        state = at_rate(state, rate_factor(round_number))

        def step(weights, unused, batch):
            gradient, sums = model.gradient(weights, frozen, *model.read(batch))
            _, weights = optimizer.next(state, weights, gradient)
            return weights, unused, sums

        end, sums = loop(step, start, (), batches)
        # Epochs repeat the examples alike, so the mean over all of them is that over one.
        gradient, _ = gradient_of(start, frozen, batches, None)
        # Both or neither: times a weight of 0, a NaN is still a NaN.
        sent, finite = finite_or_zeros((*difference(start, end), *gradient))
        update, gradient = sent[: len(start)], sent[len(start) :]
        count = tf.cast(count_examples(batches), tf.float32)
        result = _result(update, finite, count, weigh)
        return result, gradient, _measurements(sums, finite, count)

    @tff.tensorflow.computation(round_type, optimizer_type, trainable_type)
    def next_state(round_number, state, gradient):
        weights = tuple(tf.zeros(t.shape, t.dtype.type) for t in trainable_type)
        state, _ = optimizer.next(state, weights, tuple(gradient))
        return round_number + 1, state

    @tff.federated_computation
    def initialize():
        state = tff.federated_eval(initial_state, tff.SERVER)
        return tff.federated_zip((state, mean.initialize()))

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(model.weights_type, tff.CLIENTS),
        tff.FederatedType(BATCHES_TYPE, tff.CLIENTS),
    )
    def work(state, weights, data):
        (round_number, optimizer_state), mean_state = state
        result, gradient, local = tff.federated_map(
            client_update,
            (
                weights,
                data,
                tff.federated_broadcast(round_number),
                tff.federated_broadcast(optimizer_state),
            ),
        )
        averaged = mean.next(mean_state, gradient, result.update_weight)
        moved = tff.federated_map(next_state, (round_number, optimizer_state, averaged.result))
        return tff.templates.MeasuredProcessOutput(
            tff.federated_zip((moved, averaged.state)), result, _add_up(local, True)
        )

    return tff.learning.templates.ClientWorkProcess(initialize, work)


def count_examples(batches: tf.Tensor) -> tf.Tensor:
    """Returns how many row numbers batches hold, int32."""
    return tf.math.count_nonzero(batches >= 0, dtype=tf.int32)


def loop(step, values, state, batches):
    """Folds `step` over batches; returns the last values and the sums of loss and right answers.

    Args:
        step: (values, state, batch) -> (values, state, (loss, correct)).
        values: A tuple of tensors to start from.
        state: A structure of tensors to start from.
        batches: [number of batches, width] int32.
    """
    number = tf.shape(batches)[0]

    def body(i, values, state, loss, correct):
        values, state, (batch_loss, batch_correct) = step(values, state, batches[i])
        return i + 1, tuple(values), state, loss + batch_loss, correct + batch_correct

    zero = tf.zeros([])
    _, values, _, loss, correct = tf.while_loop(
        lambda i, *_: i < number, body, (0, values, state, zero, zero), maximum_iterations=number
    )
    return values, (loss, correct)


def initial_optimizer_state(optimizer, weights):
    """Returns an optimizer's first state for these weights, as tensors."""
    specs = tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), weights)
    return tf.nest.map_structure(tf.convert_to_tensor, optimizer.initialize(specs))


def at_rate(state, rate_factor):
    """Returns an optimizer's state with its learning rate times a factor."""
    key = tff.learning.optimizers.LEARNING_RATE_KEY
    return type(state)((k, v * rate_factor if k == key else v) for k, v in state.items())


def difference(start, end):
    """Returns start less end, tensor by tensor: the update that the server subtracts."""
    return tuple(a - b for a, b in zip(start, end, strict=True))


def finite_or_zeros(tensors):
    """Returns the tensors, or zeros if their global norm is not finite; and whether it is."""
    finite = _has_finite_norm(tensors)
    return tuple(tf.where(finite, t, tf.zeros_like(t)) for t in tensors), finite


def _has_finite_norm(tensors):
    """Says whether an update is one that counts.

    No clip bounds a NaN or an infinity, and a client whose squares overflow, above 1e19, has
    diverged: in a mean without a clip it would ruin the model.
    """
    return tf.math.is_finite(tf.linalg.global_norm(tensors))


def _result(update, finite, count, weigh):
    """Multiplies the update by its weight, as `tfpriv.federated.aggregation` takes it.

    A client whose update is not finite weighs nothing, as one that did not answer.
    """
    weight = tf.where(finite, weigh(count), 0.0)
    return tff.learning.templates.ClientResult(
        # Times a weight of 0, a NaN would still be a NaN.
        update=tuple(tf.math.multiply_no_nan(u, weight) for u in update),
        update_weight=weight,
    )


def _measurements(sums, finite, count):
    loss, correct = sums
    return collections.OrderedDict(
        loss=loss,
        correct=correct,
        examples=count,
        left_out=1.0 - tf.cast(finite, tf.float32),
    )


def _add_up(local, measure):
    if not measure:
        return tff.federated_value((), tff.SERVER)
    return tff.federated_sum(local)
