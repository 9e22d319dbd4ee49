"""Evaluates a trained model on shares of its weights and of the examples."""

import dataclasses
import functools
import os
import pathlib
import statistics
import time

import numpy as np
import tensorflow as tf

from tfpriv import datasets, runs
from tfpriv.errors import UserError
from tfpriv.secure import communication, fixed_point, network, protocols, ranges, stages
from tfpriv.secure.inference_config import InferenceConfig
from tfpriv.secure.parties import Parties, connected

PROGRAM = "secure_inference"
_DEFAULT_EXAMPLES = 1000


class SecureModel:
    """A model whose weights are shared among servers.

    Attributes:
        network: Its stages.
        traffic: What a batch sends; None if the parties are not separate.
    """

    def __init__(self, net: network.Network, protocol, parties: Parties, batch_size: int):
        """Shares the weights and builds the graph.

        Args:
            net: The stages of the model.
            protocol: A running protocol.
            parties: Who computes.
            batch_size: The number of examples that are computed at once.
        """
        self.network = net
        self._protocol = protocol
        self._batch_size = batch_size
        self._weights = [[self._share(weight) for weight in stage.weights] for stage in net.stages]
        specification = tf.TensorSpec([batch_size, *net.input_shape], tf.float64)
        self._predict = _traced(self._compute, specification, self._weights)
        self.traffic = None
        if parties.separate:
            self.traffic = communication.measure(self._predict.graph, parties)

    def predict(self, examples: np.ndarray) -> np.ndarray:
        """Returns the outputs for at most a batch of examples, known to the client only.

        They are those of the last stage; `open_outputs` applies what the client is left to do.

        Args:
            examples: Shape [n, ...], 1 <= n <= batch_size.

        Returns:
            float64, [n, ...].
        """
        return self._predict(self._padded(examples), self._weights).numpy()[: len(examples)]

    def seconds_by_stage(self, examples: np.ndarray) -> dict[str, float]:
        """Returns the median time of each stage on at most a batch, each run by itself."""
        x = self._share(self._padded(examples))
        seconds = {}
        for stage, weights in zip(self.network.stages, self._weights, strict=True):
            function = _traced(functools.partial(self._stage, stage), x, weights)
            times = []
            while len(times) < 4 and sum(times) < 2:
                start = time.perf_counter()
                y = function(x, weights)
                times.append(time.perf_counter() - start)
            times = times[1:] or times  # The first run also prepares the graph.
            seconds[stage.name] = statistics.median(times)
            x = y
        return seconds

    def _compute(self, examples, weights):
        x = fixed_point.share(self._protocol, examples)
        for stage, shared in zip(self.network.stages, weights, strict=True):
            x = stage.compute(self._protocol, x, [self._protocol.from_bone(w) for w in shared])
        return fixed_point.reveal(self._protocol, x)

    def _stage(self, stage, x, weights):
        read = self._protocol.from_bone
        return stage.compute(self._protocol, read(x), [read(w) for w in weights]).bone

    def _share(self, values):
        values = tf.constant(values, tf.float64)
        share = _traced(lambda x: fixed_point.share(self._protocol, x).bone, values)
        return share(values)

    def _padded(self, examples):
        missing = self._batch_size - len(examples)
        padding = [(0, missing)] + [(0, 0)] * (examples.ndim - 1)
        return tf.constant(np.pad(examples, padding), tf.float64)


def _traced(function, *arguments):
    # Without autograph, which would read tf-encrypted's source for control flow.
    return tf.function(function, autograph=False).get_concrete_function(*arguments)


def open_outputs(net: network.Network, outputs: np.ndarray) -> np.ndarray:
    """Applies to revealed outputs the activation that the client was left to apply."""
    if net.opened == "softmax":
        return stages.softmax(outputs)
    if net.opened == "sigmoid":
        return 1 / (1 + np.exp(-outputs))
    return outputs


def evaluate(config: InferenceConfig) -> runs.RunDirectory:
    """Evaluates a model on shares and in the clear; see `tfpriv.secure.infer`."""
    start = time.perf_counter()
    # First, as real parties cannot be connected once TensorFlow holds tensors.
    with connected(config.players, trusted_network=config.trusted_network) as parties:
        model, trained_on = load_model(config.model)
        dataset = datasets.load(
            config.dataset or trained_on.get("dataset"),
            config.data_dir,
            scaling=config.scaling or trained_on.get("scaling") or datasets.scaling.STANDARDIZED,
        )
        features = datasets.features.read_by_model(trained_on)
        dataset = datasets.with_features(dataset, features, config.data_dir)
        features, labels = _examples(dataset, config.num_examples)
        net = network.from_keras(model, protocol=config.protocol, softmax=config.softmax)
        if net.input_shape != features.shape[1:]:
            raise UserError(
                f"the model takes examples of shape {net.input_shape}, and those of "
                f"{dataset.name} have {features.shape[1:]}; give the --dataset that it was trained "
                "on."
            )
        with protocols.running(config.protocol, parties) as protocol:
            plain = ranges.check(net, features, protocol)
            with runs.RunDirectory.create(
                config.output_dir,
                dataclasses.asdict(config),
                program=PROGRAM,
                step_name="batch",
                data=dataset.provenance,
            ) as directory:
                batch_size = min(config.batch_size, len(features))
                secure, measured, seconds_by_stage = _evaluate(
                    net, protocol, parties, features, batch_size, directory
                )
                answers = model.predict(features, batch_size=256, verbose=0)
                summary = {
                    **_judge(dataset, labels, answers, open_outputs(net, secure)),
                    "max_abs_error": float(np.abs(secure - plain).max()),
                    **measured,
                    "protocol": config.protocol,
                    "precision": protocol.fixedpoint_config.precision_fractional,
                    "num_examples": len(features),
                    "batch_size": batch_size,
                    "players": config.players,
                    "model_parameters": int(model.count_params()),
                    "model_path": str(config.model),
                    "peak_memory_mb": runs.peak_memory_bytes() / 1e6,
                    "wall_seconds": time.perf_counter() - start,
                }
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
    path = pathlib.Path(os.path.expanduser(path))
    trained_on = {}
    if path.is_dir() and (path / "config.json").exists():
        directory = runs.RunDirectory.open(path)
        trained_on = directory.config["flags"]
        path = directory.model_path
    if not path.exists():
        raise UserError(
            f"{path} does not exist; give --model the directory of a run that has ended, or a "
            ".keras file."
        )
    try:
        return tf.keras.models.load_model(path, compile=False), trained_on
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} cannot be loaded as a Keras model ({reason}); give --model the directory of a "
            "run, or a file that tf.keras.models.load_model reads."
        ) from error


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


def _evaluate(net, protocol, parties, features, batch_size, directory):
    """Returns the outputs, what was measured, and the time of each stage."""
    starts = range(0, len(features), batch_size)
    begun = time.perf_counter()
    model = SecureModel(net, protocol, parties, batch_size)
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
    by_stage = model.seconds_by_stage(features[:batch_size])
    return np.concatenate(outputs), measured, by_stage


def _judge(dataset, labels, plain, secure):
    """Compares two models' answers with the labels and with each other."""
    if dataset.task == datasets.REGRESSION:
        return {
            f"{name}_rmse": float(
                np.sqrt(np.mean((answers.reshape(len(labels)) - labels) ** 2)) * dataset.label_scale
            )
            for name, answers in (("plaintext", plain), ("secure", secure))
        }
    plain, secure = plain.argmax(axis=-1), secure.argmax(axis=-1)
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
        outputs.set_xlabel("Output in the clear")
        outputs.set_ylabel("Output on shares")
        names = list(seconds_by_stage)
        times.barh(names, [1000 * seconds_by_stage[name] for name in names], color="#0072B2")
        times.invert_yaxis()
        times.set_xlabel("Milliseconds a batch")
        times.grid(axis="y", visible=False)
