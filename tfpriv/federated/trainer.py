"""Trains a Keras model federated, from a config to a finished run directory."""

import contextlib
import dataclasses
import functools
import math
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfpriv import datasets, models, privacy, runs
from tfpriv.errors import UserError
from tfpriv.federated import aggregation, process, runtime
from tfpriv.federated.accountant import Accountant
from tfpriv.federated.canaries import build_canaries
from tfpriv.federated.checkpoints import Checkpoints
from tfpriv.federated.client_states import ClientStates
from tfpriv.federated.config import FederatedConfig
from tfpriv.federated.examples import Examples
from tfpriv.federated.local_model import build_local_model
from tfpriv.federated.noise import NoiseFeed
from tfpriv.federated.population import Population
from tfpriv.federated.silos import build_silos
from tfpriv.federated.worker import Worker
from tfpriv.privacy import statement

PROGRAM = "federated"


def train(
    config: FederatedConfig, worker: Worker, check_model: Callable[..., None]
) -> runs.RunDirectory:
    """Trains, evaluates and writes the run directory.

    Everything that can be refused is refused before the directory is made.

    Args:
        config: A complete config.
        worker: The worker that runs the clients; it is closed at the end.
        check_model: Called with the Keras model; it may refuse it by a UserError.

    Returns:
        The run directory, closed.

    Raises:
        UserError: if the config, the data or the model cannot work, or training diverges.
        WorkerError: if the worker ends or falls silent.
    """
    # It tells of graph conversions that are slower than they could be; nobody can act on that.
    tf.get_logger().setLevel("ERROR")
    assert isinstance(config.dataset, str) and config.scaling, "the config is complete"
    dataset = datasets.load(config.dataset, config.data_dir, scaling=config.scaling)
    data_sha256 = datasets.rows.fingerprint(dataset)
    members = {"train_examples": len(dataset.train_labels)}
    partition = datasets.partition(
        dataset, config.partition, config.num_clients, config.seed, config.data_dir
    )
    origin = runs.sampling_key.origin_of(config)
    plan, population = _plan(config, partition, origin)
    canaries = build_canaries(config, partition.sizes)
    if canaries is not None:
        members |= {"canary_clients": canaries.count, "canary_seed": canaries.seed}
    examples = Examples(dataset.train_features, dataset.train_labels)
    # The shared copy is the only one from here on.
    dataset = dataclasses.replace(
        dataset, train_features=examples.features.array, train_labels=examples.labels.array
    )
    build, model, objective, info = _model(config, dataset)
    check_model(model)
    local_model = build_local_model(build, model, objective, examples)
    participation = min(1.0, config.clients_per_round / partition.num_clients)
    learning = process.build_process(
        config, local_model, plan or _any_silo(population), canaries, participation
    )
    drowned = () if plan is None else plan.notes_on_noise(info.num_parameters, config.rounds)
    for note in (*info.notes, *population.warnings, *drowned):
        runs.print_safely(f"note: {note}", sys.stderr)

    if config.audit_canaries and config.output_dir and not config.resume:
        runs.coins.refuse_left_over(config.output_dir)
    directory = runs.RunDirectory.start(
        config, program=PROGRAM, seeds={"seed": config.seed}, data=dataset.provenance
    )
    with directory as run, runtime.running(worker):
        runs.sampling_key.keep(run.path, origin)
        coins = runs.seal.record_members(
            run,
            members,
            config.audit_canaries,
            data_sha256=data_sha256,
            claims_privacy=config.claims_privacy,
        )
        if config.is_private:
            run.pin("noise_multiplier", (plan or _any_silo(population)).noise_multiplier)
        population = dataclasses.replace(
            population,
            absent=tuple(np.flatnonzero(~coins)),
            in_order=learning.algorithm.in_order,
        )
        if config.plot_partition:
            datasets.plot_partition(dataset, partition, run.plots_path / "partition.png")
        session = _Session(
            config, run, learning, model, local_model, plan, population, dataset.preparation
        )
        evaluate = functools.partial(
            models.evaluate,
            model,
            dataset.test_features,
            dataset.test_labels,
            objective,
            label_scale=dataset.label_scale,
        )
        session.train(evaluate)
        session.finish(info, dataset.baseline)
    examples.close()
    return run


class _Session:
    """One segment of rounds, from a fresh start or a checkpoint to the end."""

    def __init__(self, config, run, learning, model, local_model, plan, population, preparation):
        self._config = config
        self._preparation = preparation
        self._run = run
        self._learning = learning
        self._model = model
        self._plan = plan
        self._noise = NoiseFeed(plan, sum(int(np.prod(v.shape)) for v in model.trainable_weights))
        self._population = population
        self._checkpoints = Checkpoints(run.checkpoints_path)
        self._client_states = None
        if learning.algorithm.has_client_states:
            self._client_states = ClientStates(
                run.client_states_path, learning.first_client_state()
            )
        self._accountant = Accountant(run.path / "rounds.json", plan, population)
        self._stopped_early_after = None
        self._seconds = []
        self._first_round_at = None
        self._latest = {}
        self._classifies = local_model.objective.task == "classification"
        self._warned = False

    def train(self, evaluate):
        config = self._config
        state, start = self._start()
        if config.is_private:
            self._frozen = models.FrozenState(self._model)
        if not start:
            self._keep_for_audit(0)
        with runs.Progress(config.rounds, initial=start) as progress:
            for round_number in range(start, config.rounds):
                began = time.monotonic()
                state, metrics = self._round(state, round_number)
                self._seconds.append(time.monotonic() - began)
                if self._first_round_at is None:
                    self._first_round_at = runs.seconds_since_process_start()
                done = round_number + 1
                if done % config.eval_every == 0 or done == config.rounds:
                    self._take_weights(state)
                    self._keep_for_audit(done)
                    test = evaluate()
                    if not math.isfinite(test["loss"]):
                        raise UserError(
                            f"training diverged: the test loss is {test['loss']} after round "
                            f"{done}; lower --client_learning_rate or --server_learning_rate."
                        )
                    self._latest = {f"test_{name}": value for name, value in test.items()}
                    metrics |= self._latest | self._accountant.spent()
                reached = self._reached_target()
                # Before the checkpoint, so that each has its row; later rows go at a resume.
                self._run.metrics.write(done, metrics)
                if done % config.checkpoint_every == 0 or done == config.rounds or reached:
                    self._checkpoints.save(state, done)
                    if self._client_states is not None:
                        self._client_states.checkpoint_made(done)
                progress.update(
                    done,
                    accuracy=metrics.get("test_accuracy"),
                    rmse=metrics.get("test_rmse"),
                    epsilon=metrics.get("epsilon"),
                )
                if reached:
                    if done < config.rounds:
                        self._stopped_early_after = done
                    break

    def finish(self, info, baseline):
        config, run = self._config, self._run
        with self._frozen.put_back() if config.is_private else contextlib.nullcontext():
            models.save(self._model, run.model_path)
        described, text = self._accountant.statement(
            config, self._preparation, stopped_early_after=self._stopped_early_after
        )
        run.write_privacy(described, text)
        for note in statement.notes_on_target(described, config.target_epsilon):
            runs.print_safely(f"note: {note}", sys.stderr)
        columns, test = run.read_metrics(), run.last_test()
        runs.plot_run(run)
        for note in models.notes_on_baseline(test, baseline):
            runs.print_safely(f"note: {note}", sys.stderr)
        run.write_summary(
            {
                **test,
                **baseline,
                "rounds": len(columns["round"]) and int(columns["round"][-1]),
                "epsilon": described["epsilon"],
                "epsilon_rdp": described.get("epsilon_rdp"),
                "delta": config.delta,
                "noise_multiplier": described.get("noise_multiplier"),
                "privacy_unit": config.privacy_unit if described["private"] else "none",
                "mechanism": config.mechanism or ("gaussian" if config.is_private else "none"),
                "sampler": config.sampler,
                "num_clients": self._population.partition.num_clients,
                "clients_per_round": config.clients_per_round,
                "rounds_to_target": _rounds_to_target(columns, config.target_accuracy),
                "seconds_per_round": statistics.median(self._seconds) if self._seconds else None,
                "start_to_first_round_seconds": self._first_round_at,
                "wall_seconds": runs.seconds_since_process_start(),
                "peak_memory_mb": runs.peak_memory_bytes() / 1e6,
                "model_parameters": info.num_parameters,
                "model_path": str(run.model_path),
            }
        )
        runs.seal.write(run)

    def _start(self):
        config = self._config
        state = process.with_weights(
            self._learning.initialize(),
            [v.numpy() for v in self._model.trainable_weights],
            [v.numpy() for v in self._model.non_trainable_weights],
        )
        if not config.resume:
            return state, 0
        saved, done = self._checkpoints.latest(state)
        self._accountant.refuse_gap(done)
        runs.return_to(self._run, done, self._accountant.rounds, measured=done)
        if self._client_states is not None:
            self._client_states.return_to(done)
        if saved is None:
            return state, 0
        self._take_weights(saved)
        return saved, done

    def _round(self, state, round_number):
        steps_per_pass = self._plan.steps_per_pass if self._plan is not None else None
        if steps_per_pass and round_number and round_number % steps_per_pass == 0:
            self._noise.restart()
        # Before the round is drawn: what a kill cuts off counts, and is not drawn again.
        self._accountant.record(round_number)
        segment = self._accountant.segment
        cohort = self._population.cohort(round_number, segment)
        data = [
            tf.data.Dataset.from_tensors(self._population.batches(client, round_number, segment))
            for client in cohort
        ]
        states = None
        if self._client_states is not None:
            states = [self._client_states.of(client) for client in cohort]
        output = self._learning.next(self._noise.into(state), data, states)
        if self._client_states is not None:
            for client, kept in zip(cohort, output.clients, strict=True):
                self._client_states.keep(client, round_number + 1, kept)
        metrics: dict[str, float] = {}
        if not self._config.is_private:
            # How many took part is itself private under Poisson sampling.
            # Those who were drawn: the number of the others would tell the canaries' coins.
            metrics["clients"] = len(self._population.drawn(round_number, segment))
        measured = output.metrics["client_work"]
        if measured and measured["examples"]:
            metrics |= self._train_metrics(measured, round_number)
        if self._plan is not None and self._plan.mechanism.adapts_clip:
            metrics["clip_norm"] = aggregation.clip_norm_of(
                self._plan, output.metrics["aggregator"]
            )
        return output.state, metrics

    def _train_metrics(self, measured, round_number):
        if measured["left_out"] and not self._warned and not self._config.is_private:
            self._warned = True
            runs.print_safely(
                f"note: in round {round_number + 1} the updates of {measured['left_out']:.0f} "
                "clients were not finite and were left out; lower --client_learning_rate.",
                sys.stderr,
            )
        metrics = {"train_loss": float(measured["loss"] / measured["examples"])}
        if self._classifies:
            metrics["train_accuracy"] = float(measured["correct"] / measured["examples"])
        return metrics

    def _take_weights(self, state):
        weights = state.global_model_weights.trainable
        for variable, value in zip(self._model.trainable_weights, weights, strict=True):
            variable.assign(value)

    def _keep_for_audit(self, done):
        if self._config.audit_canaries:
            weights = [v.numpy() for v in self._model.trainable_weights]
            runs.trajectory.keep(self._run, done, weights)

    def _reached_target(self):
        target = self._config.target_accuracy
        return target is not None and self._latest.get("test_accuracy", -1.0) >= target


def _plan(config, partition, origin):
    """Returns the plan over clients (None without one) and the population that it samples."""
    # A canary that its coin leaves out is drawn as the others are: the accounting is over all.
    drawn_from = partition.num_clients + config.audit_canaries
    sampler = privacy.build_sampler(config.sampler, drawn_from, config.clients_per_round)
    if config.privacy_unit != "client":
        silos = None
        if config.privacy_unit == "example":
            silos = build_silos(config, partition.sizes)
        return None, Population(
            config=config, partition=partition, sampler=sampler, origin=origin, silos=silos
        )
    plan = privacy.PrivacyPlan(
        unit="client", sampler=sampler, mechanism=_mechanism(config), delta=config.delta
    )
    plan = privacy.fit(
        plan,
        config.rounds,
        target_epsilon=config.target_epsilon,
        bands=config.bands,
        separation=config.separation,
    )
    return plan, Population(
        config=config, partition=partition, sampler=plan.sampler, origin=origin, plan=plan
    )


def _mechanism(config):
    return privacy.build_mechanism(
        config.mechanism,
        clip_norm=config.clip_norm,
        noise_multiplier=config.noise_multiplier,
        factorization=config.factorization,
        horizon=config.rounds,
        target_quantile=config.target_quantile,
        clip_learning_rate=config.clip_learning_rate,
        members_per_step=config.clients_per_round,
    )


def _any_silo(population):
    """Returns a silo's plan: clip and noise are the same in all."""
    return None if population.silos is None else next(iter(population.silos.plans.values()))


def _model(config, dataset):
    # With Keras' own generators, dropout would keep a variable, which a pure function cannot.
    tf.keras.backend.experimental.disable_tf_random_generator()
    shape, labels = dataset.element_shape, dataset.train_labels
    kind = {
        "task": dataset.task,
        "input_dtype": dataset.train_features.dtype.name,
        "label_shape": labels.shape[1:],
    }
    arguments = (config.model, shape, dataset.num_classes)
    model = models.build(*arguments, **kind, seed=config.seed)
    info = models.inspect(model, shape, dataset.num_classes, **kind)
    models.refuse_moving_state(model)
    models.refuse_regularization(model)
    if config.privacy_unit == "example":
        models.refuse_example_mixing(model)
    objective = models.Objective(task=dataset.task, from_logits=info.from_logits)
    rebuild = functools.partial(models.rebuild, *arguments, input_dtype=kind["input_dtype"])
    return rebuild, model, objective, info


def _rounds_to_target(columns, target):
    """Returns when the best test accuracy so far first reaches the target, between rounds.

    Linear interpolation, as in McMahan et al. 2017, section 3; None if it is not reached.
    """
    if target is None or "test_accuracy" not in columns:
        return None
    best, at = 0.0, 0.0
    for round_number, accuracy in zip(columns["round"], columns["test_accuracy"], strict=True):
        if accuracy is None or accuracy <= best:
            continue
        if accuracy >= target:
            share = (target - best) / (accuracy - best)
            return float(at + share * (round_number - at))
        best, at = accuracy, round_number
    return None
