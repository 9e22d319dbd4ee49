"""A lower bound on epsilon from one run with canaries.

Each canary took part by a fair coin of its own, the attacker guesses the coins, and so many right
guesses are improbable under a small epsilon (see `one_run_bounds`).
"""

import itertools

import numpy as np
import tensorflow as tf

from tfpriv import runs
from tfpriv.audit.canaries import coins_of, finding
from tfpriv.audit.config import AuditConfig
from tfpriv.audit.report import Finding
from tfpriv.audit.target import Examples, Target, losses
from tfpriv.central.clipping import ClippedSum
from tfpriv.errors import UserError

_BATCH, _CANARY_BATCH = 500, 50
_NO_CLIP = 1e30

THREAT_MODELS = {
    "trajectory": (
        "white box: the attacker sees the weights at every evaluation of the training, knows the "
        "canaries and all other examples, and adds up how far the weights moved along each "
        "canary's gradient beyond what the other examples explain"
    ),
    "final_model": (
        "black box: the attacker sees the final model's outputs, knows the canaries and the first "
        "model, and looks at how far a canary's loss fell"
    ),
}


def attack(target: Target, config: AuditConfig) -> Finding:
    """Guesses which canaries took part in a central run, from its models.

    Two attackers guess: one that sees the models of all evaluations, and one that sees the first
    and the final model. See `canaries.finding`.

    Raises:
        UserError: if the run has no canaries, too few, or not their coins.
    """
    canaries, coins = planted(target)
    scores = {
        "trajectory": _along_gradients(target, canaries),
        "final_model": _fall_of_loss(target, canaries),
    }
    first = "trajectory" if target.claim else None
    return finding(scores, coins, THREAT_MODELS, "example", target.claim, config.confidence, first)


def planted(target: Target) -> tuple[Examples, np.ndarray]:
    """Returns a central run's canaries, and which of them took part."""
    if target.program != "central":
        raise UserError(
            "--attack=one_run looks for example canaries, and this is a federated run; use "
            "--attack=canary_clients, which proves a bound by the same theorem."
        )
    rows = np.array(target.recorded.get("canaries", ()), np.int64)
    coins = coins_of(target, len(rows))
    trained_on = target.with_canaries()
    return (
        Examples(features=trained_on.train_features[rows], labels=trained_on.train_labels[rows]),
        coins,
    )


def _along_gradients(target, canaries):
    """Returns by how much the weights moved against each canary's gradient, beyond the others'.

    The sum over evaluations of <theta_before - theta_after, g> / |g|, where g is the gradient of
    the canary's loss at theta_before. What the known examples explain is taken out of each term:
    over the canaries, it is regressed on the same with the clipped sum over these examples, and
    half of each canary, in the place of the move. What is left is the canary itself and the noise.
    """
    model, objective = _copy(target), target.objective
    weights = model.trainable_weights
    known, clip_norm = _known(target), target.flags["clip_norm"] or _NO_CLIP
    clipped_sum = ClippedSum(
        model,
        objective,
        (canaries.features, canaries.labels),
        per_layer=target.flags["clipping"] == "per_layer",
    )
    add_up = tf.function(clipped_sum, reduce_retracing=True, autograph=False)

    def gradient(example):
        feature, label = example
        with tf.GradientTape() as tape:
            answers = model(feature[tf.newaxis], training=False)
            loss = tf.reduce_sum(objective.loss(label[tf.newaxis], answers))
        derivatives = tape.gradient(loss, weights, unconnected_gradients="zero")
        return [tf.reshape(tf.convert_to_tensor(part), [-1]) for part in derivatives]

    @tf.function(reduce_retracing=True)
    def project(features, labels, moves):
        gradients = tf.vectorized_map(gradient, (features, labels))
        along = tf.add_n([tf.matmul(g, m) for g, m in zip(gradients, moves, strict=True)])
        norms = tf.sqrt(tf.add_n([tf.reduce_sum(g * g, axis=1) for g in gradients]))
        return tf.math.divide_no_nan(along, norms[:, tf.newaxis])

    def explained():
        size = clipped_sum.largest_batch or _BATCH
        total = [np.zeros(v.shape, np.float32) for v in weights]
        for examples, weight in ((known, 1.0), (canaries, 0.5)):
            for start in range(0, len(examples), size):
                part = examples[start : start + size]
                sums, _ = add_up(
                    part.features, part.labels, tf.ones([len(part)]), tf.constant(clip_norm), False
                )
                total = [a + weight * b.numpy() for a, b in zip(total, sums, strict=True)]
        return total

    scores = np.zeros(len(canaries))
    parts = [
        canaries[start : start + _CANARY_BATCH] for start in range(0, len(canaries), _CANARY_BATCH)
    ]
    pairs = list(itertools.pairwise(runs.trajectory.models(target.run)))
    with runs.Progress(len(pairs), unit="model") as progress:
        for number, (before, after) in enumerate(pairs):
            for variable, value in zip(weights, before, strict=True):
                variable.assign(value)
            moves = [
                tf.constant(np.stack([(b - a).ravel(), e.ravel()], axis=1))
                for a, b, e in zip(after, before, explained(), strict=True)
            ]
            along = np.concatenate([project(p.features, p.labels, moves).numpy() for p in parts])
            scores += _residuals(along[:, 0], along[:, 1])
            progress.update(number + 1)
    return scores


def _residuals(values, explaining):
    """Returns what is left of `values` after a linear regression on `explaining`, both [m]."""
    columns = np.stack([np.ones_like(explaining), explaining], axis=1).astype(np.float64)
    coefficients, *_ = np.linalg.lstsq(columns, values, rcond=None)
    return values - columns @ coefficients


def _known(target):
    """Returns the examples that took part for certain."""
    planted = target.with_canaries()
    rows = np.delete(np.arange(len(planted.train_labels)), target.recorded["canaries"])
    return Examples(features=planted.train_features[rows], labels=planted.train_labels[rows])


def _copy(target):
    model = tf.keras.models.clone_model(target.model)
    model.build((None, *target.dataset.element_shape))
    # clone_model draws weights anew, also those that no step moves.
    model.set_weights(target.model.get_weights())
    return model


def _fall_of_loss(target, canaries):
    """Returns how far each canary's loss fell from the first model to the final one."""
    first = next(runs.trajectory.models(target.run))
    model = _copy(target)
    for variable, value in zip(model.trainable_weights, first, strict=True):
        variable.assign(value)
    return losses(model, target.objective, canaries) - target.losses(canaries)
