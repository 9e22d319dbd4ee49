"""A robust mean of updates: the geometric median, which a minority of bad clients moves little."""

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff


class GeometricMedianFactory(tff.aggregators.WeightedAggregationFactory):
    """The weighted geometric median of clients' updates, to a few steps of an iteration.

    Pillutla, Kakade and Harchaoui 2022 (arXiv:1912.13445), Algorithm 2: from the weighted mean on,
    each step takes the mean with weights divided by the distance from the last one. Each step is a
    sum over the clients, so the server needs no client's update by itself.
    """

    def __init__(self, steps: int = 4, smoothing: float = 1e-6) -> None:
        """Sets the number of steps, and nu, the least distance that is divided by."""
        self._steps, self._smoothing = steps, smoothing

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """See tff.aggregators.WeightedAggregationFactory; values are tuples of float32 tensors."""
        smoothing = self._smoothing

        @tff.tensorflow.computation(value_type, weight_type)
        def by_weight(value, weight):
            return tuple(v * weight for v in value), weight

        @tff.tensorflow.computation(value_type, weight_type, value_type)
        def by_distance(value, weight, center):
            squares = [tf.reduce_sum((v - c) ** 2) for v, c in zip(value, center, strict=True)]
            weight /= tf.maximum(tf.sqrt(tf.add_n(squares)), smoothing)
            return tuple(v * weight for v in value), weight

        @tff.tensorflow.computation(value_type, np.float32)
        def divide(total, weight):
            return tuple(tf.math.divide_no_nan(t, weight) for t in total)

        @tff.federated_computation
        def initialize():
            return tff.federated_value((), tff.SERVER)

        @tff.federated_computation(
            tff.FederatedType((), tff.SERVER),
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def aggregate(state, values, weights):
            center = tff.federated_map(
                divide, tff.federated_sum(tff.federated_map(by_weight, (values, weights)))
            )
            for _ in range(self._steps):
                there = tff.federated_broadcast(center)
                moved = tff.federated_map(by_distance, (values, weights, there))
                center = tff.federated_map(divide, tff.federated_sum(moved))
            nothing = tff.federated_value((), tff.SERVER)
            return tff.templates.MeasuredProcessOutput(state, center, nothing)

        return tff.templates.AggregationProcess(initialize, aggregate)
