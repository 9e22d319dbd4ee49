"""Evaluates a trained model on shares of its weights and of the examples."""

import dataclasses
import functools
import os
import pathlib
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any

import numpy as np
import tensorflow as tf

from tfpriv import datasets, models, runs, user_code
from tfpriv.errors import UserError
from tfpriv.secure import agreement
from tfpriv.secure.inference import grids, network, ranges
from tfpriv.secure.inference.config import InferenceConfig
from tfpriv.secure.layers.activation import softmax
from tfpriv.secure.layers.stage import Stage
from tfpriv.secure.parties import communication
from tfpriv.secure.parties.connection import LOCAL, connected
from tfpriv.secure.parties.parties import Parties
from tfpriv.secure.protocols import fixed_point, running
from tfpriv.secure.protocols.fixed_point import Fixed
from tfpriv.secure.protocols.protocol import Protocol

PROGRAM = "secure_inference"
_DEFAULT_EXAMPLES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a stage took by itself, and what it gave.

    Attributes:
        stage: The stage.
        seconds: Median.
        traffic: What it sends; None if the parties are not separate.
        values: float64 of shape [n, ...]; None if they stayed shares.
    """

    stage: Stage
    seconds: float
    traffic: communication.Traffic | None
    values: np.ndarray | None


class SecureModel:
    """A model whose weights are shared among servers.

    Attributes:
        network: Its stages.
        bounds: What the numbers that each stage reads and gives are at most.
        grids: What is chosen for each stage.
        batch_size: The number of examples that are computed at once.
        traffic: What a batch sends; None if the parties are not separate.
    """

    def __init__(
        self,
        net: network.Network,
        bounds: Sequence[float],
        protocol: Protocol,
        parties: Parties,
        batch_size: int,
        *,
        check_overflow: bool = False,
    ) -> None:
        """Shares the weights and builds the graph.

        Args:
            net: The stages of the model.
            bounds: Of its numbers, from `ranges`; beyond them answers can be wrong.
            protocol: A running protocol.
            parties: Who computes.
            batch_size: The number of examples that are computed at once.
            check_overflow: Whether each layer's sums are compared with their bound on shares, and
                one bit a layer and batch is opened to the client: whether all are within it.

        Raises:
            UserError: The bounds leave a layer too few bits; it is named.
        """
        self.network = net
        self.bounds = tuple(bounds)
        self.grids = grids.choose(net.stages, self.bounds)
        self._protocol = protocol
        self._parties = parties
        self.batch_size = batch_size
        self._checked = [stage.can_grow and check_overflow for stage in net.stages]
        self._weights: list[list[Any]] = [
            [
                self._share(w, bits)
                for w, bits in zip(stage.weights, _weight_bits(grid), strict=True)
            ]
            if stage.weights
            else []
            for stage, grid in zip(net.stages, self.grids, strict=True)
        ]
        specification = tf.TensorSpec([batch_size, *net.input_shape], tf.float64)
        self._predict = _traced(self._compute, specification, self._weights)
        self.traffic: communication.Traffic | None = None
        if parties.separate:
            self.traffic = communication.measure(self._predict.graph, parties)

    def predict(self, examples: np.ndarray) -> np.ndarray:
        """Returns the outputs for at most a batch of examples, known to the client only.

        They are those of the last stage; `open_outputs` applies what the client is left to do.

        Args:
            examples: Shape [n, ...], 1 <= n <= batch_size.

        Returns:
            float64, [n, ...].

        Raises:
            UserError: The examples are of another shape, or too many; one is beyond the first bound
                or not finite; or a layer's sums were found to be beyond theirs.
        """
        examples = self.network.as_examples(examples, self.batch_size)
        self._refuse_beyond(examples)
        outputs, above = self._predict(self._padded(examples), self._weights)
        for stage, bit in zip(compress(self.network.stages, self._checked), above, strict=True):
            if int(bit):
                raise UserError(
                    f"layer {stage.name} of the model gives numbers beyond the bound that its "
                    "shares were made for, so the answers would be wrong; give examples with "
                    "larger numbers when the bounds are made, or a larger --input_bound."
                )
        return outputs.numpy()[: len(examples)]

    def stage_by_stage(self, examples: np.ndarray, *, reveal: bool) -> Iterator[StageResult]:
        """Computes at most a batch, each stage by itself.

        Args:
            examples: Shape [n, ...], 1 <= n <= batch_size.
            reveal: Whether to put together what each stage gives, which tells about the weights.

        Yields:
            A `StageResult` each.
        """
        examples = self.network.as_examples(examples, self.batch_size)
        x = self._share(self._padded(examples), self.grids[0].bits_read)
        for stage, grid, weights in zip(
            self.network.stages, self.grids, self._weights, strict=True
        ):
            function = _traced(functools.partial(self._stage, stage, grid), x, weights)
            times: list[float] = []
            while len(times) < 4 and sum(times) < 2:
                start = time.perf_counter()
                y = function(x, weights)
                times.append(time.perf_counter() - start)
            times = times[1:] or times  # The first run also prepares the graph.
            opened = None
            if reveal:
                opened = _traced(functools.partial(self._open, grid.bits_given), y)(y)
                opened = opened.numpy()[: len(examples)]
            traffic = None
            if self.traffic is not None:
                traffic = communication.measure(function.graph, self._parties)
            yield StageResult(
                stage=stage, seconds=statistics.median(times), traffic=traffic, values=opened
            )
            x = y

    def _compute(self, examples, weights):
        prot = self._protocol
        x = fixed_point.share_fixed(prot, examples, self.grids[0].bits_read)
        above = []
        for stage, grid, shared, checked in zip(
            self.network.stages, self.grids, weights, self._checked, strict=True
        ):
            x = stage.compute(prot, x, self._read(shared, grid), grid)
            if checked:
                above.append(fixed_point.reveal(prot, fixed_point.any_beyond(prot, x, grid.gives)))
        return fixed_point.reveal_fixed(prot, x), above

    def _stage(self, stage, grid, x, weights):
        x = Fixed(self._protocol.from_bone(x), grid.bits_read)
        return stage.compute(self._protocol, x, self._read(weights, grid), grid).shares.bone

    def _open(self, bits, x):
        return fixed_point.reveal_fixed(self._protocol, Fixed(self._protocol.from_bone(x), bits))

    def _read(self, weights, grid):
        """Returns a stage's weights, of which the second are on the grid of the products."""
        bits = _weight_bits(grid)
        return [Fixed(self._protocol.from_bone(w), b) for w, b in zip(weights, bits, strict=False)]

    def _share(self, values, bits):
        values = tf.constant(values, tf.float64)
        share = _traced(
            lambda x: fixed_point.share_fixed(self._protocol, x, bits).shares.bone, values
        )
        return share(values)

    def _padded(self, examples):
        missing = self.batch_size - len(examples)
        padding = [(0, missing)] + [(0, 0)] * (examples.ndim - 1)
        return tf.constant(np.pad(examples, padding), tf.float64)

    def _refuse_beyond(self, examples):
        within = np.abs(examples) <= self.bounds[0]  # False for NaN
        if not within.all():
            raise UserError(
                f"an example has the value {np.asarray(examples)[~within].flat[0]}, and shares "
                f"were made for numbers up to {self.bounds[0]:g}; give examples with larger "
                "numbers when the bounds are made, or a larger --input_bound."
            )


def _weight_bits(grid):
    return (grid.weights, grid.weights + grid.bits_read)


def _traced(function, *arguments):
    # Without autograph, which would read tf-encrypted's source for control flow.
    return tf.function(function, autograph=False).get_concrete_function(*arguments)


def open_outputs(net: network.Network, outputs: np.ndarray) -> np.ndarray:
    """Applies to revealed outputs the activation that the client was left to apply."""
    if net.opened == "softmax":
        return softmax(outputs)
    if net.opened == "sigmoid":
        return 1 / (1 + np.exp(-outputs))
    return outputs


def evaluate(config: InferenceConfig) -> runs.RunDirectory:
    """Evaluates a model on shares and in plaintext; see `tfpriv.secure.infer`."""
    start = time.perf_counter()
    # First, as real parties cannot be connected once TensorFlow holds tensors.
    with connected(config.players, trusted_network=config.trusted_network) as parties:
        assert config.model is not None, "`check` refused it"
        model, trained_on = load_model(config.model)
        named = config.dataset or trained_on["dataset"]
        if config.dataset is None and user_code.is_user_code(named):
            where = f"config.json of {config.model}"
            user_code.allow(named, is_trusted=config.trust_code, where=where)
        dataset = datasets.load(
            named,
            config.data_dir,
            scaling=config.scaling or trained_on.get("scaling") or datasets.scaling.STANDARDIZED,
        )
        read = datasets.features.read_by_model(trained_on)
        dataset = datasets.with_features(dataset, read, config.data_dir)
        features, labels = _examples(dataset, config.num_examples)
        net = network.from_keras(model, softmax=config.softmax)
        if net.input_shape != features.shape[1:]:
            raise UserError(
                f"the model takes examples of shape {net.input_shape}, and those of "
                f"{dataset.name} have {features.shape[1:]}; give the --dataset that it was trained "
                "on."
            )
        if config.input_bound is None:
            plain, bounds = ranges.measure(net, features)
        else:
            bounds = ranges.from_input_bound(net, config.input_bound)
            plain = ranges.check(net, features, bounds)
        with running.protocol(config.protocol, parties) as protocol:
            batch_size = min(config.batch_size, len(features))
            grids.choose(net.stages, bounds)  # Refuses before the directory is made.
            with runs.RunDirectory.create(
                config.output_dir,
                dataclasses.asdict(config),
                program=PROGRAM,
                step_name="batch",
                data=dataset.provenance,
            ) as directory:
                secure_model = SecureModel(
                    net,
                    bounds,
                    protocol,
                    parties,
                    batch_size,
                    check_overflow=config.check_overflow,
                )
                secure, measured = _evaluate(secure_model, features, directory, start)
                answers = model.predict(features, batch_size=256, verbose=0)
                ends = net.opened or (net.stages[-1].kind if net.stages else None)
                opened = open_outputs(net, secure)
                judged = _judge(dataset, labels, answers, opened, from_logits=ends != "sigmoid")
                error = float(np.abs(secure - plain).max())
                bound = grids.errors(net.stages, secure_model.grids)
                disagrees = agreement.is_too_low(judged.get("agreement"), error, bound[-1])
                looked_into = disagrees and config.players == LOCAL
                seconds_by_stage, parting = _stage_by_stage(
                    secure_model, features[:batch_size], bound, reveal=looked_into
                )
                summary = {
                    **judged,
                    "max_abs_error": error,
                    "max_abs_error_bound": bound[-1],
                    "failure_probability": 0.0,
                    **measured,
                    "revealed": _revealed(config, net),
                    "protocol": config.protocol,
                    "precision": _precision(secure_model.grids),
                    "num_examples": len(features),
                    "batch_size": batch_size,
                    "players": config.players,
                    "model_parameters": int(model.count_params()),
                    "model_path": str(config.model),
                    "peak_memory_mb": runs.peak_memory_bytes() / 1e6,
                    "wall_seconds": time.perf_counter() - start,
                }
                if disagrees:
                    summary["disagreement"] = agreement.sentence(
                        judged.get("agreement"), error, bound[-1], parting
                    )
                picture = directory.plots_path / "secure_inference.png"
                _draw(picture, plain, secure, seconds_by_stage)
                directory.write_summary(summary)
    return directory


def load_model(path: str | os.PathLike) -> tuple[tf.keras.Model, dict]:
    """Loads a model from a file or from a run directory.

    Returns:
        The model, and the flags of the run that it comes from; none for a file.

    Raises:
        UserError: There is no model, or it cannot be loaded.
    """
    file = pathlib.Path(os.path.expanduser(path))
    trained_on: dict[str, Any] = {}
    if file.is_dir() and (file / "config.json").exists():
        directory = runs.RunDirectory.open(file)
        trained_on = directory.config["flags"]
        file = directory.model_path
    if not file.exists():
        raise UserError(
            f"{file} does not exist; give --model the directory of a run that has ended, or a "
            ".keras file."
        )
    return models.load(file), trained_on


def _examples(dataset, count):
    features, labels = dataset.test_features, dataset.test_labels
    if count is None:
        count = min(_DEFAULT_EXAMPLES, len(features))
    if count > len(features):
        raise UserError(
            f"--num_examples={count} is more than the {len(features)} test examples of "
            f"{dataset.name}; ask for at most as many."
        )
    return features[:count], labels[:count]


def _evaluate(model, features, directory, begun):
    """Returns the outputs, and what was measured."""
    batch_size = model.batch_size
    starts = range(0, len(features), batch_size)
    outputs, seconds = [], []
    with runs.Progress(len(starts), unit="batch") as progress:
        for number, start in enumerate(starts):
            outputs.append(model.predict(features[start : start + batch_size]))
            now = time.perf_counter()
            seconds.append(now - begun)
            begun = now
            directory.metrics.write(number + 1, {"seconds": seconds[-1]})
            progress.update(number + 1)
    # The first batch also shares the weights and builds the graph.
    per_batch = statistics.median(seconds[1:] or seconds)
    measured = {
        "graph_seconds": max(seconds[0] - per_batch, 0.0) if seconds[1:] else None,
        "seconds_per_batch": per_batch,
        "examples_per_second": batch_size / per_batch,
        "bytes_sent": None,
        "rounds_of_communication": None,
    }
    if model.traffic is not None:
        sent = {name: count * len(starts) for name, count in model.traffic.bytes_sent.items()}
        measured["bytes_sent"] = sum(sent.values())
        measured |= {f"bytes_sent_{name}": count for name, count in sent.items()}
        measured["rounds_of_communication"] = model.traffic.rounds
    return np.concatenate(outputs), measured


def _stage_by_stage(model, examples, bounds, *, reveal):
    """Returns the time of each stage, and the name of that where the results part, or None."""
    seconds, parting = {}, None
    x = np.asarray(examples, np.float64)
    results = model.stage_by_stage(examples, reveal=reveal)
    for result, bound in zip(results, bounds, strict=True):
        seconds[result.stage.name] = result.seconds
        if reveal and parting is None:
            x = result.stage.plain(x)
            if agreement.part(x, result.values, bound):
                parting = result.stage.name
    return seconds, parting


def _revealed(config, net):
    """Says who learns what beside his own."""
    bounds = "the examples' and the layers' largest numbers"
    if config.input_bound is not None:
        bounds = "the layers' largest numbers, from --input_bound and the weights"
    checks = sum(stage.can_grow for stage in net.stages) if config.check_overflow else 0
    bits = f"; to the client, {checks} bits a batch: whether a layer's sums keep their bound"
    return (
        "the outputs, to the client; the layers' kinds and shapes and, as powers of two, the "
        f"largest weight of each and {bounds}, to all{bits if checks else ''}; nothing else"
    )


def _precision(chosen):
    bits = [grid.bits_given for grid in chosen]
    return f"ring of 64 bits, {min(bits)} to {max(bits)} behind the point, by layer"


def _decisions(outputs, from_logits):
    """Returns the class that each row of outputs stands for."""
    if outputs.shape[-1] == 1:  # Two classes have one logit or probability.
        return (outputs[..., 0] > (0.0 if from_logits else 0.5)).astype(np.int64)
    return outputs.argmax(axis=-1)


def _judge(dataset, labels, plain, secure, *, from_logits):
    """Compares two models' answers with the labels and with each other."""
    if dataset.task == datasets.REGRESSION:
        return {
            f"{name}_rmse": float(
                np.sqrt(np.mean((answers.reshape(len(labels)) - labels) ** 2)) * dataset.label_scale
            )
            for name, answers in (("plaintext", plain), ("secure", secure))
        }
    plain, secure = (_decisions(outputs, from_logits) for outputs in (plain, secure))
    return {
        "plaintext_accuracy": float(np.mean(plain == labels)),
        "secure_accuracy": float(np.mean(secure == labels)),
        "agreement": float(np.mean(plain == secure)),
    }


def _draw(path, plain, secure, seconds_by_stage):
    with runs.drawing(path, columns=2) as (outputs, times):
        ends = [min(plain.min(), secure.min()), max(plain.max(), secure.max())]
        outputs.plot(ends, ends, color="#999999", linewidth=0.8)
        outputs.plot(plain.ravel(), secure.ravel(), ".", markersize=2, color="#0072B2")
        outputs.set_xlabel("Output in plaintext")
        outputs.set_ylabel("Output on shares")
        names = list(seconds_by_stage)
        times.barh(names, [1000 * seconds_by_stage[name] for name in names], color="#0072B2")
        times.invert_yaxis()
        times.set_xlabel("Milliseconds a batch")
        times.grid(axis="y", visible=False)
