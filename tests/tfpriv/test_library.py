"""The library as a script or a notebook uses it: functions, models and arrays, and no flags."""

import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[2]

_START = """
import pathlib, sys
import numpy as np
import tensorflow as tf  # First, as in many a notebook.
from tfpriv import audit, central, datasets, federated, models
from tfpriv.errors import UserError

generator = np.random.default_rng(0)
x = generator.normal(size=(240, 6)).astype(np.float32)
y = (x[:, 0] > 0).astype(int)
arrays = (x[:200], y[:200]), (x[200:], y[200:])
out = pathlib.Path(sys.argv[1])

def build(shape, classes):
    return tf.keras.Sequential([
        tf.keras.layers.InputLayer(shape), tf.keras.layers.Dense(classes, name="last")
    ])

def config(**settings):
    plain = {"mechanism": "none", "epochs": 2, "learning_rate": 0.1, "expected_batch_size": 20}
    plain |= {"dataset": arrays, "model": build, "output_dir": str(out / "run")}
    return central.CentralConfig(**{**plain, **settings})
"""


def run(tmp_path, code):
    path = tmp_path / "script.py"
    path.write_text(_START + code)
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(_ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_function_and_arrays_are_trained_on_and_the_result_is_shown(tmp_path):
    code = """
run = central.run(config())
print(repr(run))
frame = run.frame()
assert len(frame) >= 2 and "test_accuracy" in frame.columns, frame
assert "not private" in run.statement
assert models.load(run.model_path).get_layer("last").units == 2
assert run.summary["test_accuracy"] > 0.6, run.summary
assert run.config["flags"]["model"] == "object:build"
"""
    shown = run(tmp_path, code)
    assert shown.startswith("<central in ") and "test_accuracy 0." in shown


def test_a_built_model_starts_from_its_weights(tmp_path):
    code = """
model = build((6,), 2)
kernel = np.zeros((6, 2), np.float32)
kernel[0] = -5, 5
model.set_weights([kernel, np.zeros(2, np.float32)])
run = central.run(config(model=model, learning_rate=1e-6, epochs=1))
assert run.summary["test_accuracy"] == 1, run.summary
federal = federated.run(federated.FederatedConfig(
    dataset=arrays, model=model, num_clients=4, clients_per_round=2, rounds=1,
    client_learning_rate=1e-6, output_dir=str(out / "federated")))
assert federal.summary["test_accuracy"] == 1, federal.summary
"""
    run(tmp_path, code)


def test_a_federated_run_works_inside_a_running_event_loop(tmp_path):
    code = """
import asyncio

async def cell():
    return federated.run(federated.FederatedConfig(
        dataset=lambda: arrays, model=build, num_clients=4, clients_per_round=2, rounds=2,
        output_dir=str(out / "federated")))

print(repr(asyncio.run(cell())))
"""
    assert run(tmp_path, code).startswith("<federated in ")


def test_errors_name_fields_and_not_flags(tmp_path):
    code = """
for settings, words in (
    ({"clip_norm": 2.0}, "clip_norm=2.0 has no meaning with mechanism=none"),
    ({"mechanism": "dpsgd"}, "mechanism=dpsgd needs one of target_epsilon and noise_multiplier"),
    ({"model": 3}, "model is 3; give one of logistic"),
    ({"dataset": {}}, "dataset is a dict; give a name"),
    ({"model": lambda shape, classes: 5}, "returned"),
):
    try:
        central.run(config(**settings))
        raise AssertionError(settings)
    except UserError as error:
        assert words in str(error) and "--" not in str(error), str(error)
"""
    run(tmp_path, code)


@pytest.mark.slow
def test_what_child_processes_cannot_have_is_refused_by_name(tmp_path):
    code = """
run = central.run(config(train_fraction=0.5))
audit.run(audit.AuditConfig(run=str(run.path), output_dir=str(out / "audit"), max_examples=20))
try:
    audit.run(audit.AuditConfig(run=str(run.path), attack="lira", shadow_models=4,
                                max_examples=20, output_dir=str(out / "lira")))
    raise AssertionError
except UserError as error:
    assert "model of the run was given as an object (object:build)" in str(error), str(error)
assert not (out / "lira").exists()
"""
    run(tmp_path, code)


@pytest.mark.parametrize("kind", ["function", "data"])
def test_a_function_of_a_file_is_named_by_it_so_that_other_processes_find_it(tmp_path, kind):
    (tmp_path / "mine.py").write_text(_START.replace("out = pathlib.Path(sys.argv[1])", ""))
    code = f"""
import mine
settings = {{"function": {{"model": mine.build}}, "data": {{"dataset": datasets.Dataset(
    name="mine", task="classification", num_classes=2, train_features=x[:200],
    train_labels=y[:200].astype(np.int32), test_features=x[200:],
    test_labels=y[200:].astype(np.int32))}}}}[{kind!r}]
run = central.run(config(**settings))
flags = run.config["flags"]
print(flags["model"], flags["dataset"])
"""
    (line,) = run(tmp_path, code).splitlines()
    expected = {
        "function": f"{tmp_path / 'mine.py'}:build object:arrays",
        "data": "object:build object:mine",
    }
    assert line == expected[kind]
