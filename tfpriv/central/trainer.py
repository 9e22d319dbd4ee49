"""Trains a Keras model on one machine, from a config to a finished run directory."""

import contextlib
import functools
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfpriv import datasets, models, privacy, runs
from tfpriv.central import pca
from tfpriv.central.batches import Batches, rows_of
from tfpriv.central.checkpoints import Checkpoints
from tfpriv.central.clipping import ClippedSum
from tfpriv.central.config import CentralConfig
from tfpriv.central.optimizers import build_optimizer
from tfpriv.central.per_example import random_examples
from tfpriv.central.step import PlainStep, PrivateStep
from tfpriv.draws import Origin
from tfpriv.errors import UserError
from tfpriv.models.messages import first_line
from tfpriv.privacy import statement

PROGRAM = "central"
_RESOURCES = (
    "seconds_per_step",
    "examples_per_second",
    "start_to_first_step_seconds",
    "wall_seconds",
    "peak_memory_mb",
)


def train(
    config: CentralConfig,
    check_model: Callable[..., None],
    dataset: datasets.Dataset | None = None,
) -> runs.RunDirectory:
    """Trains, evaluates and writes the run directory.

    Everything that can be refused is refused before the directory is made.

    Args:
        config: A complete config.
        check_model: Called with the Keras model; it may refuse it by a UserError.
        dataset: What to train on instead of what the config names, with its features but for
            principal components.

    Returns:
        The run directory, closed.

    Raises:
        UserError: if the config, the data or the model cannot work, or training diverges.
    """
    # It tells of graph conversions that are slower than they could be; nobody can act on that.
    tf.get_logger().setLevel("ERROR")
    # A GPU's shorter mantissas would let an example through beyond the clip.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    origin = runs.sampling_key.origin_of(config)
    dataset, components, members = _data(config, dataset, origin)
    plan, steps = build_plan(config, len(dataset.train_features))
    model, objective, info = _model(config, dataset)
    whole = components.before(model) if components else model
    check_model(whole)
    session = _Session(config, dataset, plan, steps, model, objective, origin)
    for note in (*info.notes, *session.notes, *plan.notes_on_noise(info.num_parameters, steps)):
        runs.print_safely(f"note: {note}", sys.stderr)
    if config.audit_canaries and config.output_dir and not config.resume:
        runs.coins.refuse_left_over(config.output_dir)
    with runs.RunDirectory.start(
        config,
        program=PROGRAM,
        step_name="step",
        seeds={"seed": config.seed},
        data=dataset.provenance,
    ) as run:
        runs.sampling_key.keep(run.path, origin)
        coins = runs.seal.record_members(run, **members)
        session.leave_out(np.array(members["members"].get("canaries", ()), np.int64)[~coins])
        if config.is_private:
            run.pin("noise_multiplier", plan.noise_multiplier)
        if components:
            components.keep(run)
        session.train(run)
        session.finish(run, info, whole)
    return run


def _data(
    config: CentralConfig, dataset: datasets.Dataset | None, origin: Origin
) -> tuple[datasets.Dataset, pca.Components | None, dict[str, Any]]:
    """Returns what the model reads, the principal components if it reads them, and the members.

    The members are as `runs.seal.record_members` takes them.
    """
    members: dict[str, Any] = {}
    data_sha256 = None
    if dataset is None:
        assert isinstance(config.dataset, str) and config.scaling, "the config is complete"
        dataset = datasets.load(config.dataset, config.data_dir, scaling=config.scaling)
        data_sha256 = datasets.rows.fingerprint(dataset)
        if config.features != "dp_pca":
            dataset = datasets.with_features(dataset, config.features, config.data_dir)
    size = len(dataset.train_features)
    rows = datasets.rows.subset_rows(size, config.train_fraction, origin)
    taken = None
    if config.claims_privacy and len(rows) < size:
        taken = np.isin(np.arange(size), rows)
    dataset = datasets.rows.take_rows(dataset, rows)
    members["train_examples"] = len(rows)
    if config.audit_canaries:
        assert config.audit_canary_kind is not None
        dataset, planted = datasets.canaries.plant(
            dataset, config.audit_canaries, config.audit_canary_kind, config.seed
        )
        members["canaries"] = planted.tolist()
    if config.audit_secrets:
        secrets = datasets.secrets.draw(dataset, config.audit_secrets, config.seed)
        dataset = datasets.secrets.plant(dataset, secrets)
        members["secrets"] = secrets.record()
    components = None
    if config.features == "dp_pca":
        components = pca.Components.of_run(config, dataset)
        dataset = components.project(dataset)
    return (
        dataset,
        components,
        {
            "members": members,
            "canaries": config.audit_canaries,
            "data_sha256": data_sha256,
            "claims_privacy": config.claims_privacy,
            "taken": taken,
        },
    )


def build_plan(config: CentralConfig, population: int) -> tuple[privacy.PrivacyPlan, int]:
    """Returns the calibrated plan over `population` examples, and the number of steps of the run.

    Raises:
        UserError: if the batch does not fit the population, or no noise reaches the target.
    """
    size = config.expected_batch_size
    if size > population:
        raise UserError(
            f"--expected_batch_size={size} is more than the {population} training examples; give "
            f"at most {population}."
        )
    assert isinstance(config.sampler, str), "the config is complete"
    sampler = privacy.build_sampler(config.sampler, population, size)
    steps_per_epoch = sampler.steps_per_pass or population / size
    steps = max(1, round(config.epochs * steps_per_epoch))
    plan = privacy.PrivacyPlan(
        unit="example",
        sampler=sampler,
        mechanism=_mechanism(config, steps),
        delta=config.delta,
        release_noise_multiplier=config.pca_noise_multiplier,
    )
    plan = privacy.fit(
        plan,
        steps,
        target_epsilon=config.target_epsilon,
        bands=config.bands,
        separation=config.separation,
    )
    return plan, steps


def _mechanism(config, steps):
    if not config.is_private:
        return None
    name = "gaussian" if config.mechanism == "dpsgd" else config.mechanism
    return privacy.build_mechanism(
        "adaptive" if config.clipping == "adaptive" else name,
        clip_norm=config.clip_norm,
        noise_multiplier=config.noise_multiplier,
        factorization=config.factorization,
        horizon=steps,
        target_quantile=config.target_quantile,
        clip_learning_rate=config.clip_learning_rate,
        members_per_step=config.expected_batch_size,
    )


class _Session:
    """One segment of steps, from a fresh start or a checkpoint to the end."""

    def __init__(self, config, dataset, plan, steps, model, objective, origin) -> None:
        self._config = config
        self._origin = origin
        self._dataset = dataset
        self._plan = plan
        self._steps = steps
        self._model = model
        self._optimizer = build_optimizer(config, steps)
        self._features = dataset.train_features
        self._labels = dataset.train_labels
        self._is_absent = np.zeros(len(self._labels), bool)
        self._evaluate = functools.partial(
            models.evaluate,
            model,
            dataset.test_features,
            dataset.test_labels,
            objective,
            label_scale=dataset.label_scale,
        )
        self._seconds: list[float] = []
        self._first_step_at: float | None = None
        self.notes = plan.warnings
        if not config.is_private:
            self._step: PlainStep | PrivateStep = PlainStep(model, self._optimizer, objective)
            return
        with _failures("random examples"):
            clipped_sum = ClippedSum(
                model,
                objective,
                random_examples(dataset),
                per_layer=config.clipping == "per_layer",
            )
        self.notes += clipped_sum.notes
        self._step = PrivateStep(model, self._optimizer, clipped_sum, plan)
        self._batches = Batches(
            plan.sampler, steps, config.accumulate_steps, clipped_sum.largest_batch
        )
        models.refuse_example_mixing(model, self._batches.usual_widths)
        # State that a forward pass moves would carry the data past the noise.
        models.refuse_moving_state(model)

    def leave_out(self, rows):
        """Keeps members from taking part, though they are drawn and accounted for as others."""
        self._is_absent[rows] = True

    def train(self, run):
        config = self._config
        self._checkpoints = Checkpoints(run.checkpoints_path, **self._kept())
        ledger_path = run.path / "steps.json"
        self._ledger = privacy.Ledger.read(ledger_path)
        start = self._checkpoints.restore() if config.resume else 0
        if config.is_private:
            self._frozen = models.FrozenState(self._model)
        per_epoch = self._steps / config.epochs
        evaluated = {round(epoch * per_epoch) for epoch in _marks(config.epochs, config.eval_every)}
        if config.resume:
            self._ledger.refuse_gap(start, ledger_path)
            measured = max((step for step in evaluated if step <= start), default=0)
            runs.return_to(run, start, self._ledger.steps, measured=measured)
        kept = {round(e * per_epoch) for e in _marks(config.epochs, config.checkpoint_every)}
        recorded = start
        if not start:
            self._keep_for_audit(run, 0)
        with runs.Progress(self._steps, initial=start, unit="step") as progress:
            for step in range(start, self._steps):
                self._take_step(step)
                done = step + 1
                if done in evaluated or done in kept:
                    # Before anything of these steps is saved or shown.
                    for number in range(recorded, done):
                        self._ledger.record(number)
                    self._ledger.write(ledger_path)
                    recorded = done
                metrics = {}
                if done in evaluated:
                    metrics = self._measure(done)
                    self._keep_for_audit(run, done)
                if metrics:
                    # Before the checkpoint, so that each has its row; later rows go at a resume.
                    run.metrics.write(done, metrics)
                if done in kept:
                    with self._released_state():
                        self._checkpoints.save(done)
                progress.update(
                    done,
                    accuracy=metrics.get("test_accuracy"),
                    rmse=metrics.get("test_rmse"),
                    epsilon=metrics.get("epsilon"),
                )

    def finish(self, run, info, whole):
        config, plan = self._config, self._plan
        covered = "the models of all steps"
        if config.features == "dp_pca":
            covered = f"the principal components and {covered}"
        with self._released_state():
            models.save(whole, run.model_path)
        unproved = config.is_private and models.is_unproved(self._model)
        described = statement.describe(
            plan,
            self._segments(),
            covered=covered,
            not_covered=(*self._dataset.preparation, models.UNPROVED_MIXING if unproved else ""),
            repeated_steps=self._ledger.repeated_steps,
            insecure_sampling_seed=config.insecure_sampling_seed,
        )
        run.write_privacy(described, statement.as_text(plan, described))
        for note in statement.notes_on_target(described, config.target_epsilon):
            runs.print_safely(f"note: {note}", sys.stderr)
        test = run.last_test()
        runs.plot_run(run)
        for note in models.notes_on_baseline(test, self._dataset.baseline):
            runs.print_safely(f"note: {note}", sys.stderr)
        run.write_summary(
            {
                **test,
                **self._dataset.baseline,
                "epsilon": described["epsilon"],
                "epsilon_rdp": described["epsilon_rdp"],
                "delta": config.delta,
                "noise_multiplier": described["noise_multiplier"],
                "privacy_unit": "example" if plan.is_private else "none",
                "mechanism": config.mechanism,
                "sampler": config.sampler,
                "steps": self._steps,
                **self._resources(run),
                "model_parameters": info.num_parameters,
                "model_path": str(run.model_path),
            }
        )
        runs.seal.write(run)

    def _released_state(self):
        """Puts all but the trained weights back for what a private run writes."""
        return self._frozen.put_back() if self._config.is_private else contextlib.nullcontext()

    def _resources(self, run):
        if not self._seconds and run.summary:
            # The run had ended before it was resumed.
            return {name: run.summary.get(name) for name in _RESOURCES}
        seconds = statistics.median(self._seconds) if self._seconds else None
        rate = self._config.expected_batch_size / seconds if seconds else None
        wall, memory = runs.seconds_since_process_start(), runs.peak_memory_bytes() / 1e6
        measured = (seconds, rate, self._first_step_at, wall, memory)
        return dict(zip(_RESOURCES, measured, strict=True))

    def _keep_for_audit(self, run, done):
        if self._config.audit_canaries:
            runs.trajectory.keep(run, done, [v.numpy() for v in self._model.trainable_weights])

    def _kept(self):
        kept = {"model": self._model, "optimizer": self._optimizer}
        if isinstance(self._step, PrivateStep):
            kept["clip_norm"] = self._step.clip_norm
        return kept

    def _take_step(self, step):
        began = time.monotonic()
        members = self._plan.participants(step, self._origin, self._ledger.segment)
        members = members[~self._is_absent[members]]
        if isinstance(self._step, PrivateStep):
            steps_per_pass = self._plan.steps_per_pass
            if steps_per_pass and step % steps_per_pass == 0:
                self._step.restart_noise()
            self._step([self._examples(chunk) for chunk in self._batches.chunks(members)])
        elif len(members):
            with _failures(f"the training examples of step {step + 1}"):
                losses = self._step(self._features[members], self._labels[members])
            self._check_finite(losses, members, step)
        self._seconds.append(time.monotonic() - began)
        if self._first_step_at is None:
            self._first_step_at = runs.seconds_since_process_start()

    def _examples(self, chunk):
        present = (chunk >= 0).astype(np.float32)
        return rows_of(self._features, chunk), rows_of(self._labels, chunk), present

    def _check_finite(self, losses, members, step):
        """Names an example whose loss is not finite; only without privacy, as it tells of it."""
        bad = members[~np.isfinite(losses)]
        if len(bad) > len(members) / 2:
            raise UserError(
                f"training diverged: at step {step + 1} no loss is finite for {len(bad)} of "
                f"{len(members)} examples; lower --learning_rate."
            )
        if len(bad):
            raise UserError(
                f"at step {step + 1} the loss of training example {bad[0]} is not finite; look at "
                "its values, which may be too large, or lower --learning_rate."
            )

    def _measure(self, done):
        with _failures("the test examples"):
            test = self._evaluate()
        if not math.isfinite(test["loss"]):
            raise UserError(
                f"training diverged: the test loss is {test['loss']} after step {done}; lower "
                "--learning_rate."
            )
        metrics = {f"test_{name}": value for name, value in test.items()}
        if self._plan.is_private:
            epsilon = self._plan.epsilon(self._segments())
            metrics |= {"epsilon": epsilon.value, "epsilon_rdp": epsilon.rdp}
            if self._config.clipping == "adaptive" and isinstance(self._step, PrivateStep):
                metrics["clip_norm"] = float(self._step.clip_norm.numpy())
        return metrics

    def _segments(self):
        return self._ledger.segments(self._plan.steps_per_pass)


@contextlib.contextmanager
def _failures(examples):
    """Says of an error inside the model which examples it failed on."""
    try:
        yield
    except tf.errors.OpError as error:
        raise UserError(
            f"the model fails on {examples}: {first_line(error)}; look at their values, "
            "such as numbers of tokens beyond an embedding's, and at the model."
        ) from error


def _marks(epochs, every):
    """Returns every so many epochs, and the last."""
    return {*range(every, epochs + 1, every), epochs}


def _model(config, dataset):
    shape, labels = dataset.element_shape, dataset.train_labels
    kind = {
        "task": dataset.task,
        "input_dtype": dataset.train_features.dtype.name,
        "label_shape": labels.shape[1:],
    }
    model = models.build(config.model, shape, dataset.num_classes, **kind, seed=config.seed)
    info = models.inspect(model, shape, dataset.num_classes, **kind)
    if config.is_private:
        models.refuse_regularization(model)
    return model, models.Objective(task=dataset.task, from_logits=info.from_logits), info
