"""What lies in the directory of a private federated run is a function of its releases alone.

Two runs on different clients, whose noise makes up for the difference so that each round releases
the same, leave the same, but for times, places, and the names in TensorFlow's graphs.
"""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import federated
from tfpriv.federated import trainer

pytestmark = pytest.mark.slow

OWN = """
import numpy as np
from tfpriv.datasets import Dataset

def load(seed):
    x = np.random.default_rng(seed).normal(size=(120, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    test = np.random.default_rng(9).normal(size=(40, 6)).astype(np.float32)
    return Dataset(name="own", task="classification", num_classes=2, train_features=x,
                   train_labels=y, test_features=test,
                   test_labels=(test[:, 0] > 0).astype(np.int32), preparation=())

def data():
    return load(0)

def other():
    return load(1)
"""
SETTINGS = {
    "model": "logistic",
    "num_clients": 12,
    "clients_per_round": 4,
    "rounds": 3,
    "noise_multiplier": 1.0,
    "insecure_sampling_seed": 4,
    "delta": 1e-3,
    "privacy_unit": "client",
}
# Times and places, salted hashes, hashes of these, and logs with times.
TIMES = {
    "seconds_per_round", "start_to_first_round_seconds", "wall_seconds", "peak_memory_mb",
    "model_path",
}  # fmt: skip
MEMBERS = {"salted_data_sha256", "coins_sha256"}


def content_of(run):
    """Returns by name what must be the same in both runs."""
    found = {}
    for name in ("summary.json", "members.json", "privacy.json"):
        values = json.loads((run.path / name).read_text())
        found[name] = {k: v for k, v in values.items() if k not in TIMES | MEMBERS}
    for name in ("metrics.csv", "rounds.json", "privacy.txt"):
        found[name] = (run.path / name).read_bytes()
    for path in run.plots_path.iterdir():
        found[path.name] = path.read_bytes()
    for path in sorted(run.checkpoints_path.glob("round_*")):
        saved = tf.train.load_checkpoint(str(path / "variables" / "variables"))
        for name in saved.get_variable_to_shape_map():
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
                found[f"{path.name} {name}"] = np.asarray(saved.get_tensor(name)).tobytes()
        # A graph names what it holds, anew in each process; noise in it would make it longer.
        found[f"{path.name} graph"] = (path / "saved_model.pb").stat().st_size < 200_000
    model = tf.keras.models.load_model(run.model_path)
    found["model"] = [v.numpy().tobytes() for v in model.variables]
    return found


@pytest.mark.parametrize(
    "flags",
    [
        {"server_optimizer": "adam", "server_learning_rate": 0.1},
        {"mechanism": "adaptive", "noise_multiplier": 0.2},
        {"mechanism": "tree", "server_optimizer": "momentum"},
        {"mechanism": "banded", "bands": 2},
        {"privacy_unit": "example", "batch_size": 5},
        {"audit_canaries": 10},
    ],
    ids=str,
)
def test_rounds_that_release_the_same_leave_the_same(monkeypatch, tmp_path, flags):
    own = tmp_path / "own.py"
    own.write_text(OWN)
    released, is_again, differ = [], False, False

    class _Learning:
        """The process, whose second run is given the noise that makes its releases the first's."""

        def __init__(self, process):
            self._process = process

        def __getattr__(self, name):
            return getattr(self._process, name)

        def next(self, *arguments):
            nonlocal differ
            output = self._process.next(*arguments)
            if not is_again:
                released.append(output.state)
                return output
            mean = released.pop(0)
            pairs = zip(
                mean.global_model_weights.trainable,
                output.state.global_model_weights.trainable,
                strict=True,
            )
            differ |= any(not np.array_equal(a, b) for a, b in pairs)
            same = output.state._replace(
                global_model_weights=mean.global_model_weights, finalizer=mean.finalizer
            )
            if flags.get("mechanism") == "adaptive":
                clip = {**output.state.aggregator, "clip_norm": mean.aggregator["clip_norm"]}
                same = same._replace(aggregator=type(mean.aggregator)(clip))
                output.metrics["aggregator"]["clip_norm"] = mean.aggregator["clip_norm"]
            return output._replace(state=same)

    true_build = trainer.process.build_process
    monkeypatch.setattr(
        trainer.process, "build_process", lambda *arguments: _Learning(true_build(*arguments))
    )
    contents = []
    for number, function in enumerate(("data", "other")):
        is_again = number == 1
        path = tmp_path / str(number)
        config = {**SETTINGS, **flags, "dataset": f"{own}:{function}", "output_dir": str(path)}
        contents.append(content_of(federated.run(federated.FederatedConfig(**config))))
    assert differ, "the clients made no difference"
    first, second = contents
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []
