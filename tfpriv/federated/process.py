"""The learning process: broadcast, client work, aggregation and server step, composed by TFF."""

import collections
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfpriv import settings, user_code
from tfpriv.federated import aggregation, algorithms
from tfpriv.federated.algorithms.base import Algorithm, Setup
from tfpriv.federated.algorithms.private_fedavg import PrivateFedAvg
from tfpriv.federated.canaries import Canaries
from tfpriv.federated.client_work import BATCHES_TYPE, ClientWork
from tfpriv.federated.config import FederatedConfig
from tfpriv.federated.local_model import LocalModel
from tfpriv.federated.optimizers import build_client_optimizer, build_server_optimizer
from tfpriv.privacy import Gaussian, PrivacyPlan


class Output(NamedTuple):
    """What a round gives.

    Attributes:
        state: The process's next state.
        metrics: Of the parts of the process.
        clients: The next states of the round's clients, in their order; () without such states.
    """

    state: tff.learning.templates.LearningAlgorithmState
    metrics: collections.OrderedDict
    clients: Any = ()


def build_algorithm(
    config: FederatedConfig, model: LocalModel, plan: PrivacyPlan | None, participation: float
) -> Algorithm:
    """Returns the algorithm of a run.

    Args:
        config: A complete config.
        model: What clients train.
        plan: The privacy plan, over clients or over a client's examples; None without one.
        participation: The expected fraction of the clients in a round.

    Raises:
        UserError: if the user's function returns something else, or the algorithm refuses the
            config.
    """
    setup = Setup(
        model=model,
        optimizer=build_client_optimizer(config) if config.client_optimizer else None,
        client_optimizer=config.client_optimizer,
        learning_rate=config.client_learning_rate,
        participation=participation,
    )
    if config.privacy_unit == "example":
        assert plan is not None and isinstance(plan.mechanism, Gaussian)
        return PrivateFedAvg(setup, plan.mechanism, config.batch_size)
    name = config.algorithm
    assert isinstance(name, str), "the config is complete"
    if not user_code.is_user_code(name):
        own_settings = settings.belonging_to(config, "algorithm", name)
        return algorithms.builder(name)(setup, **own_settings)
    return user_code.call(name, "--algorithm", Algorithm, setup=setup)


class Process:
    """A learning process whose clients may keep states of their own between rounds.

    Attributes:
        algorithm: What it runs.
    """

    def __init__(
        self, algorithm: Algorithm, initialize: tff.Computation, following: tff.Computation
    ) -> None:
        """Takes its parts; see `build_process`."""
        self.algorithm = algorithm
        self._initialize, self._next = initialize, following

    def initialize(self) -> tff.learning.templates.LearningAlgorithmState:
        """Returns the first state, in which the weights are zeros; see `with_weights`."""
        return self._initialize()

    def first_client_state(self) -> Any:
        """Returns the state of a client that was in no round yet, a structure of arrays."""
        state = tf.nest.map_structure(tf.convert_to_tensor, self.algorithm.client_state())
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), state)

    def next(
        self,
        state: tff.learning.templates.LearningAlgorithmState,
        data: list[tf.data.Dataset],
        clients: list | None = None,
    ) -> Output:
        """Runs a round.

        Args:
            state: The process's state.
            data: For each client of the round a data set of one element, its batches; see
                `tfpriv.federated.batches`.
            clients: The clients' own states, where they keep some.
        """
        if not self.algorithm.has_client_states:
            return Output(*self._next(state, data))
        if not data:
            # TFF cannot return the values of no clients; one without examples changes nothing.
            nobody = tf.data.Dataset.from_tensors(np.empty((0, 0), np.int32))
            output = self._next(state, [nobody], [self.first_client_state()])
            return Output(*output)._replace(clients=())
        return Output(*self._next(state, data, clients))


def build_process(
    config: FederatedConfig,
    model: LocalModel,
    plan: PrivacyPlan | None,
    canaries: Canaries | None = None,
    participation: float = 1.0,
) -> Process:
    """Returns the learning process of a run.

    Args:
        config: A complete config.
        model: What clients train.
        plan: The privacy plan, over clients or over a client's examples; None without one.
        canaries: An audit's canary clients; None without any.
        participation: The expected fraction of the clients in a round.

    Raises:
        UserError: as `build_algorithm` and `ClientWork` do; or the grid of the noise would be too
            coarse.
    """
    algorithm = build_algorithm(config, model, plan, participation)
    over_clients = plan if plan is not None and plan.unit == "client" else None
    weights_type = model.weights_type
    broadcast = tff.learning.templates.build_broadcast_process(weights_type)
    assert config.aggregator is None or isinstance(config.aggregator, str), "it is complete"
    own_settings = settings.belonging_to(config, "aggregator", config.aggregator or "mean")
    aggregator = aggregation.build_aggregator(
        over_clients, weights_type.trainable, config.aggregator, **own_settings
    )
    finalizer = tff.learning.templates.build_apply_optimizer_finalizer(
        build_server_optimizer(config), weights_type
    )
    work = ClientWork(config, model, algorithm, canaries)

    @tff.tensorflow.computation
    def zero_weights():
        return tff.learning.models.ModelWeights(
            model.zeros(),
            tuple(tf.zeros(t.shape, t.dtype.type) for t in weights_type.non_trainable),
        )

    @tff.federated_computation
    def initialize():
        return tff.federated_zip(
            tff.learning.templates.LearningAlgorithmState(
                tff.federated_eval(zero_weights, tff.SERVER),
                broadcast.initialize(),
                tff.federated_eval(work.initial_state, tff.SERVER),
                aggregator.initialize(),
                finalizer.initialize(),
            )
        )

    def round_of(state, data, clients):
        sent_out = broadcast.next(state.distributor, state.global_model_weights)
        done = work.next(state.client_work, sent_out.result, data, clients)
        combined = aggregator.next(state.aggregator, done.result.update, done.result.update_weight)
        work_state, update = work.server_step(done, combined.result)
        moved = finalizer.next(state.finalizer, state.global_model_weights, update)
        following = tff.learning.templates.LearningAlgorithmState(
            moved.result, sent_out.state, work_state, combined.state, moved.state
        )
        metrics = collections.OrderedDict(
            client_work=done.measurements, aggregator=combined.measurements
        )
        return tff.federated_zip(following), tff.federated_zip(metrics), done.clients

    state_type = initialize.type_signature.result
    data_type = tff.FederatedType(BATCHES_TYPE, tff.CLIENTS)
    if work.client_type is None:

        @tff.federated_computation(state_type, data_type)
        def following(state, data):
            return round_of(state, data, None)[:2]

    else:

        @tff.federated_computation(
            state_type, data_type, tff.FederatedType(work.client_type, tff.CLIENTS)
        )
        def following(state, data, clients):
            return round_of(state, data, clients)

    return Process(algorithm, initialize, following)


def with_weights(
    state: tff.learning.templates.LearningAlgorithmState,
    trainable: Sequence[np.ndarray],
    frozen: Sequence[np.ndarray] = (),
) -> tff.learning.templates.LearningAlgorithmState:
    """Returns a process's state with other global model weights, each a list of arrays."""
    return state._replace(
        global_model_weights=tff.learning.models.ModelWeights(tuple(trainable), tuple(frozen))
    )
