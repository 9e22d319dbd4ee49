"""Trains a Keras model on secret-shared data, next to the same steps in plaintext."""

import dataclasses
import math
import statistics
import sys
import time

import numpy as np
import tensorflow as tf

from tfpriv import datasets, models, runs
from tfpriv.errors import UserError
from tfpriv.privacy import statement
from tfpriv.secure import agreement as agreement_of_results
from tfpriv.secure.parties import communication, connection
from tfpriv.secure.protocols import fixed_point, running
from tfpriv.secure.training import plain as plain_training
from tfpriv.secure.training import private as private_training
from tfpriv.secure.training import task as training_task
from tfpriv.secure.training.config import SecureTrainingConfig
from tfpriv.secure.training.plain import PlainTraining
from tfpriv.secure.training.private import PrivateTraining
from tfpriv.secure.training.shared import SharedTraining

PROGRAM = "secure_training"

_SHUFFLE_STREAM = 0x7EA1
_NOISE = (
    "The noise is Gaussian, rounded to the fixed-point grid on which the sum lies exactly. It is "
    "proved that so rounded it is a post-processing of the Gaussian mechanism. It is not proved "
    "that the floating-point evaluation of the noise and its end at 9.3 standard deviations change "
    "nothing."
)


def run(config: SecureTrainingConfig) -> runs.RunDirectory:
    """Trains as `config` says and returns the finished run directory.

    Everything that can be refused is refused before the directory is made.

    Args:
        config: A complete config.

    Raises:
        UserError: if the config, the data, the model or a party cannot work, or training diverges.
    """
    tf.get_logger().setLevel("ERROR")
    assert isinstance(config.dataset, str) and config.scaling, "the config is complete"
    with connection.connected(config.players, trusted_network=config.trusted_network) as parties:
        dataset = datasets.load(config.dataset, config.data_dir, scaling=config.scaling)
        task, model = training_task.build(config, dataset)
        with running.protocol(config.protocol, parties) as prot:
            training_task.refuse_out_of_range(
                task, model, fixed_point.largest_value(prot), is_private=config.is_private
            )
            session = _Session(config, task, model, prot, parties, dataset.preparation)
            with runs.RunDirectory.create(
                config.output_dir,
                dataclasses.asdict(config),
                program=PROGRAM,
                step_name="step",
                seeds={"seed": config.seed},
                data=dataset.provenance,
            ) as directory:
                session.train(directory)
                session.finish(directory)
    return directory


class _Session:
    """The secure run and the plain one beside it, step by step on the same batches."""

    def __init__(self, config, task, model, prot, parties, preparation) -> None:
        if config.is_private:
            # For the training in plaintext, too: an example that ruins it would end the run.
            task = private_training.cut_off(task)
        self._config = config
        self._preparation = preparation
        self._task = task
        self._model = model
        self._prot = prot
        self._parties = parties
        self._steps = _count_steps(config, len(task.train_features))
        self._plan = None
        # Nothing of it is kept, as such a run cannot go on after an interruption.
        self._origin = runs.sampling_key.origin_of(config)
        self._seconds: list[float] = []
        self._curve: list[tuple[int, float]] = []
        noise = 0.0
        self._secure: PrivateTraining | SharedTraining
        if config.is_private:
            assert config.clip_norm is not None, "the config is complete"
            self._plan = plan = private_training.build_plan(config, task, self._steps)
            noise = plan.noise_multiplier * config.clip_norm
            for note in plan.warnings:
                runs.print_safely(f"note: {note}", sys.stderr)
            self._secure = PrivateTraining(prot, task, model, config, plan, self._steps)
        else:
            self._secure = SharedTraining(prot, task, model, config)
        self._plain = PlainTraining(task, model, config, noise)
        self._metric = "accuracy" if task.classifies else "rmse"

    def train(self, directory):
        every = self._config.eval_every
        with runs.Progress(self._steps, unit="step") as progress:
            for step in range(self._steps):
                rows = self._rows(step)
                began = time.monotonic()
                self._secure.step(rows, step + 1, **self._checking(step + 1))
                self._seconds.append(time.monotonic() - began)
                self._plain.step(rows, step + 1)
                done = step + 1
                if done % every == 0 or done == self._steps:
                    score = self._task.judge(self._plain.answers(self._task.test_features))
                    self._curve.append((done, score))
                    values = {f"plaintext_{self._metric}": score}
                    values["seconds_per_batch"] = statistics.median(self._seconds[-every:])
                    directory.metrics.write(done, values)
                progress.update(done)

    def _checking(self, number):
        """Returns whether the step looks for overflow, as an argument; nothing if none does."""
        every = self._config.overflow_check_every
        if every is None:
            return {}
        return {"check": number % every == 0 or number == self._steps}

    def finish(self, directory):
        task, config = self._task, self._config
        if config.outcome == "weights":
            weights = self._secure.weights()
            bound = fixed_point.largest_value(self._prot)
            training_task.refuse_large_weights(weights, bound, "trained")
            for variable, weight in zip(self._model.trainable_weights, weights, strict=True):
                variable.assign(weight)
            models.save(self._model, directory.model_path)
            secure = plain_training.answers(self._model, task.test_features)
        else:
            assert isinstance(self._secure, SharedTraining), "a private run reveals its weights"
            secure = self._secure.answers(task.test_features)
        plain = self._plain.answers(task.test_features)
        score = task.judge(secure)
        agreement = None
        if task.classifies:
            agreement = float(np.mean(task.decisions(secure) == task.decisions(plain)))
        self._plot(directory, score)
        plain_score = task.judge(plain)
        directory.write_summary(
            {
                **self._disagreement(agreement, score, plain_score),
                f"test_{self._metric}": score,
                f"secure_{self._metric}": score,
                f"plaintext_{self._metric}": plain_score,
                "agreement": agreement,
                "max_abs_error": float(np.max(np.abs(secure - plain))),
                "steps": self._steps,
                **self._times(),
                **self._traffic(),
                **self._privacy(directory),
                "revealed": self._revealed(),
                "network": config.network or config.model,
                "optimizer": config.optimizer,
                "protocol": config.protocol,
                "precision": self._precision(),
                "outcome": config.outcome,
                "wall_seconds": runs.seconds_since_process_start(),
                "peak_memory_mb": runs.peak_memory_bytes() / 1e6,
                "model_parameters": sum(
                    math.prod(weight.shape) for weight in self._model.trainable_weights
                ),
            }
        )

    def _disagreement(self, agreement, score, plain_score):
        """Returns what to say if both trainings do not come to the same; nothing of noised ones."""
        if self._plan is not None:
            return {}
        if agreement is None:
            agreement = 1 - abs(score - plain_score) / max(score, plain_score, 1e-12)
        if agreement >= agreement_of_results.LEAST:
            return {}
        return {"disagreement": agreement_of_results.of_trainings(agreement, self._metric)}

    def _rows(self, step):
        if self._plan is not None:
            return self._plan.participants(step, self._origin, 0)
        n, size = len(self._task.train_features), self._config.batch_size
        epoch, batch = divmod(step, n // size)
        order = np.random.default_rng((self._config.seed, _SHUFFLE_STREAM, epoch)).permutation(n)
        return order[batch * size : (batch + 1) * size]

    def _times(self):
        # The first step builds the graph.
        steady = statistics.median(self._seconds[1:] or self._seconds)
        return {
            "graph_seconds": self._seconds[0] - steady,
            "seconds_per_batch": steady,
        }

    def _traffic(self):
        if not self._parties.separate:
            return {"bytes_sent": None, "rounds_of_communication": None}
        traffic = communication.measure(self._secure.graph, self._parties)
        sent = {
            f"bytes_sent_{name}": count * self._steps for name, count in traffic.bytes_sent.items()
        }
        return {
            "bytes_sent": sum(sent.values()),
            **sent,
            "rounds_of_communication": traffic.rounds,
        }

    def _privacy(self, directory):
        if self._plan is None:
            values = {"private": False, "epsilon": None, "steps": self._steps}
            directory.write_privacy(values, statement.not_private_text("example"))
            return {"epsilon": None, "privacy_unit": "none"}
        assert isinstance(self._secure, PrivateTraining), "a run with a plan trains privately"
        values = statement.describe(
            self._plan,
            [self._steps],
            covered="the weights of all steps, which are all that the parties and others see",
            not_covered=(
                *self._preparation,
                "the client, who owns the examples and draws the batches",
                "two servers that collude: what one server adds to the noise is no secret to it, "
                "and the other two make up for one",
                f"a sample of more than {self._secure.capacity} examples, which ends the run; its "
                "probability is a millionth of delta",
                "the training in plaintext beside it, which is for comparison",
            ),
            noise=_NOISE,
            insecure_sampling_seed=self._config.insecure_sampling_seed,
        )
        directory.write_privacy(values, statement.as_text(self._plan, values))
        return {
            "epsilon": values["epsilon"],
            "epsilon_rdp": values["epsilon_rdp"],
            "delta": self._config.delta,
            "noise_multiplier": values["noise_multiplier"],
            "clip_norm": values["clip_norm"],
            "privacy_unit": "example",
        }

    def _revealed(self):
        if self._plan is not None:
            return (
                "the noised sum of clipped gradients of each step, and with it the weights, to all "
                "parties; nothing else"
            )
        outcome = "the outputs for the test examples"
        if self._config.outcome == "weights":
            outcome = "the final weights"
        return (
            f"{outcome}, to the client only; and, to the client, every "
            f"{self._config.overflow_check_every} steps and at the end, a bit for each layer's "
            "outputs, gradients, sums and weights: whether all are within fixed point's range; "
            "nothing else"
        )

    def _precision(self):
        point = self._prot.fixedpoint_config
        return f"ring of {point.nbits} bits, {point.precision_fractional} behind the point"

    def _plot(self, directory, score):
        curves = {
            "in plaintext": ([step for step, _ in self._curve], [s for _, s in self._curve]),
            "on shares, revealed at the end": ([self._steps], [score]),
        }
        label = "Test accuracy" if self._task.classifies else "Root mean squared error"
        path = directory.plots_path
        runs.plot_metric(path / f"{self._metric}.png", curves, xlabel="Step", ylabel=label)
        runs.plot_metric(
            path / "seconds_per_batch.png",
            {"seconds": (range(2, self._steps + 1), self._seconds[1:])},
            xlabel="Step",
            ylabel="Seconds a batch",
        )


def _count_steps(config, num_examples):
    per_epoch = num_examples // config.batch_size
    if not per_epoch:
        raise UserError(
            f"--batch_size={config.batch_size} is more than the {num_examples} training examples; "
            "choose a smaller one."
        )
    steps = config.epochs * per_epoch
    return steps if config.max_steps is None else min(steps, config.max_steps)
