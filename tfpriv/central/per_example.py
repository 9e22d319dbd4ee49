"""Per-example gradients of a model: by layer rules in one backward pass, or the general way."""

import contextlib
import dataclasses

import numpy as np
import tensorflow as tf

from tfpriv.central.layer_rules import RULES, Materialized, PerExample
from tfpriv.datasets import Dataset
from tfpriv.models import Objective, weights_moved
from tfpriv.models.inspection import random_batch

# The general way holds each example's whole gradient.
_GENERAL_BYTES = 2**28
_LARGEST_GENERAL_BATCH = 64
_CHECKED_EXAMPLES = 3
_TOLERANCE = 1e-3


def random_examples(dataset: Dataset) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns features and labels of no meaning, as many as `PerExampleGradients` is checked on.

    Args:
        dataset: What they resemble in shape, dtype and range of labels, and in nothing else.
    """
    labels = dataset.train_labels
    shape = (_CHECKED_EXAMPLES, *labels.shape[1:])
    generator = np.random.default_rng(0)
    drawn = (
        generator.normal(size=shape)
        if dataset.task == "regression"
        else generator.integers(dataset.num_classes, size=shape)
    )
    features = random_batch(dataset.element_shape, dataset.train_features.dtype, _CHECKED_EXAMPLES)
    return features, tf.constant(drawn.astype(labels.dtype))


@dataclasses.dataclass(frozen=True)
class Part:
    """The per-example gradients of one layer's own weights.

    Attributes:
        weights: The weights.
        rows: Their gradients.
    """

    weights: list[tf.Variable]
    rows: PerExample


class PerExampleGradients:
    """The gradients of each example's loss, layer by layer.

    Attributes:
        largest_batch: The number of rows that one call should not exceed; None for no limit.
        notes: Sentences to show the user.
    """

    def __init__(
        self, model: tf.keras.Model, objective: Objective, examples: tuple[tf.Tensor, tf.Tensor]
    ) -> None:
        """Chooses the fast way or the general one.

        Args:
            model: A built model. The gradients are with respect to its trainable weights.
            objective: What the outputs mean.
            examples: Some (features, labels), at least one, on which the ways are checked. The
                outcome shows in `notes` and in errors, so they must not be private; see
                `random_examples`.
        """
        self._model = model
        self._objective = objective
        self.notes: tuple[str, ...] = ()
        self.largest_batch: int | None = None
        self._way = self._fast
        reason = self._reason_against_fast(examples)
        if reason:
            size = sum(np.prod(v.shape) for v in model.trainable_weights)
            self.largest_batch = int(
                min(_LARGEST_GENERAL_BATCH, max(1, _GENERAL_BYTES // (4 * size)))
            )
            self._way, how = self._general, "tf.vectorized_map"
            if not self._can_be_vectorized(examples):
                self._way, how = self._one_by_one, "one example at a time"
            self.notes = (
                f"Per-example gradients are computed the general way, by {how}, which is slower: "
                f"{reason}.",
            )

    def __call__(
        self, features: tf.Tensor, labels: tf.Tensor, present: tf.Tensor, training: bool
    ) -> list[Part]:
        """Returns the gradients of one batch; for use in a `tf.function`.

        Args:
            features: [batch, ...].
            labels: [batch] or [batch, length].
            present: float32 [batch], what each loss is multiplied by.
            training: Whether layers such as dropout act as in training.
        """
        return self._way(features, labels, present, training)

    def _fast(self, features, labels, present, training):
        model = self._model
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            with _recording(model, tape.watch) as taps:
                outputs = model(features, training=training)
            loss = tf.reduce_sum(present * self._objective.loss(labels, outputs))
        units = list(taps)
        unit_gradients = tape.gradient(
            loss,
            [taps[unit].watched for unit in units],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return [
            Part(unit.trainable_weights, taps[unit].per_example(gradients))
            for unit, gradients in zip(units, unit_gradients, strict=True)
        ]

    def _general(self, features, labels, present, training):
        def gradient(example: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> list[tf.Tensor]:
            return self._gradient_of_one(*example, training)

        return self._by_layer(tf.vectorized_map(gradient, (features, labels, present)))

    def _one_by_one(self, features, labels, present, training):
        def gradient(example: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> list[tf.Tensor]:
            return self._gradient_of_one(*example, training)

        specs = [tf.TensorSpec(v.shape, v.dtype) for v in self._model.trainable_weights]
        return self._by_layer(
            tf.map_fn(gradient, (features, labels, present), fn_output_signature=specs)
        )

    def _by_layer(self, gradients):
        weights = self._model.trainable_weights
        owners = _owners(self._model)
        parts: dict[int | None, list[tuple[tf.Variable, tf.Tensor]]] = {}
        for weight, rows in zip(weights, gradients, strict=True):
            parts.setdefault(owners.get(weight.ref()), []).append((weight, rows))
        return [
            Part([weight for weight, _ in part], Materialized([rows for _, rows in part]))
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
            measured = self._measure(self._fast, features, labels)
        except _NoRuleError as error:
            return str(error)
        except (tf.errors.OpError, ValueError) as error:
            return f"the fast way fails for this model ({type(error).__name__})"
        if not _agree(measured, self._measure(self._one_by_one, features, labels)):
            return "the fast way gives other gradients for this model than TensorFlow does"
        return None

    def _can_be_vectorized(self, examples):
        features, labels = (tf.convert_to_tensor(part[:_CHECKED_EXAMPLES]) for part in examples)
        wanted = self._measure(self._one_by_one, features, labels)
        try:
            measured = self._measure(self._general, features, labels)
        except Exception:  # What pfor cannot convert it says in many ways.
            return False
        return _agree(measured, wanted)

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
            norms = tf.sqrt(tf.add_n([part.rows.squared_norms()[0] for part in parts]))
            sums = [(part, part.rows.weighted_sum(weights)) for part in parts]
            return [norms, *by_weight(self._model.trainable_weights, sums)]

        with weights_moved(self._model, seed=0):
            return measure(features, labels)


def by_weight(
    weights: list[tf.Variable], values_of_parts: list[tuple[Part, list[tf.Tensor]]]
) -> list[tf.Tensor]:
    """Returns what was found for the weights of single parts in the order of all weights.

    Args:
        weights: All weights; those of no part get zeros.
        values_of_parts: Parts, each with a tensor for each of its weights; all of one dtype.
    """
    values = {
        weight.ref(): value
        for part, part_values in values_of_parts
        for weight, value in zip(part.weights, part_values, strict=True)
    }
    dtype = next(iter(values.values())).dtype
    return [values[v.ref()] if v.ref() in values else tf.zeros(v.shape, dtype) for v in weights]


class _NoRuleError(Exception):
    """Says why a model's per-example gradients cannot be had by layer rules."""


def _agree(first, second):
    """Returns whether two lists of tensors are equal but for rounding."""
    return all(
        a.shape == b.shape
        and np.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE * float(tf.reduce_max(tf.abs(b))))
        for a, b in zip(first, second, strict=True)
    )


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
