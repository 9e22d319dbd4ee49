"""DP-SGD inside a client: every client is a silo that protects each of its own examples."""

import math

import tensorflow as tf
import tensorflow_federated as tff

from tfpriv import norms
from tfpriv.federated import client_work
from tfpriv.federated.local_model import LocalModel
from tfpriv.federated.noise import SecretNoise
from tfpriv.noise import step_width
from tfpriv.privacy import Gaussian


def local_dp_sgd(
    model: LocalModel,
    optimizer: tff.learning.optimizers.Optimizer,
    mechanism: Gaussian,
    expected_batch_size: float,
) -> client_work.LocalTraining:
    """Returns local training by DP-SGD (Abadi et al. 2016, Algorithm 1).

    Each batch's per-example gradients are clipped, summed, noised on a grid (see `tfpriv.noise`)
    and divided by the expected batch size. A batch without examples is noise alone, and still a
    step. An example whose gradient is not finite adds zero.

    Args:
        model: What clients train.
        optimizer: The local optimizer.
        mechanism: Clip and noise.
        expected_batch_size: The mean size of the Poisson-sampled batches.

    Raises:
        UserError: if the grid of the noise would be too coarse.
    """
    clip_norm, noise = mechanism.clip_norm, None
    if mechanism.noise_multiplier:
        size = sum(math.prod(tensor.shape) for tensor in model.weights_type.trainable)
        noise, width = SecretNoise(), clip_norm * step_width(mechanism.noise_multiplier, size)

    def train(start, frozen, batches, rate_factor):
        state = client_work.initial_optimizer_state(optimizer, start)
        state = client_work.at_rate(state, rate_factor)

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
                    for g in norms.clip_by_global_norm(gradient, clip_norm)
                )

            clipped = tf.vectorized_map(clipped_gradient, model.read(batch))
            total = tuple(tf.reduce_sum(g, axis=0) for g in clipped)
            if noise is not None:
                total = noise.added_to(total, width)
            mean = tuple(g / expected_batch_size for g in total)
            state, weights = optimizer.next(state, weights, mean)
            return weights, state, (tf.zeros([]), tf.zeros([]))

        end, sums = client_work.loop(step, start, state, batches)
        return client_work.difference(start, end), sums

    return train
