"""DP-SGD inside a client: every client is a silo that protects each of its own examples."""

import math

import tensorflow as tf

from tfpriv import norms
from tfpriv.federated import local_training
from tfpriv.federated.algorithms.base import Algorithm, ClientInput, ClientOutput, Setup
from tfpriv.federated.noise import SecretNoise
from tfpriv.noise import step_width
from tfpriv.privacy import Gaussian


class PrivateFedAvg(Algorithm):
    """FedAvg whose local steps are DP-SGD's (Abadi et al. 2016, Algorithm 1).

    Each batch's per-example gradients are clipped, summed, noised on a grid (see `tfpriv.noise`)
    and divided by the expected batch size. A batch without examples is noise alone, and still a
    step. An example whose gradient is not finite adds zero.
    """

    def __init__(self, setup: Setup, mechanism: Gaussian, expected_batch_size: float) -> None:
        """Prepares the noise.

        Args:
            setup: What clients train with.
            mechanism: Clip and noise.
            expected_batch_size: The mean size of the Poisson-sampled batches.

        Raises:
            UserError: if the grid of the noise would be too coarse.
        """
        self._model, self._optimizer = setup.model, setup.local_optimizer
        self._clip_norm = mechanism.clip_norm
        self._expected_batch_size = expected_batch_size
        self._noise = None
        if mechanism.noise_multiplier:
            size = sum(math.prod(tensor.shape) for tensor in self._model.weights_type.trainable)
            self._noise = SecretNoise()
            self._width = self._clip_norm * step_width(mechanism.noise_multiplier, size)

    def train(self, given: ClientInput) -> ClientOutput:
        """See `Algorithm.train`; no sum of loss or right answers is told."""
        state = local_training.initial_optimizer_state(self._optimizer, given.start)
        state = local_training.at_rate(state, given.rate_factor)

        def step(weights, state, batch):
            def clipped_gradient(example):
                feature, label = example
                gradient, _ = self._model.gradient(
                    weights, given.frozen, feature[tf.newaxis], label[tf.newaxis]
                )
                is_finite = norms.is_finite(gradient)
                # A clip of what is not finite means nothing, and times zero it is still NaN.
                return tuple(
                    tf.where(is_finite, g, tf.zeros_like(g))
                    for g in norms.clip_by_global_norm(gradient, self._clip_norm)
                )

            clipped = tf.vectorized_map(clipped_gradient, self._model.read(batch))
            total = tuple(tf.reduce_sum(g, axis=0) for g in clipped)
            if self._noise is not None:
                total = self._noise.added_to(total, self._width)
            mean = tuple(g / self._expected_batch_size for g in total)
            state, weights = self._optimizer.next(state, weights, mean)
            return weights, state, (tf.zeros([]), tf.zeros([]))

        end, sums = local_training.loop(step, given.start, state, given.batches)
        return ClientOutput(local_training.difference(given.start, end), sums)
