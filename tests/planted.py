"""Mistakes in DP-SGD, planted into the central trainer, and the audit that looks for each.

They are put in the place of the trainer's own parts for the time of a run; nothing of the package
knows of them.
"""

import contextlib
import dataclasses
import pathlib
from unittest import mock

import numpy as np
import tensorflow as tf

from tfpriv import audit, central, models, privacy
from tfpriv.audit import statistics
from tfpriv.central import trainer
from tfpriv.central.clipping import ClippedSum
from tfpriv.central.step import PrivateStep
from tfpriv.runs import json_files

# Half of the examples in each step, so that a canary's part stands out of the noise.
RUN = {
    "dataset": "digits",
    "model": "logistic",
    "learning_rate": 0.2,
    "expected_batch_size": 720,
    "epochs": 15,
    "clip_norm": 1.0,
    "target_epsilon": 1.0,
    "audit_canaries": 600,
    "audit_canary_kind": "out_of_distribution",
    "checkpoint_every": 15,
}
# Where the claim rests on sampling few.
SAMPLED = {**RUN, "expected_batch_size": 48, "epochs": 4, "checkpoint_every": 4}

_TRIALS = 400


class _WrongClip(PrivateStep):
    """The noise is scaled to a clip of a tenth of the one that clips."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._width /= 10


class _DividedTwice(PrivateStep):
    """The noise is divided by the batch size once more than the sum."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._width /= self._expected_size


class _ClippedAfterwards(PrivateStep):
    """The sum is clipped to what the clipped sums could be at most, and no example by itself."""

    def _sum(self, features, labels, present):
        scale = 1 / self._expected_size
        sums, _ = self._clipped_sum(features, labels, present, tf.constant(1e9), scale=scale)
        sums, _ = tf.clip_by_global_norm(sums, self.clip_norm)
        return sums, tf.zeros([])


class _SkippedEmpty(PrivateStep):
    """A step without examples is left out, and its noise with it."""

    def __call__(self, chunks):
        if any(np.any(present) for *_, present in chunks):
            super().__call__(chunks)


class _Repeating(privacy.PrivacyPlan):
    """Shuffled batches, with the canaries in every one, though the plan accounts for Poisson's."""

    def participants(self, step, origin, segment):
        size = round(self.sampler.expected_size)
        dealt = privacy.build_sampler("shuffled", self.sampler.population, size).sample(
            step, origin
        )
        return np.union1d(dealt, _Repeating.canaries)


@contextlib.contextmanager
def _repeated_canaries():
    true_plant, true_build = trainer.datasets.canaries.plant, trainer.build_plan

    def plant(*arguments):
        dataset, rows = true_plant(*arguments)
        _Repeating.canaries = rows
        return dataset, rows

    def build(*arguments):
        plan, steps = true_build(*arguments)
        kept = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
        return _Repeating(**kept), steps

    with (
        mock.patch.object(trainer.datasets.canaries, "plant", plant),
        mock.patch.object(trainer, "build_plan", build),
    ):
        yield


def _step(kind):
    return lambda: mock.patch.object(trainer, "PrivateStep", kind)


# By name: what is planted, and into which run.
MISTAKES = {
    "none": (contextlib.nullcontext, RUN),
    "none, few sampled": (contextlib.nullcontext, SAMPLED),
    "noise scaled to a tenth of the clip": (_step(_WrongClip), RUN),
    "noise divided by the batch twice": (_step(_DividedTwice), RUN),
    "clipping after averaging": (_step(_ClippedAfterwards), RUN),
    "Poisson claimed, shuffled with canaries in each": (_repeated_canaries, SAMPLED),
    "empty steps skipped": (_step(_SkippedEmpty), SAMPLED),
}


def audited(mistake: str, folder: pathlib.Path, seed: int) -> dict:
    """Trains with a mistake and returns what audit.json says of it."""
    planted, flags = MISTAKES[mistake]
    run = folder / f"run_{seed}"
    with planted():
        central.run(central.CentralConfig(**flags, seed=seed, output_dir=str(run)))
    found, _ = audit.run(
        audit.AuditConfig(
            run=str(run), attack="one_run", seed=seed, output_dir=str(folder / f"audit_{seed}")
        )
    )
    return json_files.read(found.path / "audit.json")


def audited_step(mistake: str, seed: int, noise_multiplier: float = 5.0) -> tuple[float, float]:
    """Audits one step over a population of one by repeating it with and without that one.

    Returns:
        The lower bound on epsilon, and the accounted one.
    """
    kind = _SkippedEmpty if mistake == "empty steps skipped" else PrivateStep
    plan = privacy.PrivacyPlan(
        unit="example",
        sampler=privacy.build_sampler("poisson", 1, 1),
        mechanism=privacy.Gaussian(clip_norm=1.0, noise_multiplier=noise_multiplier),
        delta=1e-5,
    )
    model = models.build("logistic", (4,), 2, seed=seed)
    features, labels = np.ones((1, 4), np.float32), np.zeros(1, np.int32)
    objective = models.Objective(task="classification")
    clipped_sum = ClippedSum(model, objective, (features, labels))
    step = kind(model, tf.keras.optimizers.SGD(1.0), clipped_sum, plan)
    moves = {}
    for present in (1.0, 0.0):
        moves[present] = []
        for _ in range(_TRIALS):
            before = np.concatenate([v.numpy().ravel() for v in model.trainable_weights])
            step([(features, labels, np.full(1, present, np.float32))])
            after = np.concatenate([v.numpy().ravel() for v in model.trainable_weights])
            moves[present].append(np.linalg.norm(after - before))
    bound = statistics.epsilon_from_rates(
        np.array(moves[1.0]), np.array(moves[0.0]), plan.delta, seed=seed
    )
    return bound, plan.epsilon([1]).value
