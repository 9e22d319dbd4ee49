"""DP-SGD inside a client: every client is a silo that protects each of its own examples."""

import tensorflow as tf
import tensorflow_federated as tff

from tfpriv import norms
from tfpriv.federated import client_work, noise
from tfpriv.federated.local_model import LocalModel
from tfpriv.privacy import Gaussian


def local_dp_sgd(
    model: LocalModel,
    optimizer: tff.learning.optimizers.Optimizer,
    mechanism: Gaussian,
    expected_batch_size: float,
) -> client_work.LocalTraining:
    """Returns local training by DP-SGD (Abadi et al. 2016, Algorithm 1).

    Each batch's per-example gradients are clipped, summed, noised and divided by the expected
    batch size. A batch without examples is noise alone, and still a step. An example whose gradient
    is not finite adds zero.

    Args:
        model: What clients train.
        optimizer: The local optimizer.
        mechanism: Clip and noise.
        expected_batch_size: The mean size of the Poisson-sampled batches.
    """
    query = noise.GaussianSumQuery(
        l2_norm_clip=mechanism.clip_norm,
        stddev=mechanism.clip_norm * mechanism.noise_multiplier,
    )

    def train(start, frozen, batches, rate_factor):
        state = client_work.initial_optimizer_state(optimizer, start)
        state = client_work.at_rate(state, rate_factor)
        query_state = query.initial_global_state()

        def step(weights, state, batch):
            def clipped_gradient(example):
                feature, label = example
                gradient, _ = model.gradient(
                    weights, frozen, feature[tf.newaxis], label[tf.newaxis]
                )
                is_finite = norms.is_finite(gradient)
                # A clip of what is not finite means nothing, and times zero it is still NaN.
                return tuple(
                    tf.where(is_finite, g, tf.zeros_like(g))
                    for g in norms.clip_by_global_norm(gradient, mechanism.clip_norm)
                )

            clipped = tf.vectorized_map(clipped_gradient, model.read(batch))
            total = tuple(tf.reduce_sum(g, axis=0) for g in clipped)
            noised, _, _ = query.get_noised_result(total, query_state)
            mean = tuple(g / expected_batch_size for g in noised)
            state, weights = optimizer.next(state, weights, mean)
            return weights, state, (tf.zeros([]), tf.zeros([]))

        end, sums = client_work.loop(step, start, state, batches)
        return client_work.difference(start, end), sums

    return train
