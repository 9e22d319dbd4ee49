"""The learning process: broadcast, client work, aggregation and server step, composed by TFF."""

import tensorflow as tf
import tensorflow_federated as tff

from tfpriv.federated import aggregation, client_work
from tfpriv.federated.canaries import Canaries
from tfpriv.federated.config import FederatedConfig
from tfpriv.federated.local_model import LocalModel
from tfpriv.federated.optimizers import build_client_optimizer, build_server_optimizer
from tfpriv.federated.private_local_training import local_dp_sgd
from tfpriv.models.schedules import build_schedule
from tfpriv.privacy import PrivacyPlan


def build_process(
    config: FederatedConfig,
    model: LocalModel,
    plan: PrivacyPlan | None,
    canaries: Canaries | None = None,
) -> tff.learning.templates.LearningProcess:
    """Returns the learning process of a run.

    Args:
        config: A complete config.
        model: What clients train.
        plan: The privacy plan, over clients or over a client's examples; None without one.
        canaries: An audit's canary clients; None without any.

    Returns:
        A process whose `next` takes the state and, for each client of the round, a sequence of
        one element: its batches (see `tfpriv.federated.batches`). Its first weights are zeros;
        see `with_weights`.
    """
    work = _build_client_work(config, model, plan, canaries)
    over_clients = plan if plan is not None and plan.unit == "client" else None
    trainable = model.weights_type.trainable

    @tff.tensorflow.computation
    def zero_weights():
        return tff.learning.models.ModelWeights(
            *(
                tuple(tf.zeros(t.shape, t.dtype.type) for t in kind)
                for kind in (trainable, model.weights_type.non_trainable)
            )
        )

    return tff.learning.templates.compose_learning_process(
        zero_weights,
        tff.learning.templates.build_broadcast_process(model.weights_type),
        work,
        aggregation.build_aggregator(over_clients, trainable, config.aggregator),
        tff.learning.templates.build_apply_optimizer_finalizer(
            build_server_optimizer(config), model.weights_type
        ),
    )


def with_weights(state, trainable, frozen=()):
    """Returns a process's state with other global model weights, each a list of arrays."""
    return state._replace(
        global_model_weights=tff.learning.models.ModelWeights(tuple(trainable), tuple(frozen))
    )


def _build_client_work(config, model, plan, canaries):
    weigh = _weigher(config)
    if config.algorithm == "fedsgd":
        rate_factor = build_schedule("constant", config.rounds, "")
        train = client_work.full_gradient(model)
    else:
        rate_factor = build_schedule(config.client_schedule, config.rounds, "--client_schedule")
        optimizer = build_client_optimizer(config)
        if config.algorithm == "mimelite":
            return client_work.build_mimelite_work(
                model, optimizer, rate_factor=rate_factor, weigh=weigh
            )
        if config.privacy_unit == "example":
            train = local_dp_sgd(model, optimizer, plan.mechanism, config.batch_size)
        else:
            train = client_work.local_sgd(model, optimizer, config.proximal_strength or 0.0)
    return client_work.build_client_work(
        model,
        train,
        rate_factor=rate_factor,
        weigh=weigh,
        measure=not config.is_private or config.release_train_metrics,
        canaries=canaries,
    )


def _weigher(config):
    if config.is_private:
        # How many examples a client has, or drew, is private under either unit.
        return tf.ones_like
    if config.weighting == "uniform":
        return lambda count: tf.minimum(count, 1.0)
    return lambda count: count
