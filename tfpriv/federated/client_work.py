"""A round of an algorithm, in TFF: what clients do, and what the server makes of it."""

import collections
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfpriv.errors import UserError
from tfpriv.federated import local_training
from tfpriv.federated.algorithms.base import Algorithm, ClientInput, ClientOutput
from tfpriv.federated.canaries import Canaries
from tfpriv.federated.config import FederatedConfig
from tfpriv.federated.local_model import LocalModel
from tfpriv.models.schedules import build_schedule

BATCHES_TYPE = tff.SequenceType(tff.TensorType(np.int32, [None, None]))


class Done(NamedTuple):
    """What a round's clients did, as federated values.

    Attributes:
        state: The next state of the work, but for what `ClientWork.server_step` makes of it.
        result: The updates, each times its weight, and the weights; on the clients.
        sent: The mean of what clients sent beside updates; None for nothing.
        clients: The clients' next states; None where they keep none.
        measurements: Sums over the clients, or ().
    """

    state: tff.Value
    result: tff.Value
    sent: tff.Value | None
    clients: tff.Value | None
    measurements: tff.Value


class ClientWork:
    """The work of an algorithm's clients, with the count of rounds that schedules need.

    Its state on the server is the number of the round and the algorithm's server state. Which
    computations a run needs shows in the algorithm; what one leaves out costs no time.

    Attributes:
        initial_state: A computation that returns the first state.
        client_type: TFF's type of a client's own state; None if clients keep none.
    """

    def __init__(
        self,
        config: FederatedConfig,
        model: LocalModel,
        algorithm: Algorithm,
        canaries: Canaries | None,
    ) -> None:
        """Traces what clients do and what the server makes of it.

        Args:
            config: A complete config.
            model: What clients train.
            algorithm: What they do.
            canaries: Clients that may be among the others and send directions; None if none are.

        Raises:
            UserError: if the run is private, or has canaries, and the algorithm sends something
                beside updates or keeps states of clients.
        """
        # How many examples a client has, or drew, is private under either unit; the sums of loss
        # and right answers are released only if the user asks for them.
        self._measure = not config.is_private or bool(config.release_train_metrics)
        self.client_type = None
        if algorithm.has_client_states:
            self.client_type = _first_of(algorithm.client_state).type_signature.result
        self.initial_state = _first_of(lambda: (tf.zeros([], tf.int32), algorithm.server_state()))
        state_type = self.initial_state.type_signature.result
        self._client_update = _client_update(
            config, model, algorithm, canaries, state_type, self.client_type
        )
        result_type = self._client_update.type_signature.result
        self._sends = result_type[1] != tff.StructType([])

        @tff.tensorflow.computation(state_type)
        def next_round(state):
            return state[0] + 1, state[1]

        @tff.tensorflow.computation(result_type[1], np.float32)
        def divide(total, weight):
            return tf.nest.map_structure(lambda t: tf.math.divide_no_nan(t, weight), total)

        self._next_round, self._divide = next_round, divide
        self._server_step = None
        if type(algorithm).server_step is not Algorithm.server_step:
            self._server_step = _server_step(config, model, algorithm, state_type, result_type[1])

    def next(
        self, state: tff.Value, weights: tff.Value, data: tff.Value, clients: tff.Value | None
    ) -> Done:
        """Composes the clients' part of a round.

        Args:
            state: The work's state, on the server.
            weights: The model's weights, on the clients.
            data: The clients' batches.
            clients: The clients' own states; None where they keep none.
        """
        arguments = [weights, data, tff.federated_broadcast(state)]
        if clients is not None:
            arguments.append(clients)
        result, sent, kept, local = tff.federated_map(self._client_update, tuple(arguments))
        mean = None
        if self._sends:
            total = tff.federated_sum(result.update_weight)
            mean = tff.federated_map(self._divide, (tff.federated_sum(sent), total))
        return Done(
            state=tff.federated_map(self._next_round, state),
            result=result,
            sent=mean,
            clients=None if clients is None else kept,
            measurements=(
                tff.federated_sum(local) if self._measure else tff.federated_value((), tff.SERVER)
            ),
        )

    def server_step(self, done: Done, update: tff.Value) -> tuple[tff.Value, tff.Value]:
        """Composes the algorithm's step on the server, before the server optimizer's.

        Args:
            done: What the clients did.
            update: The aggregate of their updates.

        Returns:
            The work's next state, and what the server optimizer takes for a gradient.
        """
        if self._server_step is None:
            return done.state, update
        sent = tff.federated_value((), tff.SERVER) if done.sent is None else done.sent
        weight = tff.federated_sum(done.result.update_weight)
        moved = tff.federated_map(self._server_step, (done.state, update, sent, weight))
        return moved[0], moved[1]


def _first_of(build):
    """Returns a computation that returns what a function builds, a structure of tensors."""

    @tff.tensorflow.computation
    def first():
        return tf.nest.map_structure(tf.convert_to_tensor, build())

    return first


def _client_update(config, model, algorithm, canaries, state_type, client_type):
    """Traces a client's round: its result, what it sends besides, its next state, measurements."""
    rate_factor = build_schedule(
        config.client_schedule or "constant", config.rounds, "--client_schedule"
    )
    weigh = _weigher(config)

    def work(weights, data, state, client):
        batches = tf.data.Dataset.get_single_element(data)
        round_number, shared = state

        def train():
            output = algorithm.train(
                ClientInput(
                    start=tuple(weights.trainable),
                    frozen=tuple(weights.non_trainable),
                    batches=batches,
                    rate_factor=rate_factor(round_number),
                    server=shared,
                    client=client,
                )
            )
            _check_output(config.algorithm, output, tuple(weights.trainable), client)
            _refuse_more_than_updates(config, output)
            return output

        output = train() if canaries is None else canaries.beside(train, weights, batches)
        update, sent = tuple(output.update), tuple(tf.nest.flatten(output.sent))
        finite = _are_finite([*update, *sent, *tf.nest.flatten(output.state)])
        count = tf.cast(local_training.count_examples(batches), tf.float32)
        counted = count if canaries is None else canaries.counted(batches, count)
        # A client whose update is not finite weighs nothing, as one that did not answer.
        weight = tf.where(finite, weigh(counted), 0.0)

        def weighed(tensors):
            # Times a weight of 0, a NaN would still be a NaN.
            return tuple(tf.math.multiply_no_nan(t, weight) for t in tensors)

        return (
            tff.learning.templates.ClientResult(weighed(update), weight),
            tf.nest.pack_sequence_as(output.sent, weighed(sent)),
            tf.nest.map_structure(
                lambda new, old: tf.where(finite, new, old), output.state, client
            ),
            _measurements(output.sums, finite, count),
        )

    types = model.weights_type, BATCHES_TYPE, state_type
    if client_type is None:
        return tff.tensorflow.computation(
            lambda weights, data, state: work(weights, data, state, ()), types
        )
    return tff.tensorflow.computation(work, (*types, client_type))


def _server_step(config, model, algorithm, state_type, sent_type):
    """Traces the algorithm's step on the server, which a round without updates does not take."""

    @tff.tensorflow.computation(state_type, model.weights_type.trainable, sent_type, np.float32)
    def server_step(state, update, sent, weight):
        round_number, shared = state
        update = tuple(update)
        following, gradient = algorithm.server_step(shared, update, sent)
        if not config.is_private:
            # Whether anybody took part is itself private.
            is_some = weight > 0
            following, gradient = tf.nest.map_structure(
                lambda new, old: tf.where(is_some, new, old),
                (following, tuple(gradient)),
                (shared, update),
            )
        return (round_number, following), tuple(gradient)

    return server_step


def _check_output(algorithm, output, start, client):
    """Raises UserError if what `train` returned is not what a round goes on with."""
    if not isinstance(output, ClientOutput):
        raise UserError(
            f"--algorithm={algorithm}: train returned a {type(output).__name__}; return a "
            "tfpriv.federated.algorithms.base.ClientOutput."
        )
    for what, returned, wanted in (
        ("update", tuple(output.update), start),
        ("state", output.state, client),
    ):
        returned, wanted = (_shapes(structure) for structure in (returned, wanted))
        if returned != wanted:
            raise UserError(
                f"--algorithm={algorithm}: train returned a ClientOutput whose {what} has the "
                f"shapes {returned} where {wanted} are wanted; return tensors of these shapes."
            )


def _shapes(structure):
    return [tuple(tf.convert_to_tensor(t).shape) for t in tf.nest.flatten(structure)]


def _refuse_more_than_updates(config, output):
    """Raises UserError where what an algorithm does besides updates would break a promise."""
    if tf.nest.flatten(output.sent):
        what = "sends more than updates"
    elif tf.nest.flatten(output.state):
        what = "keeps a state for each client"
    else:
        return
    if config.is_private:
        raise UserError(
            f"--algorithm={config.algorithm} {what}, which no noise here covers; use another "
            f"algorithm, such as fedavg, with --privacy_unit={config.privacy_unit}, or "
            "--privacy_unit=none."
        )
    if config.audit_canaries:
        raise UserError(
            f"--algorithm={config.algorithm} {what}, and a canary has nothing but an update; use "
            f"another algorithm, such as fedavg, with --audit_canaries={config.audit_canaries}."
        )


def _weigher(config):
    if config.is_private:
        # How many examples a client has, or drew, is private under either unit.
        return tf.ones_like
    if config.weighting == "uniform":
        return lambda count: tf.minimum(count, 1.0)
    return lambda count: count


def _are_finite(tensors):
    """Says whether what a client sends is to be counted.

    No clip bounds a NaN or an infinity, and a client whose squares overflow, above 1e19, has
    diverged: in a mean without a clip it would ruin the model.
    """
    return tf.math.is_finite(tf.linalg.global_norm(tensors))


def _measurements(sums, finite, count):
    loss, correct = sums
    return collections.OrderedDict(
        loss=loss,
        correct=correct,
        examples=count,
        left_out=1.0 - tf.cast(finite, tf.float32),
    )
