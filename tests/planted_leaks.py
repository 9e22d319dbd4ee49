"""Leaks around the noise, planted into the central trainer, and the attack that looks for each.

The noise is as accounted for, and something beside it tells what the noise hides: who took part
follows from the seed, a checkpoint holds the noise, model.keras holds a sum of the examples, a run
ends if an example is there, or the low bits of the weights betray the sum.
"""

import contextlib
import functools
import itertools
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf

from tfpriv import central, datasets, models, privacy, runs
from tfpriv.audit import one_run
from tfpriv.audit.guesses import guess_canaries
from tfpriv.audit.one_run_bounds import one_run_epsilon
from tfpriv.audit.target import Target
from tfpriv.central import trainer
from tfpriv.central.clipping import ClippedSum
from tfpriv.central.step import PrivateStep
from tfpriv.errors import UserError

DELTA = 1e-5
# Independent runs, in each of which a fair coin decides whether one example takes part. With all
# coins guessed right the bound on epsilon is 1.6.
TRIALS = 16
SEED, METRIC, LOW_BITS = "seed known", "metric variable saved", "low bits"
_LEARNING_RATE = 0.1

# The last example is the one that the attacker looks for.
_OWN = """
import numpy as np
import tensorflow as tf
from tfpriv.datasets import Dataset

def data(last=2.0):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 6)).astype(np.float32)
    x[-1] = last
    y = (np.arange(8) % 2).astype(np.int32)
    test = generator.normal(size=(20, 6)).astype(np.float32)
    return Dataset(name="own", task="classification", num_classes=2, train_features=x,
                   train_labels=y, test_features=test, test_labels=np.zeros(20, np.int32),
                   preparation=())

def outlier():
    return data(3e38)

@tf.keras.saving.register_keras_serializable("planted")
class Watching(tf.keras.layers.Layer):
    def call(self, inputs):
        self.add_metric(tf.reduce_sum(inputs), name="seen", aggregation="mean")
        return inputs

def watching(element_shape, num_classes):
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [layers.Input(tuple(element_shape)), Watching(), layers.Dense(num_classes)]
    )
"""
# One step, in which everybody takes part.
_ONE_STEP = {
    "mechanism": "dpsgd",
    "model": "logistic",
    "expected_batch_size": 8,
    "epochs": 1,
    "noise_multiplier": 5.0,
    "clip_norm": 1.0,
    "delta": DELTA,
    "learning_rate": _LEARNING_RATE,
    "audit_canaries": 0,
}


# Who takes part follows from the seed.


def _audited_with_seed(is_planted: bool, seed: int) -> tuple[float, float]:
    """Audits a run whose steps an attacker sees who knows its seed, and 600 canaries.

    Returns:
        The lower bound on epsilon, and the accounted one.
    """
    weights, plans = [], []
    true_step = trainer._Session._take_step

    def observed(session, step):
        if not weights:
            weights.append([v.numpy() for v in session._model.trainable_weights])
            plans.append(session._plan)
        true_step(session, step)
        weights.append([v.numpy() for v in session._model.trainable_weights])

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(trainer._Session, "_take_step", observed))
        if is_planted:
            from_seed = mock.patch.object(runs.sampling_key, "origin_of", lambda c: c.seed)
            patches.enter_context(from_seed)
        config = central.CentralConfig(
            dataset="digits",
            model="logistic",
            learning_rate=0.2,
            expected_batch_size=48,
            epochs=4,
            clip_norm=1.0,
            target_epsilon=1.0,
            delta=DELTA,
            audit_canaries=600,
            audit_canary_kind="out_of_distribution",
            seed=seed,
            output_dir=f"{folder}/run",
        )
        target = Target(str(central.run(config).path))
        canaries, coins = one_run.planted(target)
        rows = target.recorded["canaries"]
        claim, accounted = target.claim, target.epsilon
    scores = _along_drawn(canaries, np.asarray(rows), weights, plans[0], config)
    return guess_canaries(scores, coins, claim)["epsilon"], accounted


def _along_drawn(canaries, rows, weights, plan, config):
    """Returns each canary's log-likelihood ratio, from the steps in which the seed draws it."""
    features = canaries.features.reshape(len(rows), -1).astype(np.float64)
    inputs = np.hstack([features, np.ones([len(rows), 1])])
    scores = np.zeros(len(rows))
    for step, (before, after) in enumerate(itertools.pairwise(weights)):
        drawn = np.isin(rows, plan.participants(step, config.seed, 0))
        (kernel, bias), (moved, moved_bias) = before, after
        logits = inputs @ np.vstack([kernel, bias])
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        errors = chances - np.eye(chances.shape[1])[canaries.labels]
        norms = np.linalg.norm(inputs, axis=1) * np.linalg.norm(errors, axis=1)
        total = np.vstack([kernel - moved, bias - moved_bias])
        total *= config.expected_batch_size / config.learning_rate
        shares = np.einsum("ni,ic,nc->n", inputs, total, errors) / norms
        scores += np.where(drawn, shares - 0.5, 0.0)
    return scores


# What lies in the directory of a run of one step, and whether there is one.


class _KeepsNoise(PrivateStep):
    """The noise of the step is kept, for the checkpoint."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.kept = tf.Variable(np.zeros(sum(int(np.prod(v.shape)) for v in self._weights)))

    def _with_noise(self, clip_norm, *means):
        released = super()._with_noise(clip_norm, *means)
        self.kept.assign(_flat(released) - _flat(means))
        return released


@contextlib.contextmanager
def _checkpoint_with_noise():
    true_kept = trainer._Session._kept

    def kept(session):
        return {**true_kept(session), "noise": session._step.kept}

    with (
        mock.patch.object(trainer, "PrivateStep", _KeepsNoise),
        mock.patch.object(trainer._Session, "_kept", kept),
    ):
        yield


@contextlib.contextmanager
def _any_state():
    """State that moves with the examples is neither refused nor put back."""
    with (
        mock.patch.object(models, "refuse_moving_state", lambda model: None),
        mock.patch.object(models.FrozenState, "put_back", lambda state: contextlib.nullcontext()),
    ):
        yield


class _Stops(PrivateStep):
    """A gradient that is not finite ends the run, with a sentence."""

    def __call__(self, chunks):
        for chunk in chunks:
            _, norms = self._clipped_sum(*chunk, self.clip_norm, scale=1.0)
            if not np.isfinite(norms).all():
                raise UserError("the gradient of a training example is not finite.")
        super().__call__(chunks)


def _guess_by_noise(run):
    """Takes the noise that is kept, or none, from what was released, and sees which sum is left."""
    reader = tf.train.load_checkpoint(str(run / "checkpoints"))
    kept = [name for name in reader.get_variable_to_shape_map() if name.startswith("noise")]
    left = _flat(_first_model().trainable_weights) - _flat(_model_of(run).trainable_weights)
    left = left / _LEARNING_RATE - (reader.get_tensor(kept[0]) if kept else 0.0)
    return _nearer_to_first(left, *_sums())


def _guess_by_metric(run):
    """Sees which of the attacker's own runs the total of a metric in model.keras is nearer to."""
    return run is not None and _nearer_to_first(_total(run), _own_total(True), _own_total(False))


@functools.cache
def _own_total(is_there):
    with tempfile.TemporaryDirectory() as folder:
        return _total(_left_by_run(METRIC, True, is_there, pathlib.Path(folder)))


def _total(run):
    return float(_model_of(run).metrics[0].total)


def _guess_by_end(run):
    """Sees whether the run stopped."""
    return run is None


def _model_of(run):
    return tf.keras.models.load_model(run / "model.keras", compile=False)


def _first_model():
    return models.build("logistic", (6,), 2, seed=0)


@functools.cache
def _own():
    names = {}
    exec(_OWN, names)
    return names


@functools.cache
def _sums():
    """Returns the mean of the clipped gradients with the last example, and without it."""
    dataset = _own()["data"]()
    return _means(_first_model(), dataset.train_features, dataset.train_labels)


# By name: what is planted, the data set, the model, and how an attacker guesses from what is left
# whether the last example took part.
_LEFT_BEHIND = {
    "noise kept in a checkpoint": (_checkpoint_with_noise, "data", "logistic", _guess_by_noise),
    METRIC: (_any_state, "data", "watching", _guess_by_metric),
    "outlier that aborts": (
        lambda: mock.patch.object(trainer, "PrivateStep", _Stops),
        "outlier",
        "logistic",
        _guess_by_end,
    ),
}


def _left_by_run(name, is_planted, is_there, folder):
    """Returns the run's directory; None if the model is refused or the run stops."""
    planted, dataset, model, _ = _LEFT_BEHIND[name]
    own = folder / "own.py"
    own.write_text(_OWN)
    flags = {**_ONE_STEP, "dataset": f"{own}:{dataset}", "output_dir": str(folder / "run")}
    flags["model"] = model if model == "logistic" else f"{own}:{model}"
    true_train = trainer._Session.train

    def train(session, run):
        if not is_there:
            session.leave_out([7])
        true_train(session, run)

    with mock.patch.object(trainer._Session, "train", train), contextlib.ExitStack() as patches:
        if is_planted:
            patches.enter_context(planted())
        try:
            return central.run(central.CentralConfig(**flags)).path
        except UserError:
            return None


# The low bits of the weights.


class _InFloat32(PrivateStep):
    """Noise of Box and Muller in float32, whose angle has 23 bits, is added to the sum as it is."""

    def _with_noise(self, clip_norm, *means):
        size = sum(mean.size for mean in means)
        generator, pairs = np.random.default_rng(), -(-size // 2)
        deviation = np.float32(clip_norm * self._mechanism.noise_multiplier / self._expected_size)
        radius = np.sqrt(-2 * np.log(generator.random(pairs, np.float32) + np.float32(1e-9)))
        angle = _angle(generator.integers(0, 2**23, pairs))
        drawn = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size] * deviation
        ends = np.cumsum([mean.size for mean in means])[:-1]
        parts = np.split(drawn.astype(np.float32), ends)
        return [m + np.reshape(part, m.shape) for m, part in zip(means, parts, strict=True)]


def _angle(bits):
    uniform = np.float32(1) + bits.astype(np.float32) * np.float32(2.0**-23)
    return np.float32(2 * np.pi) * uniform


def _off_the_rays(noise):
    """Returns how far the pairs of some noise are from all angles of 23 bits, in steps of these."""
    pairs = -(-len(noise) // 2)
    x, y = noise[:pairs], noise[pairs:]
    told = np.mod(np.arctan2(y, x[: len(y)]), 2 * np.pi)
    nearest = np.round(told / (2 * np.pi) * 2**23).astype(np.int64)
    distances = []
    for more in range(-3, 4):
        angle = _angle((nearest + more) % 2**23).astype(np.float64)
        distances.append(np.abs(np.mod(angle - told + np.pi, 2 * np.pi) - np.pi))
    return np.mean(np.min(distances, axis=0)) / (2 * np.pi / 2**23)


@functools.cache
def _step_on_digits(kind):
    """Returns 64 examples, a model of zeros, its step, and its means with the last and without."""
    dataset = datasets.load("digits", None)
    features, labels = dataset.train_features[:64], dataset.train_labels[:64]
    model = models.build("logistic", features.shape[1:], 10, seed=0)
    model.set_weights([0 * weight for weight in model.get_weights()])
    means = _means(model, features, labels)
    # To multiply by a power of 2 rounds nothing.
    optimizer = tf.keras.optimizers.SGD(0.25, jit_compile=False)
    objective = models.Objective(task="classification", from_logits=True)
    clipped_sum = ClippedSum(model, objective, (features, labels))
    return features, labels, model, kind(model, optimizer, clipped_sum, _plan(64)), means


def _guessed_from_low_bits(is_planted, is_there):
    kind = _InFloat32 if is_planted else PrivateStep
    features, labels, model, step, (with_last, without) = _step_on_digits(kind)
    present = np.ones(64, np.float32)
    present[-1] = is_there
    model.set_weights([0 * weight for weight in model.get_weights()])
    step([(features, labels, present)])
    released = -4 * _flat(model.trainable_weights)
    return _off_the_rays(released - with_last) < _off_the_rays(released - without)


def _means(model, features, labels):
    """Returns the mean of the clipped gradients with the last example, and without it."""
    objective = models.Objective(task="classification", from_logits=True)
    clipped_sum = ClippedSum(model, objective, (features, labels))
    size = len(labels)
    found = []
    for is_there in (True, False):
        present = np.ones(size, np.float32)
        present[-1] = is_there
        sums, _ = clipped_sum(features, labels, present, tf.constant(1.0), scale=1 / size)
        found.append(_flat(sums))
    return found


def _plan(population):
    """Returns that of a step in which everybody takes part."""
    return privacy.PrivacyPlan(
        unit="example",
        sampler=privacy.build_sampler("poisson", population, population),
        mechanism=privacy.Gaussian(clip_norm=1.0, noise_multiplier=_ONE_STEP["noise_multiplier"]),
        delta=DELTA,
    )


def _flat(tensors):
    return np.concatenate([np.ravel(tensor) for tensor in tensors]).astype(np.float64)


def _nearer_to_first(value, first, second):
    return np.linalg.norm(value - first) < np.linalg.norm(value - second)


LEAKS = (SEED, *_LEFT_BEHIND, LOW_BITS)


def audited(name: str, is_planted: bool, seed: int) -> tuple[float, float]:
    """Audits with the attack on one of the leaks, whether that is planted or not.

    Returns:
        The lower bound on epsilon, and the accounted one.
    """
    if name == SEED:
        return _audited_with_seed(is_planted, seed)
    coins = np.random.default_rng(seed).random(TRIALS) < 0.5
    correct = 0
    for coin in coins:
        if name == LOW_BITS:
            guess = _guessed_from_low_bits(is_planted, bool(coin))
        else:
            with tempfile.TemporaryDirectory() as folder:
                run = _left_by_run(name, is_planted, bool(coin), pathlib.Path(folder))
                guess = _LEFT_BEHIND[name][-1](run)
        correct += guess == coin
    return one_run_epsilon(TRIALS, TRIALS, int(correct), DELTA), _plan(8).epsilon([1]).value
