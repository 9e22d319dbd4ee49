import json
import pathlib
import socket
import subprocess
import sys

import tfpriv
from tfpriv.runs.metrics import MetricsWriter

_ROOT = pathlib.Path(tfpriv.__file__).parents[1]

# What TensorBoard itself makes of a directory; its stand-in for TensorFlow saves importing that.
_READ = """
import json, sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
tags = events.Tags()["scalars"]
scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}
print(json.dumps(scalars))
"""


def _read(directory):
    output = subprocess.check_output([sys.executable, "-c", _READ, directory], cwd=_ROOT)
    return json.loads(output)


def test_tensorboard_shows_what_was_written(tmp_path):
    metrics = MetricsWriter(tmp_path)
    metrics.write(1, {"loss": 0.5})
    metrics.write(2, {"loss": 0.25, "test_accuracy": 0.75, "rmse": None})
    # Not closed, as a killed process would not.
    assert _read(tmp_path) == {"loss": [[1, 0.5], [2, 0.25]], "test_accuracy": [[2, 0.75]]}


def test_tensorboard_forgets_what_a_resumed_run_does_again(tmp_path):
    first = MetricsWriter(tmp_path)
    for step in range(1, 6):
        first.write(step, {"loss": float(step)})
    second = MetricsWriter(tmp_path)
    second.truncate(3)
    second.write(4, {"loss": -4.0})
    second.close()
    assert _read(tmp_path) == {"loss": [[1, 1.0], [2, 2.0], [3, 3.0], [4, -4.0]]}


def test_events_name_no_host(tmp_path):
    MetricsWriter(tmp_path).write(1, {"loss": 0.5})
    (path,) = tmp_path.glob("*tfevents*")
    assert socket.gethostname() not in path.name.split(".")
    assert path.name == "events.out.tfevents.000"
