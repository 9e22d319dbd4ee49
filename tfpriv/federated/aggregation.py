"""How the server combines the clients' updates: a mean, or a private mean."""

import collections
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfpriv import norms, user_code
from tfpriv.errors import UserError
from tfpriv.federated.geometric_median import GeometricMedianFactory
from tfpriv.federated.noise import from_grid, to_grid
from tfpriv.federated.trimmed_mean import TrimmedMeanFactory
from tfpriv.privacy import CLIP_NORMS, PrivacyPlan

_WEIGHT_TYPE = tff.TensorType(np.float32)
_FACTORIES = {"geometric_median": GeometricMedianFactory, "trimmed_mean": TrimmedMeanFactory}


def build_aggregator(
    plan: PrivacyPlan | None,
    update_type: tff.StructType,
    aggregator: str | None = "mean",
    **settings: object,
) -> tff.templates.AggregationProcess:
    """Returns the aggregation of updates, each multiplied by its weight, and of the weights.

    A private mean ignores the weights and divides by the expected number of clients, whoever
    takes part: the number that did is itself private. There is no zeroing: its quantile would go
    out without noise. The noise of each round is handed over in the state; see `noise.NoiseFeed`.

    Args:
        plan: Clip and noise over clients; None for the weighted mean.
        update_type: TFF's type of an update.
        aggregator: Without a plan: a name of `config.AGGREGATORS`, or of a function of the user's
            own that returns a factory of tff.aggregators; the mean if None.
        **settings: Those of the aggregator.

    Raises:
        UserError: The user's function returns something else, or the grid of the noise would be
            too coarse.
    """
    if plan is None:
        if aggregator in (None, "mean"):  # None under example-level privacy
            return _mean_of_weighted(update_type)
        return _by_factory(_factory(aggregator, settings), update_type)
    return _private_mean(plan, update_type)


def _factory(name, settings):
    if name in _FACTORIES:
        return _FACTORIES[name](**settings)
    factory = user_code.load_function(name, "--aggregator")()
    kinds = tff.aggregators.WeightedAggregationFactory, tff.aggregators.UnweightedAggregationFactory
    if not isinstance(factory, kinds):
        raise UserError(
            f"--aggregator={name} returned a {type(factory).__name__}; return a "
            "tff.aggregators.WeightedAggregationFactory or UnweightedAggregationFactory."
        )
    return factory


def _by_factory(factory, update_type):
    """Returns the aggregation of a factory of TFF's, for updates that come times their weights."""
    is_weighted = isinstance(factory, tff.aggregators.WeightedAggregationFactory)
    process = factory.create(update_type, *([_WEIGHT_TYPE] if is_weighted else []))

    @tff.tensorflow.computation(update_type, _WEIGHT_TYPE)
    def divide(update, weight):
        return tuple(tf.math.divide_no_nan(u, weight) for u in update)

    @tff.federated_computation(
        process.state_type,
        tff.FederatedType(update_type, tff.CLIENTS),
        tff.FederatedType(_WEIGHT_TYPE, tff.CLIENTS),
    )
    def aggregate(state, updates, weights):
        updates = tff.federated_map(divide, (updates, weights))
        return process.next(state, updates, *([weights] if is_weighted else []))

    return tff.templates.AggregationProcess(process.initialize, aggregate)


def clip_norm_of(plan: PrivacyPlan, measurements: Mapping[str, Any]) -> float:
    """Returns the clip that the next round will use, from the aggregator's measurements."""
    assert plan.mechanism is not None, "a plan over clients has a mechanism"
    if plan.mechanism.adapts_clip:
        return float(measurements["clip_norm"])
    return plan.mechanism.clip_norm


def _mean_of_weighted(update_type):
    """The mean of updates that come multiplied by their weights; zero if the weights are.

    Clients multiply while they have the update at hand: a pass over every update in a computation
    of its own, as in `tff.aggregators.MeanFactory`, costs as much as an addition of it.
    """

    @tff.tensorflow.computation(update_type, _WEIGHT_TYPE)
    def divide(total, weight):
        return tuple(tf.math.divide_no_nan(t, weight) for t in total)

    @tff.federated_computation
    def initialize():
        return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType((), tff.SERVER),
        tff.FederatedType(update_type, tff.CLIENTS),
        tff.FederatedType(_WEIGHT_TYPE, tff.CLIENTS),
    )
    def aggregate(state, updates, weights):
        mean = tff.federated_map(divide, (tff.federated_sum(updates), tff.federated_sum(weights)))
        return tff.templates.MeasuredProcessOutput(state, mean, tff.federated_value((), tff.SERVER))

    return tff.templates.AggregationProcess(initialize, aggregate)


def _private_mean(plan, update_type):
    """The sum of clipped updates with the noise of the state, over the expected number.

    Each client rounds its clipped update to the grid, so that sums and noise are whole numbers and
    add up exactly, in whatever order.
    """
    mechanism, expected = plan.mechanism, float(plan.sampler.expected_size)
    is_adaptive = mechanism.adapts_clip
    shapes = [tensor.shape for tensor in update_type]
    sizes = [math.prod(shape) for shape in shapes]
    # Without noise there is no grid: every number goes out as it is.
    width = plan.build_noise(sum(sizes)).width if plan.is_private else None
    # A client adds a half or takes it away from the count of those within the clip, in steps.
    count_steps, count_width = 1, 0.5
    if is_adaptive and plan.is_private:
        count_width = 0.5 * mechanism.build_count_noise().width
        count_steps = round(0.5 / count_width)

    def scaled(clip_norm):
        return width * tf.cast(clip_norm, tf.float64)

    @tff.tensorflow.computation
    def first_state():
        return collections.OrderedDict(
            clip_norm=tf.constant(mechanism.clip_norm, tf.float32), noise=_no_noise()
        )

    state_type = first_state.type_signature.result

    @tff.tensorflow.computation(update_type, np.float32)
    def contribute(update, clip_norm):
        clipped = norms.clip_by_global_norm(tuple(update), clip_norm)
        is_within = norms.global_norm(tuple(update)) <= clip_norm
        count = tf.where(is_within, count_steps, -count_steps)
        if plan.is_private:
            clipped = [to_grid(tensor, scaled(clip_norm)) for tensor in clipped]
        return tuple(clipped), tf.cast(count, tf.int64)

    @tff.tensorflow.computation(state_type, contribute.type_signature.result)
    def release(state, sums):
        (totals, count), clip_norm = sums, state["clip_norm"]
        if plan.is_private:
            noise = tf.ensure_shape(state["noise"], [sum(sizes) + is_adaptive])
            *parts, count_noise = tf.split(noise, [*sizes, int(is_adaptive)])
            totals = [
                from_grid(total + tf.reshape(part, shape), scaled(clip_norm))
                for total, part, shape in zip(totals, parts, shapes, strict=True)
            ]
            count += tf.reduce_sum(count_noise)
        mean = tuple(total / expected for total in totals)
        if is_adaptive:
            # Andrew et al. 2021, section 3: the geometric update towards the quantile.
            fraction = from_grid(count, count_width) / expected + 0.5
            factor = tf.exp(-mechanism.clip_learning_rate * (fraction - mechanism.target_quantile))
            clip_norm = tf.clip_by_value(clip_norm * factor, *CLIP_NORMS)
        next_state = collections.OrderedDict(clip_norm=clip_norm, noise=_no_noise())
        return next_state, mean, collections.OrderedDict(clip_norm=clip_norm)

    @tff.federated_computation
    def initialize():
        return tff.federated_eval(first_state, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(state_type, tff.SERVER),
        tff.FederatedType(update_type, tff.CLIENTS),
        tff.FederatedType(_WEIGHT_TYPE, tff.CLIENTS),
    )
    def aggregate(state, updates, weights):
        del weights
        clip_norm = tff.federated_broadcast(state["clip_norm"])
        sums = tff.federated_sum(tff.federated_map(contribute, (updates, clip_norm)))
        released = tff.federated_map(release, (state, sums))
        return tff.templates.MeasuredProcessOutput(released[0], released[1], released[2])

    return tff.templates.AggregationProcess(initialize, aggregate)


def _no_noise():
    """Returns an empty vector, where the next round finds one of a length that TFF must not fix."""
    return tf.raw_ops.PlaceholderWithDefault(input=tf.zeros([0], tf.int64), shape=[None])
