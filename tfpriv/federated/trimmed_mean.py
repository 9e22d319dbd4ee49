"""A robust mean of updates: the coordinate-wise trimmed mean, which few bad clients move little."""

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff


class TrimmedMeanFactory(tff.aggregators.WeightedAggregationFactory):
    """The mean of each number of the updates without its largest and its smallest values.

    Yin, Chen, Ramchandran and Bartlett 2018 (arXiv:1803.01498), Definition 2. Bad clients, if they
    are no more than what is trimmed at one end, cannot move a number beyond those of the others.
    All clients with a weight count alike. The server needs every client's update by itself.
    """

    def __init__(self, trimmed_fraction: float = 0.1) -> None:
        """Sets beta: the fraction of clients, rounded up, left out at each end, in [0, 0.5)."""
        self._trimmed_fraction = trimmed_fraction

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """See tff.aggregators.WeightedAggregationFactory; values are tuples of float32 tensors."""
        fraction = self._trimmed_fraction

        def trimmed(values):
            count = tf.shape(values)[0]
            cut = tf.cast(tf.math.ceil(fraction * tf.cast(count, tf.float32)), tf.int32)
            # One at least is left.
            cut = tf.maximum(tf.minimum(cut, (count - 1) // 2), 0)
            kept = tf.sort(values, axis=0)[cut : count - cut]
            number = tf.cast(tf.shape(kept)[0], tf.float32)
            return tf.math.divide_no_nan(tf.reduce_sum(kept, axis=0), number)

        @tff.tensorflow.computation
        def nobody():
            return tuple(
                tf.raw_ops.PlaceholderWithDefault(
                    input=tf.zeros([0, *t.shape], np.float32), shape=[None, *t.shape]
                )
                for t in value_type
            )

        rows_type = nobody.type_signature.result

        @tff.tensorflow.computation(rows_type, (value_type, weight_type))
        def add(rows, sent):
            value, weight = sent
            # A client without a weight is no row.
            is_there = tf.reshape(weight > 0, [1])
            return tuple(
                tf.concat([r, tf.boolean_mask(v[tf.newaxis], is_there)], axis=0)
                for r, v in zip(rows, value, strict=True)
            )

        @tff.tensorflow.computation(rows_type, rows_type)
        def merge(rows, others):
            return tuple(tf.concat(pair, axis=0) for pair in zip(rows, others, strict=True))

        @tff.tensorflow.computation(rows_type)
        def mean_of(rows):
            return tuple(map(trimmed, rows))

        @tff.federated_computation
        def initialize():
            return tff.federated_value((), tff.SERVER)

        @tff.federated_computation(
            tff.FederatedType((), tff.SERVER),
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def aggregate(state, values, weights):
            sent = tff.federated_zip((values, weights))
            mean = tff.federated_aggregate(sent, nobody(), add, merge, mean_of)
            nothing = tff.federated_value((), tff.SERVER)
            return tff.templates.MeasuredProcessOutput(state, mean, nothing)

        return tff.templates.AggregationProcess(initialize, aggregate)
