"""Tests of experiments.secure_inference as a program."""

import json
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[2]


def _run(*arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "experiments.secure_inference", *arguments],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        check=False,
        **kwargs,
    )


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    from tfpriv import models

    path = tmp_path_factory.mktemp("model") / "model.keras"
    models.save(models.build("logistic", (8, 8, 1), 10, seed=0), path)
    return path


def test_it_ends_in_a_screen_with_both_accuracies(model_file, tmp_path):
    result = _run(f"--model={model_file}", "--dataset=digits", f"--output_dir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) < 24 and max(map(len, lines)) <= max(80, len(str(tmp_path)) + 40)
    assert "accuracy on shares" in result.stdout and "in plaintext" in result.stdout
    assert "summary.json" in result.stdout
    assert "WARNING" not in result.stderr and "tf_encrypted" not in result.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["num_examples"] == 360


def test_an_error_is_a_sentence_and_leaves_nothing(tmp_path):
    result = _run("--model=nothing.keras", "--dataset=mnist", f"--output_dir={tmp_path / 'run'}")
    assert result.returncode == 2
    assert result.stderr.strip() == (
        "error: --model=nothing.keras does not exist; give the directory of a run, or a "
        ".keras file."
    )
    assert not (tmp_path / "run").exists()


def test_a_flag_that_does_not_exist_is_named():
    result = _run("--modle=x")
    assert result.returncode == 1 and "modle" in result.stderr


def test_answers_that_disagree_are_a_warning_and_a_status_of_their_own(tmp_path):
    from tfpriv import models

    models.save(models.build("2nn", (8, 8, 1), 10, seed=0), tmp_path / "model.keras")
    code = (
        "from experiments import program, secure_inference\n"
        "from tfpriv.secure.layers import activation\n"
        "zeros = lambda self, protocol, x, *_: x.with_shares(x.shares - x.shares)\n"
        "activation.ReLU.compute = zeros\n"
        "program.run(secure_inference.main)\n"
    )
    result = subprocess.run(
        [
            *(sys.executable, "-c", code, f"--model={tmp_path / 'model.keras'}"),
            *("--dataset=digits", "--num_examples=64", f"--output_dir={tmp_path / 'run'}"),
        ],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        check=False,
    )
    assert result.returncode == 4, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("warning: the answers on shares are not those in plaintext: ")
    assert "relu" in last
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["disagreement"] in last
