"""Differentially private training on shares: DP-SGD whose noise no party knows.

Abadi et al. 2016, Algorithm 1. Examples, labels, who is in a batch, and all gradients are shares.
Each step clips and sums them on shares, adds noise that the servers drew (see `gaussian`), and
reveals the noised sum, which the weights follow in plaintext: that is post-processing.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scipy import stats

from tfpriv.errors import UserError
from tfpriv.privacy import Gaussian, PoissonSampler, PrivacyPlan
from tfpriv.secure.protocols import fixed_point, gaussian
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.protocol import Protocol
from tfpriv.secure.training import backpropagation, clipping, optimizers
from tfpriv.secure.training.config import SecureTrainingConfig
from tfpriv.secure.training.task import Task

# The probability that a batch does not fit, in the whole run, as a part of delta.
_OVERFLOW = 1e-6
# The largest feature: images are scaled to [0, 1], tables to standard deviations.
_LARGEST_FEATURE = {3: 1.0}
_LARGEST_OTHER = 8.0
_LARGEST_LABEL = 8.0


def build_plan(config: SecureTrainingConfig, task: Task, steps: int) -> PrivacyPlan:
    """Returns the plan of `steps` Poisson-sampled steps.

    Raises:
        UserError: if the noise cannot be calibrated.
    """
    sampler = PoissonSampler(
        population=len(task.train_features), expected_size=float(config.batch_size)
    )
    assert config.clip_norm is not None, "the config is complete"
    mechanism = Gaussian(clip_norm=config.clip_norm, noise_multiplier=config.noise_multiplier)
    plan = PrivacyPlan(unit="example", sampler=sampler, mechanism=mechanism, delta=config.delta)
    if config.target_epsilon is not None:
        plan = plan.calibrate(config.target_epsilon, steps)
    return plan


def cut_off(task: Task) -> Task:
    """Returns the task with training examples whose numbers lie in the range of fixed point.

    Each example alone decides what becomes of it: numbers out of range go to its ends, and those
    that are not finite to zero.
    """
    largest = _largest_feature(task)
    return dataclasses.replace(
        task,
        train_features=_within(task.train_features, largest).numpy(),
        train_labels=_within(task.train_labels, _LARGEST_LABEL).numpy(),
    )


class PrivateTraining:
    """The weights are public, step by step; all that touches an example is shares.

    Everything happens inside `protocols.running`.

    Attributes:
        capacity: The rows of a batch; those beyond the sample are zeros that count nothing.
    """

    def __init__(
        self,
        prot: Protocol,
        task: Task,
        model: tf.keras.Model,
        config: SecureTrainingConfig,
        plan: PrivacyPlan,
        steps: int,
    ) -> None:
        """Takes the model's weights as they are.

        Args:
            prot: The protocol.
            task: The examples.
            model: A model of layers that `clipping.refuse_other_layers` lets pass.
            config: A complete SecureTrainingConfig.
            plan: The plan, calibrated.
            steps: The steps of the whole run, for the capacity.

        Raises:
            UserError: if a layer has no clipping on shares.
        """
        self._prot = prot
        self._task = task
        self._network = backpropagation.network_of(model)
        clipping.refuse_other_layers(self._network, str(config.network or config.model))
        assert plan.mechanism is not None, "a private run has a mechanism"
        self._clip_norm = plan.mechanism.clip_norm
        self._noise = plan.noise_multiplier * self._clip_norm
        self.capacity = _capacity(plan, steps)
        self._model = tf.keras.models.clone_model(model)
        self._model.set_weights(model.get_weights())
        self._optimizer = optimizers.plain(self._model.trainable_weights, config)
        self._apply = tf.function(self._optimizer.apply)
        self._sums = tf.function(self.noised_sums, autograph=False)
        self._largest_feature = _largest_feature(task)

    def step(self, rows: np.ndarray, number: int) -> None:
        """Trains on a Poisson sample of the training examples; steps count from 1.

        Raises:
            UserError: if the sample does not fit, or the weights have grown too large.
        """
        task = self._task
        weights = self._model.get_weights()
        clipping.refuse_overflow(
            self._network,
            weights,
            task.train_features.shape[1:],
            self._largest_feature,
            task.objective,
        )
        sums = self._sums(
            _filled(task.train_features[rows], self.capacity),
            _filled(task.train_labels[rows], self.capacity),
            _filled(np.ones((len(rows), 1), np.float32), self.capacity),
            [tf.constant(weight) for weight in weights],
        )
        self._apply([tf.cast(total, tf.float32) for total in sums], tf.constant(number, tf.float64))

    @property
    def graph(self) -> tf.Graph:
        """The graph of a step, after the first."""
        return self._sums._list_all_concrete_functions()[0].graph

    def weights(self) -> list[np.ndarray]:
        """Returns the weights."""
        return self._model.get_weights()

    def noised_sums(
        self, features: tf.Tensor, labels: tf.Tensor, taken: tf.Tensor, weights: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Returns the noised sums of clipped gradients, revealed to the client; for a graph.

        Args:
            features: [capacity, ...]; what is out of range is cut off by the client.
            labels: [capacity, outputs].
            taken: [capacity, 1], 1 for an example, 0 for a row that fills the batch.
            weights: The public weights.
        """
        prot = self._prot
        sums = self.clipped_sums(features, labels, taken, weights)
        noised = [total + gaussian.noise(prot, total.shape, self._noise) for total in sums]
        return [_reveal_exactly(prot, total) for total in noised]

    def clipped_sums(
        self, features: tf.Tensor, labels: tf.Tensor, taken: tf.Tensor, weights: Sequence[tf.Tensor]
    ) -> list[PrivateTensor]:
        """Returns the sums before the noise, private and at twice the scale; see `noised_sums`."""
        prot = self._prot
        x = fixed_point.share(prot, _within(features, self._largest_feature))
        y = fixed_point.share(prot, _within(labels, _LARGEST_LABEL))
        public = [fixed_point.publish(prot, weight) for weight in weights]
        weights_of_layers = backpropagation.by_layer(self._network, public)
        return clipping.clipped_sums(
            prot,
            self._network,
            weights_of_layers,
            self._task.objective,
            x,
            y,
            fixed_point.share(prot, taken),
            self._clip_norm,
        )


def _capacity(plan, steps):
    """Returns as many rows as a Poisson sample fills in no step of the run, almost surely."""
    probability = _OVERFLOW * plan.delta / steps
    sampler = plan.sampler
    most = stats.binom.isf(probability, sampler.population + 1, sampler.sampling_probability)
    return min(8 * math.ceil((most + 1) / 8), sampler.population)


def _filled(rows, capacity):
    if len(rows) > capacity:
        # Leaving examples out would not be Poisson sampling.
        raise UserError(
            f"a Poisson sample has {len(rows)} examples, and a batch on shares holds {capacity}; "
            "this comes about once in a million runs times one over delta: run again."
        )
    return tf.constant(np.pad(rows, [(0, capacity - len(rows))] + [(0, 0)] * (rows.ndim - 1)))


def _largest_feature(task):
    return _LARGEST_FEATURE.get(len(task.train_features.shape[1:]), _LARGEST_OTHER)


def _within(values, largest):
    finite = tf.where(tf.math.is_finite(values), values, tf.zeros_like(values))
    return tf.clip_by_value(finite, -largest, largest)


def _reveal_exactly(prot, total):
    """Opens a number at twice the scale at the client, all of its bits."""
    scale = float(prot.fixedpoint_config.scaling_factor) ** 2
    opened = fixed_point.reveal(prot, fixed_point.raw(prot, total))
    return tf.cast(opened, tf.float64) / scale
