"""Sums of per-example gradients, each clipped to an L2 norm, in one backward pass.

TensorFlow Privacy's fast gradient clipping finds each example's norm in a backward pass, and the
clipped sum in a second forward and backward pass over a weighted loss. Where the layers' inputs and
the gradients of their outputs are at hand they give the clipped sum as well, so the second pass is
left out; with dropout it would also draw other masks than those whose norms were taken.
"""

import contextlib
import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfpriv.central.layer_rules import RULES, Materialized, PerExample
from tfpriv.models import Objective, weights_moved

# The general way holds each example's whole gradient.
_GENERAL_BYTES = 2**28
_LARGEST_GENERAL_BATCH = 64
_CHECKED_EXAMPLES = 3
_TOLERANCE = 1e-3


class ClippedSum:
    """The sum over a batch of the per-example gradients of a model, each clipped.

    Attributes:
        largest_batch: The number of rows that one call should not exceed; None for no limit.
        notes: Sentences to show the user.
    """

    def __init__(
        self, model: tf.keras.Model, objective: Objective, examples, *, per_layer: bool = False
    ):
        """Chooses the fast way or the general one.

        Args:
            model: A built model. The gradients are with respect to its trainable weights.
            objective: What the outputs mean.
            examples: Some (features, labels) of the training set, on which the fast way is checked
                against plain gradients of one example each.
            per_layer: Whether each of the L layers with weights is clipped by itself, to the clip
                over the root of L (McMahan et al. 2018, arXiv 1710.06963, Algorithm 1,
                PerLayerClip, with equal parts).
        """
        self._model = model
        self._per_layer = per_layer
        self._objective = objective
        self.notes = ()
        self.largest_batch = None
        self._gradients = self._fast
        reason = self._reason_against_fast(examples)
        if reason:
            size = sum(np.prod(v.shape) for v in model.trainable_weights)
            self.largest_batch = int(
                min(_LARGEST_GENERAL_BATCH, max(1, _GENERAL_BYTES // (4 * size)))
            )
            self._gradients = self._general
            how = "tf.vectorized_map"
            if not self._can_be_vectorized(examples):
                self._gradients, how = self._one_by_one, "one example at a time"
            self.notes = (
                f"Per-example gradients are computed the general way, by {how}, which is slower: "
                f"{reason}.",
            )

    def __call__(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        present: tf.Tensor,
        clip_norm: tf.Tensor,
        training: bool = True,
        scale: float = 1.0,
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns the clipped sum, and the norms before clipping; for use in a `tf.function`.

        Args:
            features: [batch, ...].
            labels: [batch] or [batch, length].
            present: float32 [batch], 1 for an example and 0 for padding, which counts nothing.
            clip_norm: The L2 bound C on one example's gradient. An example counts times
                min(1, C / norm) (Abadi et al. 2016, Algorithm 1), or layer by layer times
                min(1, C / sqrt(L) / norm of that layer's part).
            training: Whether layers such as dropout act as in training.
            scale: What the sum is multiplied by, which costs nothing here.

        Returns:
            The sum by trainable weight, and float32 [batch], the norm of each example's gradient;
            0 for padding. Where a norm is not finite the sum means nothing.
        """
        parts = self._gradients(features, labels, present, training)
        squares = [part.rows.squared_norms() for part in parts]
        norms = tf.sqrt(tf.add_n(squares))
        if self._per_layer:
            bound = clip_norm / math.sqrt(len(parts))
            factors = [_factors(tf.sqrt(square), bound) for square in squares]
        else:
            factors = [_factors(norms, clip_norm)] * len(parts)
        return self._weighted_sum(parts, [f * (scale * present) for f in factors]), norms

    def _weighted_sum(self, parts, factors):
        """Returns by trainable weight the sum of the examples' gradients, each times a factor."""
        sums = {}
        for part, own in zip(parts, factors, strict=True):
            for weight, total in zip(part.weights, part.rows.weighted_sum(own), strict=True):
                sums[weight.ref()] = total
        return [
            sums[v.ref()] if v.ref() in sums else tf.zeros(v.shape)
            for v in self._model.trainable_weights
        ]

    def _fast(self, features, labels, present, training):
        model = self._model
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            with _recording(model, tape.watch) as taps:
                outputs = model(features, training=training)
            loss = tf.reduce_sum(present * self._objective.loss(labels, outputs))
        units = list(taps)
        found = tape.gradient(
            loss,
            [taps[unit].watched for unit in units],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return [
            _Part(unit.trainable_weights, taps[unit].per_example(gradients))
            for unit, gradients in zip(units, found, strict=True)
        ]

    def _general(self, features, labels, present, training):
        def gradient(example):
            return self._gradient_of_one(*example, training)

        return self._by_layer(tf.vectorized_map(gradient, (features, labels, present)))

    def _one_by_one(self, features, labels, present, training):
        def gradient(example):
            return self._gradient_of_one(*example, training)

        specs = [tf.TensorSpec(v.shape, v.dtype) for v in self._model.trainable_weights]
        return self._by_layer(
            tf.map_fn(gradient, (features, labels, present), fn_output_signature=specs)
        )

    def _by_layer(self, gradients):
        weights = self._model.trainable_weights
        owners = _owners(self._model)
        parts = {}
        for weight, rows in zip(weights, gradients, strict=True):
            parts.setdefault(owners.get(weight.ref()), []).append((weight, rows))
        return [
            _Part([weight for weight, _ in part], Materialized([rows for _, rows in part]))
            for part in parts.values()
        ]

    def _gradient_of_one(self, feature, label, present, training):
        weights = self._model.trainable_weights
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            outputs = self._model(feature[tf.newaxis], training=training)
            loss = present * tf.reduce_sum(self._objective.loss(label[tf.newaxis], outputs))
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        # Of an embedding the gradient comes as slices.
        return [tf.convert_to_tensor(g) for g in gradients]

    def _reason_against_fast(self, examples):
        """Returns why the fast way cannot be taken, or None."""
        features, labels = (tf.convert_to_tensor(part[:_CHECKED_EXAMPLES]) for part in examples)
        # A Sequential model may rebuild itself at its first call with a batch of any size.
        spec = tf.TensorSpec([None, *features.shape[1:]], features.dtype)
        tf.function(self._model, autograph=False).get_concrete_function(spec, training=False)
        try:
            found = self._measure(self._fast, features, labels)
        except _NoRuleError as error:
            return str(error)
        except (tf.errors.OpError, ValueError) as error:
            return f"the fast way fails for this model ({type(error).__name__})"
        if not _agree(found, self._measure(self._one_by_one, features, labels)):
            return "the fast way gives other gradients for this model than TensorFlow does"
        return None

    def _can_be_vectorized(self, examples):
        features, labels = (tf.convert_to_tensor(part[:_CHECKED_EXAMPLES]) for part in examples)
        wanted = self._measure(self._one_by_one, features, labels)
        try:
            found = self._measure(self._general, features, labels)
        except Exception:  # What pfor cannot convert it says in many ways.
            return False
        return _agree(found, wanted)

    def _measure(self, gradients, features, labels):
        """Returns norms and a weighted sum for a few examples, without what is random."""
        weights = tf.range(1, len(features) + 1, dtype=tf.float32)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in (features, labels)
            ],
            autograph=False,
        )
        def measure(features, labels):
            parts = gradients(features, labels, tf.ones_like(weights), training=False)
            norms = tf.sqrt(tf.add_n([part.rows.squared_norms() for part in parts]))
            return [norms, *self._weighted_sum(parts, [weights] * len(parts))]

        with weights_moved(self._model, seed=0):
            return measure(features, labels)


class _NoRuleError(Exception):
    """Says why a model's per-example gradients cannot be had by layer rules."""


@dataclasses.dataclass(frozen=True)
class _Part:
    """The per-example gradients of one layer's own weights."""

    weights: list[tf.Variable]
    rows: PerExample


def _agree(ours, theirs):
    """Returns whether two lists of tensors are equal but for rounding."""
    return all(
        a.shape == b.shape
        and np.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE * float(tf.reduce_max(tf.abs(b))))
        for a, b in zip(ours, theirs, strict=True)
    )


def _factors(norms, bound):
    """Returns min(1, bound / norm)."""
    return tf.math.divide_no_nan(bound, tf.maximum(norms, bound))


def _owners(model):
    """Returns a number for the layer that holds a weight directly, by the weight's reference."""
    return {
        weight.ref(): number
        for number, layer in enumerate(model._flatten_layers())
        for weight in layer._trainable_weights
    }


def _units(model):
    """Returns the layers that own the model's trainable weights, each with a rule.

    Raises:
        _NoRuleError: if weights have an owner without a rule.
    """
    if not model.trainable_weights:
        return []
    if type(model) in RULES:
        return [model]
    # What a layer holds directly, and not through a layer within it.
    if model._trainable_weights and model.trainable:
        kind = type(model).__name__
        raise _NoRuleError(f"there is no rule for layer {model.name}, a {kind}")
    inner = model._flatten_layers(recursive=False, include_self=False)
    return [unit for layer in inner for unit in _units(layer)]


@contextlib.contextmanager
def _recording(model, watch):
    """Has each layer that owns weights called by its rule; yields the taps by layer."""
    taps = {}
    units = {id(unit): unit for unit in _units(model)}.values()
    owned = [v.ref() for unit in units for v in unit.trainable_weights]
    if sorted(map(hash, owned)) != sorted(hash(v.ref()) for v in model.trainable_weights):
        raise _NoRuleError("layers share weights")

    failures = []

    def by_rule(unit):
        def call(inputs, *args, **kwargs):
            more = [*args, *(v for name, v in kwargs.items() if name != "training")]
            kind = type(unit).__name__
            tap = None
            if unit in taps:
                failures.append(f"layer {unit.name} is used more than once")
            elif all(value is None for value in more) and tf.is_tensor(inputs):
                tap = RULES[type(unit)](unit, inputs, watch)
            if tap is None:
                failures.append(f"the rule for {kind} does not know how layer {unit.name} is used")
                return type(unit).call(unit, inputs, *args, **kwargs)
            taps[unit] = tap
            return tap.output

        return tf.autograph.experimental.do_not_convert(call)

    try:
        for unit in units:
            # Not by setattr, which Keras watches.
            unit.__dict__["call"] = by_rule(unit)
        yield taps
    finally:
        for unit in units:
            unit.__dict__.pop("call", None)
    # Raised inside a layer's call, Keras would dress it up.
    if failures:
        raise _NoRuleError(failures[0])
