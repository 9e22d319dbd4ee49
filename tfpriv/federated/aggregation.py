"""How the server combines the clients' updates: a mean, or a private mean."""

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp
from tensorflow_privacy.privacy.dp_query import quantile_estimator_query

from tfpriv.federated import noise
from tfpriv.privacy import AdaptiveGaussian, Gaussian, PrivacyPlan, Tree


def build_aggregator(
    plan: PrivacyPlan | None, update_type: tff.StructType
) -> tff.templates.AggregationProcess:
    """Returns the aggregation of updates, each multiplied by its weight, and of the weights.

    A private mean ignores the weights and divides by the expected number of clients, whoever
    takes part: the number that did is itself private. There is no zeroing: its quantile would go
    out without noise.

    Args:
        plan: Clip and noise over clients; None for the weighted mean.
        update_type: TFF's type of an update.
    """
    if plan is None:
        return _mean_of_weighted(update_type)
    query = tfp.NormalizedQuery(
        _sum_query(plan, update_type), denominator=float(plan.sampler.expected_size)
    )
    factory = tff.aggregators.as_weighted_aggregator(
        tff.aggregators.DifferentiallyPrivateFactory(query)
    )
    return factory.create(update_type, tff.TensorType(np.float32))


def clip_norm_of(plan: PrivacyPlan, measurements) -> float:
    """Returns the clip that the next round will use, from the aggregator's measurements."""
    if isinstance(plan.mechanism, AdaptiveGaussian):
        return float(measurements["dp_query_metrics"]["clip"])
    return plan.mechanism.clip_norm


def _mean_of_weighted(update_type):
    """The mean of updates that come multiplied by their weights; zero if the weights are.

    Clients multiply while they have the update at hand: a pass over every update in a computation
    of its own, as in `tff.aggregators.MeanFactory`, costs as much as an addition of it.
    """
    weight_type = tff.TensorType(np.float32)

    @tff.tensorflow.computation(update_type, weight_type)
    def divide(total, weight):
        return tuple(tf.math.divide_no_nan(t, weight) for t in total)

    @tff.federated_computation
    def initialize():
        return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType((), tff.SERVER),
        tff.FederatedType(update_type, tff.CLIENTS),
        tff.FederatedType(weight_type, tff.CLIENTS),
    )
    def aggregate(state, updates, weights):
        mean = tff.federated_map(divide, (tff.federated_sum(updates), tff.federated_sum(weights)))
        return tff.templates.MeasuredProcessOutput(state, mean, tff.federated_value((), tff.SERVER))

    return tff.templates.AggregationProcess(initialize, aggregate)


def _sum_query(plan, update_type):
    mechanism = plan.mechanism
    if isinstance(mechanism, Gaussian):
        return noise.GaussianSumQuery(
            l2_norm_clip=mechanism.clip_norm,
            stddev=mechanism.clip_norm * mechanism.noise_multiplier,
        )
    if isinstance(mechanism, AdaptiveGaussian):
        private = bool(mechanism.noise_multiplier)
        return _AdaptiveClipSumQuery(
            initial_l2_norm_clip=mechanism.clip_norm,
            noise_multiplier=mechanism.value_noise_multiplier if private else 0.0,
            target_unclipped_quantile=mechanism.target_quantile,
            learning_rate=mechanism.clip_learning_rate,
            clipped_count_stddev=mechanism.count_stddev if private else 0.0,
            expected_num_records=float(plan.sampler.expected_size),
            geometric_update=True,
        )
    assert isinstance(mechanism, Tree)
    specs = tf.nest.map_structure(
        lambda t: tf.TensorSpec(t.shape, t.dtype.type), tuple(update_type)
    )
    node_noise = noise.SecretNoise()
    stddev = mechanism.clip_norm * mechanism.noise_multiplier
    return tfp.TreeResidualSumQuery(
        record_specs=specs,
        # Not TFP's own generator: its state holds the seed.
        noise_generator=lambda: tf.nest.map_structure(
            lambda spec: stddev * node_noise.draw(spec.shape), specs
        ),
        clip_fn=lambda record, clip: tf.clip_by_global_norm(record, clip)[0],
        clip_value=mechanism.clip_norm,
    )


class _AdaptiveClipSumQuery(tfp.QuantileAdaptiveClipSumQuery):
    """TFP's query, of which both noises cannot be found by trying seeds."""

    def __init__(self, initial_l2_norm_clip, noise_multiplier, **quantile):
        super().__init__(initial_l2_norm_clip, noise_multiplier, **quantile)
        self._sum_query = noise.GaussianSumQuery(
            initial_l2_norm_clip, noise_multiplier * initial_l2_norm_clip
        )
        self._quantile_estimator_query = _QuantileEstimatorQuery(
            initial_l2_norm_clip,
            quantile["target_unclipped_quantile"],
            quantile["learning_rate"],
            quantile["clipped_count_stddev"],
            quantile["expected_num_records"],
            quantile["geometric_update"],
        )


class _QuantileEstimatorQuery(quantile_estimator_query.QuantileEstimatorQuery):
    def _construct_below_estimate_query(self, below_estimate_stddev, expected_num_records):
        # As TFP's: a client adds 1/2 or -1/2 to the count.
        return tfp.NormalizedQuery(
            noise.GaussianSumQuery(l2_norm_clip=0.5, stddev=below_estimate_stddev),
            denominator=expected_num_records,
        )
