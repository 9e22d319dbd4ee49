"""Our layer rules for TensorFlow Privacy's own models, through its layer registry."""

import tensorflow as tf
from tensorflow_privacy.privacy.fast_gradient_clipping import layer_registry

from tfpriv.central.layer_rules import RULES, PerExample, are_sure
from tfpriv.privacy import CLIP_NORMS


def make_layer_registry() -> layer_registry.LayerRegistry:
    """Returns TensorFlow Privacy's registry with a function for each layer that has a rule here.

    With it `DPSequential` and `DPModel` take their fast way for convolutions, normalizations,
    embeddings and LSTMs too, where they would fall back to a slow one without a word:

        DPSequential(layers=..., layer_registry=make_layer_registry(), ...)

    They still go backward twice, which `tfpriv.central` does not. Microbatches are not supported,
    and raise NotImplementedError, as does a layer configuration that its rule does not know.
    """
    registry = layer_registry.make_default_layer_registry()
    for kind, rule in RULES.items():
        registry.insert(kind, _registry_function(rule))
    return registry


def _registry_function(rule):
    def compute(layer, arguments, keywords, tape, num_microbatches=None):
        if num_microbatches is not None:
            raise NotImplementedError(
                f"num_microbatches is {num_microbatches}, and these layers' norms are by example; "
                "leave it out."
            )
        tap = None
        if len(arguments) == 1 and not any(value is not None for value in keywords.values()):
            tap = rule(layer, arguments[0], tape.watch)
        if tap is None:
            raise NotImplementedError(
                f"there is no rule for layer {layer.name} as it is used; leave layer_registry out."
            )
        return (
            list(tap.watched),
            tap.output,
            lambda gradients: _squared_norms(tap.per_example(gradients)),
        )

    return compute


def _squared_norms(rows: PerExample):
    """Returns squared norms that are right for numbers of any size, float32 [batch]."""
    squares, missing = rows.squared_norms()

    def one(example):
        total = tf.add_n([tf.reduce_sum(tf.square(part)) for part in rows.one(example)])
        return tf.cast(total, tf.float32)

    return tf.cond(
        # Norms below the smallest clip are all the same.
        tf.reduce_all(are_sure(squares, missing, CLIP_NORMS[0])),
        lambda: squares,
        lambda: tf.map_fn(one, tf.range(tf.size(squares)), fn_output_signature=tf.float32),
    )
