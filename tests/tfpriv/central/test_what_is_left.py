"""What lies in the directory of a private run is a function of its releases alone.

Two runs on different examples, whose noise makes up for the difference so that each step releases
the same, leave the same bytes, but for what is listed here.
"""

import json
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_file_loader

from tfpriv import central
from tfpriv.central import pca
from tfpriv.central.config import CentralConfig
from tfpriv.central.step import PrivateStep

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
    "expected_batch_size": 30,
    "epochs": 2,
    "noise_multiplier": 1.0,
    "insecure_sampling_seed": 4,
    "delta": 1e-3,
}
# Times, places and hashes of these; salted hashes of the data, with a salt of each run's own.
TIMES = {
    "seconds_per_step", "examples_per_second", "start_to_first_step_seconds", "wall_seconds",
    "peak_memory_mb", "model_path",
}  # fmt: skip
SURROUNDINGS = {"started", "command", "data"}
OWN_FLAGS = {"dataset", "output_dir"}
MEMBERS = {"salted_data_sha256", "coins_sha256"}


def content_of(run):
    """Returns by file what must be the same in both runs."""
    found = {}
    for path in sorted(run.path.rglob("*")):
        name = str(path.relative_to(run.path))
        if path.is_dir() or name == "seal.json":
            continue
        found[name] = _content(name, path)
    return found


def _content(name, path):
    if name.startswith("events."):
        # The rest is the time of writing.
        return [
            (event.step, event.summary.SerializeToString(deterministic=True))
            for event in event_file_loader.LegacyEventFileLoader(str(path)).Load()
        ]
    if name == "config.json":
        config = json.loads(path.read_text())
        flags = {k: v for k, v in config.pop("flags").items() if k not in OWN_FLAGS}
        return flags, {k: v for k, v in config.items() if k not in SURROUNDINGS}
    if name in ("summary.json", "members.json"):
        left_out = TIMES | MEMBERS
        return {k: v for k, v in json.loads(path.read_text()).items() if k not in left_out}
    if name == "model.keras":
        with zipfile.ZipFile(path) as archive:
            # The rest is the date of saving.
            return [archive.read(part) for part in ("config.json", "model.weights.h5")]
    if name == "checkpoints/checkpoint":
        return [line for line in path.read_text().splitlines() if "timestamp" not in line]
    return path.read_bytes()


class _Released:
    """What the steps of the first run released, given out again in the second."""

    def __init__(self):
        self.kept, self.sums, self.coming, self.differ = [], [], None, False

    def patch(self, monkeypatch, owner, name):
        true = getattr(owner, name)

        def released(*arguments):
            # The noise is drawn in either run, so that what it keeps is different.
            found = true(*arguments)
            sums = [np.array(a) for a in arguments if isinstance(a, np.ndarray)]
            if self.coming is None:
                self.kept.append(found)
                self.sums.append(sums)
                return found
            before, found = next(self.coming)
            self.differ |= not all(map(np.array_equal, before, sums))
            return found

        monkeypatch.setattr(owner, name, released)

    def again(self):
        self.coming = iter(list(zip(self.sums, self.kept, strict=True)))


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam"},
        {"clipping": "adaptive", "noise_multiplier": 0.5},
        {"clipping": "per_layer", "model": "mlp", "optimizer": "momentum"},
        {"mechanism": "tree", "optimizer": "adagrad"},
        {"mechanism": "banded", "bands": 4, "separation": 4},
        {"mechanism": "banded", "bands": 3, "separation": 4, "factorization": "inverse_sqrt"},
        {"sampler": "shuffled", "accumulate_steps": 2},
        {"features": "dp_pca", "pca_components": 3, "pca_noise_multiplier": 5.0},
        {"audit_canaries": 20},
    ],
    ids=str,
)
def test_runs_that_release_the_same_leave_the_same(monkeypatch, tmp_path, settings):
    own = tmp_path / "own.py"
    own.write_text(OWN)
    steps = _Released()
    steps.patch(monkeypatch, PrivateStep, "_with_noise")
    counts = _Released()
    counts.patch(monkeypatch, PrivateStep, "_count_with_noise")
    components = _Released()
    components.patch(monkeypatch, pca, "private_components")
    contents = []
    for number, function in enumerate(("data", "other")):
        tf.keras.backend.clear_session()  # Which numbers the names of layers anew.
        config = {**SETTINGS, **settings, "dataset": f"{own}:{function}"}
        run = central.run(CentralConfig(output_dir=str(tmp_path / str(number)), **config))
        contents.append(content_of(run))
        if not number:
            for released in (steps, counts, components):
                released.again()
    assert steps.differ, "the examples made no difference"
    first, second = contents
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []
