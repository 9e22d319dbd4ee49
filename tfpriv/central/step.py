"""One training step: the clipped sum over a batch, the noise, the optimizer."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfpriv import noise
from tfpriv.central.clipping import ClippedSum
from tfpriv.models import Objective
from tfpriv.privacy import CLIP_NORMS, PrivacyPlan
from tfpriv.privacy.mechanisms import AdaptiveGaussian


class PrivateStep:
    """DP-SGD's step (Abadi et al. 2016, Algorithm 1), with any of the mechanisms.

    The clipped sum gets its noise, on a grid (see `tfpriv.noise`), and is divided by the expected
    batch size, whoever takes part: the number that did is itself private.

    Attributes:
        clip_norm: The clip of the next step, a variable.
    """

    def __init__(
        self,
        model: tf.keras.Model,
        optimizer: tf.keras.optimizers.Optimizer,
        clipped_sum: ClippedSum,
        plan: PrivacyPlan,
    ) -> None:
        """Builds the optimizer's variables and the noise.

        Args:
            model: The model; its trainable weights are changed.
            optimizer: What applies the noised mean gradient.
            clipped_sum: The model's per-example clipping.
            plan: Clip, noise and expected batch size.
        """
        mechanism = plan.mechanism
        assert mechanism is not None, "a private plan has a mechanism"
        self.clip_norm = tf.Variable(mechanism.clip_norm, trainable=False, dtype=tf.float32)
        self._weights = model.trainable_weights
        self._optimizer = optimizer
        self._clipped_sum = clipped_sum
        self._mechanism = mechanism
        self._expected_size = float(plan.sampler.expected_size)
        self._is_adaptive = mechanism.adapts_clip
        self._noise: noise.Noise | None = None
        self._count_noise: noise.Noise | None = None
        if plan.is_private:
            size = sum(int(np.prod(v.shape)) for v in self._weights)
            self._noise = plan.build_noise(size)
            # Of the noised mean, over the clip.
            self._width = self._noise.width / self._expected_size
            if isinstance(mechanism, AdaptiveGaussian):
                self._count_noise = mechanism.build_count_noise()
        optimizer.build(self._weights)
        self._add_up = tf.function(self._sum, reduce_retracing=True, autograph=False)
        self._apply = tf.function(self._release, autograph=False)
        self._whole = tf.function(self._sum_and_release, reduce_retracing=True, autograph=False)

    def restart_noise(self) -> None:
        """Starts the noise of a correlated mechanism anew."""
        if self._noise is not None:
            self._noise.restart()

    def __call__(self, chunks: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        """Takes a step, whatever is in the examples.

        One whose gradient is not finite adds nothing, and nor does one on which an op of the model
        fails; nothing is said of either, as that would tell who took part.

        Args:
            chunks: (features, labels, present) each, NumPy arrays, at least one; `present` is 0 for
                padding and 1 elsewhere.
        """
        if len(chunks) == 1:
            try:
                # A tenth quicker than a call for the sums and one for the release.
                self._whole(*chunks[0])
                return
            except tf.errors.OpError:
                if not self._fails_on(*chunks[0]):
                    # The release failed, perhaps halfway, and must not come twice.
                    raise
        total = functools.reduce(_added, (self._sum_of_readable(*chunk) for chunk in chunks))
        self._apply(*total)

    def _fails_on(self, features, labels, present):
        try:
            self._add_up(features, labels, present)
        except tf.errors.OpError:
            return True
        return False

    def _sum_of_readable(self, features, labels, present):
        """Returns the sums over a chunk without the examples that an op of the model fails on."""
        try:
            return self._add_up(features, labels, present)
        except tf.errors.OpError:
            taken = np.flatnonzero(present)
            if len(present) == 1 or not len(taken):
                return [tf.zeros(v.shape) for v in self._weights], tf.zeros([])
            # The model may fail on padding, too.
            parts = np.array_split(taken, 2) if len(taken) == len(present) else [taken]
            return functools.reduce(
                _added,
                (self._sum_of_readable(features[p], labels[p], present[p]) for p in parts),
            )

    def _sum_and_release(self, features, labels, present):
        sums, unclipped = self._add_up(features, labels, present)
        # Where an op of the sums fails, neither the noise nor any weight may have moved: all ops of
        # that call come before, those of no output too, and then all of its outputs.
        with tf.control_dependencies([unclipped.op]):
            sums, unclipped = tf.nest.map_structure(tf.identity, (sums, unclipped))
        with tf.control_dependencies([*sums, unclipped]):
            self._release(sums, unclipped)

    def _sum(self, features, labels, present):
        sums, norms = self._clipped_sum(
            features, labels, present, self.clip_norm, scale=1 / self._expected_size
        )
        # A half less each, so that one example moves the sum by a half and not by one.
        within = tf.cast(norms <= self.clip_norm, tf.float32) - 0.5
        # What adds nothing to the other sums adds nothing here.
        counted = tf.where(tf.math.is_nan(norms), 0.0, present * within)
        return sums, tf.reduce_sum(counted)

    def _release(self, means, unclipped):
        """Adds the noise to the sums over the expected batch size, and applies them."""
        if self._noise is not None:
            # By numpy, in which the noise's stream and its past are kept.
            means = tf.numpy_function(
                self._with_noise, [self.clip_norm, *means], [tf.float32] * len(means)
            )
            if self._is_adaptive:
                unclipped = tf.numpy_function(self._count_with_noise, [unclipped], tf.float32)
        self._optimizer.apply_gradients(zip(means, self._weights, strict=True))
        if self._is_adaptive:
            self._move_clip(unclipped)

    def _with_noise(self, clip_norm, *means):
        assert self._noise is not None
        width, drawn = float(clip_norm) * self._width, self._noise.next()
        ends = np.cumsum([mean.size for mean in means])[:-1]
        return [
            noise.release(mean, part, width)
            for mean, part in zip(means, np.split(drawn, ends), strict=True)
        ]

    def _count_with_noise(self, unclipped):
        assert self._count_noise is not None
        return noise.release(unclipped, self._count_noise.next(), 0.5 * self._count_noise.width)

    def _move_clip(self, unclipped):
        """Andrew et al. 2021, section 3: the geometric update towards the quantile."""
        mechanism = self._mechanism
        assert isinstance(mechanism, AdaptiveGaussian)
        fraction = unclipped / self._expected_size + 0.5
        factor = tf.exp(-mechanism.clip_learning_rate * (fraction - mechanism.target_quantile))
        self.clip_norm.assign(tf.clip_by_value(self.clip_norm * factor, *CLIP_NORMS))


def _added(first, second):
    """Adds the sums of two chunks."""
    (sums, unclipped), (more, more_unclipped) = first, second
    return [a + b for a, b in zip(sums, more, strict=True)], unclipped + more_unclipped


class PlainStep:
    """A step of ordinary training: the gradient of the mean loss, and of the model's own losses."""

    def __init__(
        self,
        model: tf.keras.Model,
        optimizer: tf.keras.optimizers.Optimizer,
        objective: Objective,
    ) -> None:
        """Takes what a step needs."""
        optimizer.build(model.trainable_weights)

        @tf.function(reduce_retracing=True, autograph=False)
        def step(features, labels):
            with tf.GradientTape() as tape:
                losses = objective.loss(labels, model(features, training=True))
                loss = tf.reduce_mean(losses) + tf.add_n([tf.zeros([]), *model.losses])
            gradients = tape.gradient(
                loss, model.trainable_weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
            return losses

        self._step = step

    def __call__(self, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Takes a step on [batch, ...] examples; returns their losses, [batch]."""
        return self._step(features, labels).numpy()
