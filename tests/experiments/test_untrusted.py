"""Run directories and model files from elsewhere run no code in any program, unless asked to."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[2]

# A data set that says when its file is run.
OWN = """
import pathlib
import numpy as np
from tfpriv import datasets
pathlib.Path({marker!r}).touch()

def data(data_dir=None):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    return datasets.Dataset(
        name="own", task="classification", num_classes=2,
        train_features=x[:100], train_labels=y[:100],
        test_features=x[100:], test_labels=y[100:],
    )

def model(shape, classes):
    import tensorflow as tf
    return tf.keras.Sequential([tf.keras.layers.Dense(classes, input_shape=shape)])
"""


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{program}", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("untrusted")


@pytest.fixture(scope="module")
def trained(folder):
    """A run whose data set and model are of a file of its own, and that file's marker."""
    marker, source = folder / "it_ran", folder / "own.py"
    source.write_text(OWN.format(marker=str(marker)))
    result = run(
        *("central", f"--dataset={source}:data", f"--model={source}:model", "--mechanism=none"),
        *("--epochs=1", "--train_fraction=0.5", "--expected_batch_size=10"),
        "--secure_evaluation=aby3",
        f"--output_dir={folder / 'run'}",
    )
    # What the command itself names needs no trust, in the evaluation at its end either.
    assert result.returncode == 0, result.stderr
    return folder / "run", marker


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("secure_inference", ["--model=RUN"]),
        ("audit", ["--run=RUN"]),
        ("audit", ["--run=RUN", "--attack=lira", "--shadow_models=4"]),
    ],
)
def test_code_that_only_a_run_names_is_not_run(trained, folder, program, arguments):
    directory, marker = trained
    marker.unlink(missing_ok=True)
    source = folder / "own.py"
    arguments = [argument.replace("RUN", str(directory)) for argument in arguments]
    result = run(program, *arguments, f"--output_dir={folder / 'refused'}")
    assert result.returncode == 2
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "--trust_code" in last
    assert f"{source} (sha256 {digest})" in last
    assert not marker.exists() and not (folder / "refused").exists()


def test_code_is_run_and_shown_if_it_is_asked_for(trained, folder):
    directory, marker = trained
    marker.unlink(missing_ok=True)
    result = run(
        *("secure_inference", f"--model={directory}", "--trust_code", "--num_examples=8"),
        f"--output_dir={folder / 'trusted'}",
    )
    assert result.returncode == 0, result.stderr
    assert marker.exists()
    assert f"{folder / 'own.py'} (sha256 " in result.stderr


def test_module_of_the_current_folder_is_not_run_either(trained, folder):
    directory, marker = trained
    marker.unlink(missing_ok=True)
    config = directory / "config.json"
    text = config.read_text()
    content = json.loads(text)
    content["flags"]["dataset"] = "own:data"
    config.write_text(json.dumps(content))
    try:
        result = subprocess.run(
            [sys.executable, "-m", "experiments.secure_inference", f"--model={directory}"],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
    finally:
        config.write_text(text)
    assert result.returncode == 2, result.stderr
    assert "--trust_code" in result.stderr and not marker.exists()


@pytest.mark.parametrize("kind", ["HDF5 with a Lambda", "zip with a Lambda", "foreign function"])
def test_hostile_model_file_is_refused(folder, kind):
    """Each would make a file if its code ran."""
    marker = folder / "model_ran"
    code = f"""
import json, sys, zipfile
import tensorflow as tf
x = tf.keras.layers.Input((4,))
layer = tf.keras.layers.Lambda(lambda x: (open({str(marker)!r}, "w").close(), x)[1])
kind, path = sys.argv[1:]
if kind.startswith("HDF5"):
    tf.keras.Sequential([x, layer]).save(path + ".h5", save_format="h5")
    import os; os.rename(path + ".h5", path)
else:
    model = tf.keras.Sequential([x, layer if "Lambda" in kind else tf.keras.layers.Dense(2)])
    model.save(path)
if kind == "foreign function":
    with zipfile.ZipFile(path) as archive:
        members = {{name: archive.read(name) for name in archive.namelist()}}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1]["config"]["activation"] = {{
        "module": "os", "class_name": "function", "config": "system", "registered_name": None
    }}
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
"""
    path = folder / "model.keras"
    subprocess.run([sys.executable, "-c", code, kind, str(path)], check=True, capture_output=True)
    marker.unlink(missing_ok=True)
    result = run("secure_inference", f"--model={path}", "--dataset=breast_cancer")
    assert result.returncode == 2
    assert str(path) in result.stderr.strip().splitlines()[-1]
    assert not marker.exists()


def test_hostile_model_in_a_run_directory_is_refused_by_audits(trained, folder):
    directory, _ = trained
    marker = folder / "audited"
    model = directory / "model.keras"
    content = model.read_bytes()
    code = f"""
import sys
import tensorflow as tf
layer = tf.keras.layers.Lambda(lambda x: (open({str(marker)!r}, "w").close(), x)[1])
tf.keras.Sequential([tf.keras.layers.Input((4,)), layer]).save(sys.argv[1] + ".h5")
import os; os.rename(sys.argv[1] + ".h5", sys.argv[1])
"""
    try:
        subprocess.run([sys.executable, "-c", code, str(model)], check=True, capture_output=True)
        marker.unlink(missing_ok=True)
        for program, flag in (("audit", "run"), ("secure_inference", "model")):
            result = run(program, f"--{flag}={directory}", "--trust_code")
            assert result.returncode == 2, result.stderr
            assert not marker.exists()
    finally:
        model.write_bytes(content)
