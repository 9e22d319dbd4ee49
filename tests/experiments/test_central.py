"""Tests of experiments.central as a program: its ends, its pipes, `kill -9` and its flags."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_FLAGS = {
    "dataset": "digits",
    "model": "logistic",
    "expected_batch_size": 20,
    "epochs": 40,
    "noise_multiplier": 1.0,
    "seed": 7,
}


def _command(output_dir, **changes):
    settings = {**_FLAGS, "output_dir": output_dir, **changes}
    arguments = [f"--{name}={value}" for name, value in settings.items() if value is not None]
    return [sys.executable, "-m", "experiments.central", *arguments]


def _run(output_dir, **changes):
    return subprocess.run(
        _command(output_dir, **changes), cwd=_ROOT, capture_output=True, text=True, timeout=300
    )


# In a process of its own, as programs define flags of the same names.
LOOK = """
import dataclasses, json
from absl import flags
import experiments.central
from tfpriv.central import CentralConfig
flags.FLAGS(["central"])
key = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(experiments.central)}
import sys
print(json.dumps([
    sorted(key), [field.name for field in dataclasses.fields(CentralConfig)],
    flags.FLAGS["accumulate_steps"].value, "tensorflow" in sys.modules,
]))
"""


def test_every_setting_is_a_documented_flag_and_help_needs_no_tensorflow():
    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=_ROOT, capture_output=True, text=True, timeout=120
    )
    keys, fields, accumulate_steps, has_tensorflow = json.loads(done.stdout)
    assert set(fields) <= set(keys) and "secure_evaluation" in keys
    assert accumulate_steps == 1 and not has_tensorflow


def test_killed_run_goes_on_where_its_checkpoint_stands(tmp_path):
    output = tmp_path / "run"
    with subprocess.Popen(
        _command(output), cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        deadline = time.monotonic() + 120
        while not list((output / "checkpoints").glob("step-*.index")):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    assert not (output / "summary.json").exists()
    done = _run(output, resume=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads((output / "summary.json").read_text())
    spans = json.loads((output / "steps.json").read_text())
    assert len(spans) == 2 and spans[1][1] == summary["steps"]
    assert summary["epsilon"] > 0


def test_run_that_ends_says_its_results_and_evaluates_on_shares(tmp_path):
    done = _run(tmp_path / "run", epochs=2, secure_evaluation="aby3", secure_examples=20)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout and "unit example" in done.stdout
    assert len(done.stdout.splitlines()) <= 24
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["agreement"] >= 0.9 and 0 <= summary["secure_accuracy"] <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_multiplier": None}, "error: --mechanism=dpsgd needs one of --target_epsilon"),
        ({"dataset": "cifar"}, "error: --dataset=cifar is not known"),
        ({"features": "scattering", "dataset": "adult"}, "error: --features=scattering needs"),
    ],
)
def test_what_cannot_run_ends_in_one_sentence_and_leaves_nothing(changes, message, tmp_path):
    done = _run(tmp_path / "run", **changes)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(message)
    assert not (tmp_path / "run").exists()


def test_reader_that_goes_away_does_not_stop_the_run(tmp_path):
    command = " ".join(_command(tmp_path / "run", epochs=2)) + " 2>&1 | head -1"
    done = subprocess.run(command, shell=True, cwd=_ROOT, capture_output=True, timeout=300)
    assert done.stdout
    assert (tmp_path / "run" / "summary.json").exists()
