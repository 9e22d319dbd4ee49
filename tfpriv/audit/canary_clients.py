"""An estimate of epsilon, and a lower bound, from a federated run with canary clients.

Andrew, Kairouz, Oh, Oprea, McMahan and Suriyakumar 2023, "One-shot empirical privacy estimation for
federated learning" (arXiv 2302.03098): a canary client sends a random direction, and the cosine
between that and how the model has moved tells whether it took part. The cosines of the canaries
that did, and of those that did not, are taken for two normal distributions, and epsilon between
these is the estimate. It is no bound: it says what these canaries would show to an attacker that
looks at their cosines, if the cosines are normal. As any difference of the two measured variances
shows as epsilon, the estimate is too large more often than too small, and by more the fewer the
canaries. The bound beside it is proved as that of `one_run` is, from the same cosines.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfpriv import models, runs
from tfpriv.audit import canaries, report, statistics
from tfpriv.audit.config import AuditConfig
from tfpriv.audit.report import Finding
from tfpriv.audit.target import Target
from tfpriv.errors import UserError

# Where the run claims no delta of its own.
DEFAULT_DELTA = 1e-5
_FEWEST_ON_A_SIDE = 5
# A variance measured on fewer tells little, and on fewer than many still shows too much epsilon.
_ENOUGH_TO_ESTIMATE, _MANY = 30, 100
# A resample may hold one score alone.
_LEAST_STDDEV = 1e-6
_RESAMPLES = 1000
_BOOTSTRAP_STREAM = 0xB007
# How many numbers of directions are held at once.
_HELD = 20_000_000

THREAT_MODELS = {
    "final_model": (
        "the attacker sees the first and the final model and chose the canaries' updates: it takes "
        "the cosine between a canary's update and how the model has moved in all"
    ),
    "all_iterates": (
        "the attacker sees the model at every evaluation and chose the canaries' updates: it takes "
        "the largest cosine between a canary's update and how the model has moved from one "
        "evaluation to the next"
    ),
}


def attack(target: Target, config: AuditConfig) -> Finding:
    """Estimates epsilon from the canary clients of a federated run, and proves a bound.

    Raises:
        UserError: if the run has no canary clients, too few, or not their coins.
    """
    if target.program != "federated":
        raise UserError(
            f"--attack=canary_clients looks for canary clients, and {target.run.path} is a run of "
            f"{target.program}; use --attack=one_run, which looks for canary examples."
        )
    coins = canaries.coins_of(target, target.recorded.get("canary_clients", 0))
    fewest = min(int(coins.sum()), int((~coins).sum()))
    if fewest < _FEWEST_ON_A_SIDE:
        raise UserError(
            f"the coins of {target.run.path} left {fewest} canaries on one side, too few to "
            "describe; train with more --audit_canaries."
        )
    scores, dimension = cosines(target, len(coins))
    delta = target.delta or DEFAULT_DELTA
    estimates = {}
    for name, values in scores.items():
        # A cosine with what does not depend on the direction; a largest one has no such form.
        known = (0.0, dimension**-0.5) if name == "final_model" else None
        estimates[name] = estimate(
            values[coins], values[~coins], known, delta, config.confidence, config.seed
        )
    note = (
        "an estimate, which assumes normal cosines and tends to be too large where canaries are "
        "few; the bound is epsilon_lower_bound"
    )
    if fewest < _MANY:
        note += f"; there are only {fewest} canaries on one side, too few to trust it"
    if not target.delta:
        note += f"; the run claims no delta, so that the estimate is for delta = {delta:g}"
    finding = canaries.finding(
        scores,
        coins,
        THREAT_MODELS,
        "client",
        target.claim,
        config.confidence,
        figures={
            "weights": dimension,
            "estimate_delta": delta,
            "epsilon_estimate_is": note,
            "estimate_is_rough": fewest < _MANY,
            "estimates": estimates,
        },
    )
    estimated = {
        f"{name}_epsilon_estimate": result["epsilon_estimate"]
        and result["epsilon_estimate"]["value"]
        for name, result in estimates.items()
    }
    return dataclasses.replace(finding, summary={**finding.summary, **estimated})


def cosines(target: Target, count: int) -> tuple[dict[str, np.ndarray], int]:
    """Returns each canary's cosines by the name of the attacker, [count], and how many weights.

    The server subtracts updates, so what counts is how the weights have fallen.
    """
    every = runs.trajectory.models(target.run)
    first = last = next(every)
    for weights in every:
        last = weights
    shapes = [w.shape for w in first]
    dimension = sum(w.size for w in first)
    whole = _unit(first, last)
    scores = {name: np.full(count, -np.inf) for name in THREAT_MODELS}
    at_once = max(1, _HELD // dimension)
    for start in range(0, count, at_once):
        part = slice(start, min(count, start + at_once))
        directions = _directions(target.recorded["canary_seed"], part, shapes)
        scores["final_model"][part] = directions @ whole
        before = None
        for after in runs.trajectory.models(target.run):
            if before is not None:
                along = directions @ _unit(before, after)
                scores["all_iterates"][part] = np.maximum(scores["all_iterates"][part], along)
            before = after
    return scores, dimension


def estimate(
    members: np.ndarray,
    non_members: np.ndarray,
    known: tuple[float, float] | None,
    delta: float,
    confidence: float,
    seed: int,
) -> dict:
    """Returns epsilon between the normal distributions of two samples of scores; for JSON.

    It is None, and `no_estimate_because` says why, with fewer than 30 scores on a side.

    Args:
        members: [n] scores of canaries that took part, n >= 2.
        non_members: [m] scores of those that did not, m >= 2.
        known: Mean and standard deviation of the non-members' distribution, if a theorem says them;
            else they are measured.
        delta: Of the estimate.
        confidence: Of the intervals; that of the estimate is a bootstrap's over canaries, by its
            percentiles.
        seed: Of the bootstrap.
    """
    null = _described(non_members, confidence)
    if known:
        null |= {"known_mean": known[0], "known_stddev": known[1]}
    described = {"took_part": _described(members, confidence), "left_out": null}
    fewest = min(len(members), len(non_members))
    if fewest < _ENOUGH_TO_ESTIMATE:
        because = (
            f"{fewest} canaries on one side are too few to measure a variance; it takes at least "
            f"{_ENOUGH_TO_ESTIMATE}, so train with more --audit_canaries"
        )
        return {"epsilon_estimate": None, "no_estimate_because": because, **described}

    def epsilon(some_members, some_others):
        null = known or _fitted(some_others)
        return statistics.epsilon_between_normals(null, _fitted(some_members), delta)

    generator = np.random.default_rng((seed, _BOOTSTRAP_STREAM))
    drawn = [
        epsilon(*(generator.choice(part, len(part)) for part in (members, non_members)))
        for _ in range(_RESAMPLES)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    interval = statistics.Estimate(epsilon(members, non_members), float(low), float(high))
    return {"epsilon_estimate": report.plain(interval), **described}


def _fitted(scores):
    return float(scores.mean()), max(_LEAST_STDDEV, float(scores.std(ddof=1)))


def _described(scores, confidence):
    mean, stddev = statistics.normal_parameters(scores, confidence)
    return {"mean": report.plain(mean), "stddev": report.plain(stddev)}


def _directions(seed, part, shapes):
    @tf.function
    def direction(number):
        parts = models.random_direction(seed, number, shapes, 1.0)
        return tf.concat([tf.reshape(values, [-1]) for values in parts], axis=0)

    return np.stack([direction(tf.constant(n)).numpy() for n in range(part.start, part.stop)])


def _unit(before, after):
    """Returns how the weights have fallen, in one vector of norm 1, or 0 if they have not moved."""
    fallen = np.concatenate([(b - a).reshape(-1) for b, a in zip(before, after, strict=True)])
    norm = np.linalg.norm(fallen.astype(np.float64))
    return (fallen / norm if norm else fallen).astype(np.float32)
