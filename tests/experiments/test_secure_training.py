"""The program, as a user starts it."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PRESETS = ROOT / "experiments" / "presets"


def start(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.secure_training", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_diabetes_preset_trains_on_shares_next_to_the_clear(tmp_path):
    done = start(
        f"--flagfile={PRESETS}/introduction/secure_training.flags",
        "--max_steps=10",
        f"--output_dir={tmp_path}/run",
    )
    assert done.returncode == 0, done.stderr
    assert "Revealed: the final weights, to the client only" in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["secure_rmse"] == pytest.approx(summary["plaintext_rmse"], rel=0.01)
    assert summary["steps"] == 10 and summary["model_parameters"] == 121


def test_wrong_flag_is_one_sentence_without_a_traceback():
    done = start("--network=E")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    done = start("--resume")
    assert done.returncode == 2
    assert done.stderr.startswith("error: secure training cannot be resumed")


def test_presets_of_the_benchmark_are_configs_with_its_settings():
    parse = (
        "import json, sys\n"
        "from absl import flags\n"
        "from absl.testing import flagsaver\n"
        "from experiments import program, secure_training\n"
        "from tfpriv.secure.training.config import SecureTrainingConfig\n"
        "configs = {}\n"
        "for path in sys.argv[1:]:\n"
        "    with flagsaver.flagsaver():\n"
        "        flags.FLAGS([path, f'--flagfile={path}'])\n"
        "        config = program.config_from_flags(SecureTrainingConfig).complete()\n"
        "    configs[path] = vars(config)\n"
        "assert 'tensorflow' not in sys.modules\n"
        "print(json.dumps(configs))\n"
    )
    paths = sorted(str(path) for path in (PRESETS / "tfe_mnist").glob("*.flags"))
    done = subprocess.run(
        [sys.executable, "-c", parse, *paths], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    configs = json.loads(done.stdout)
    assert len(configs) == 15
    for path, config in configs.items():
        network, optimizer = pathlib.Path(path).stem.split("_")
        assert config["network"].lower() == network and config["optimizer"] == optimizer
        assert config["learning_rate"] == (0.01 if optimizer == "sgd" else 0.001)
        assert (config["batch_size"], config["epochs"], config["max_steps"]) == (128, 5, None)
        assert config["seed"] == 0 and config["output_dir"] is None
