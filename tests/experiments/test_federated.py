"""Tests of experiments.federated as a program: its ends, its pipes and its flags."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest
from absl import flags
from absl.testing import flagsaver

import experiments.federated
from experiments import program
from tfpriv import runs
from tfpriv.errors import UserError
from tfpriv.federated import FederatedConfig

_ROOT = pathlib.Path(__file__).parents[2]
_FLAGS = {
    "dataset": "digits",
    "num_clients": 6,
    "clients_per_round": 2,
    "model": "logistic",
    "batch_size": 50,
    "rounds": 30,
    "checkpoint_every": 3,
    "eval_every": 5,
}


def _arguments(output_dir, **changes):
    settings = {**_FLAGS, "output_dir": output_dir, **changes}
    return [f"--{name}={value}" for name, value in settings.items() if value is not None]


def _command(output_dir, **changes):
    return [sys.executable, "-m", "experiments.federated", *_arguments(output_dir, **changes)]


def _main(output_dir, **changes):
    """Runs the program's main in this process, with these flags."""
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["federated", *_arguments(output_dir, **changes)])
        experiments.federated.main()


def _summary(path):
    return json.loads((path / "summary.json").read_text())


def _rows(path):
    try:
        return (path / "metrics.csv").read_text().count("\n") - 1
    except FileNotFoundError:
        return 0


def _end_in_the_middle(path, how, **changes):
    """Starts a run, ends it by a signal after some rounds; returns its status and stderr."""
    process = subprocess.Popen(
        _command(path, **changes),
        cwd=_ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while _rows(path) < 4:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    workers = [c for c in psutil.Process(process.pid).children() if "worker" in c.name()]
    assert len(workers) == 1
    process.send_signal(how)
    error = process.communicate(timeout=240)[1]
    psutil.wait_procs(workers, timeout=10)
    assert not any(w.is_running() for w in workers), "the run left its worker behind"
    assert 4 <= _rows(path) < _FLAGS["rounds"], "the run was over before it could be ended"
    return process.returncode, error


def test_every_field_of_the_config_is_a_flag_with_a_help_text():
    for field in dataclasses.fields(FederatedConfig):
        flag = flags.FLAGS[field.name]
        assert flag.default == field.default
        assert len(flag.help) > 20


def test_main_trains_by_flags_and_prints_the_summary(tmp_path, capsys):
    _main(tmp_path / "run", rounds=2)
    printed = capsys.readouterr().out
    assert "test accuracy" in printed
    assert "not private" in printed
    assert str(tmp_path / "run") in printed
    assert "summary.json" in printed
    assert _summary(tmp_path / "run")["rounds"] == 2


def test_a_run_killed_and_resumed_ends_as_if_it_had_not_been(tmp_path):
    status, _ = _end_in_the_middle(tmp_path / "killed", signal.SIGKILL)
    assert status == -signal.SIGKILL
    _main(tmp_path / "killed", resume=True)
    _main(tmp_path / "whole")
    killed, whole = (_summary(tmp_path / name) for name in ("killed", "whole"))
    for name in ("test_accuracy", "test_loss"):
        assert killed[name] == pytest.approx(whole[name], abs=1e-5)
    assert killed["rounds"] == whole["rounds"] == 30
    columns = ((tmp_path / n / "metrics.csv").read_text().splitlines() for n in ("killed", "whole"))
    for ours, theirs in zip(*columns, strict=True):
        assert ours.split(",")[0] == theirs.split(",")[0]


@pytest.mark.parametrize(
    ("number", "ends", "says"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
def test_a_signal_ends_with_a_sentence_and_a_private_run_pays_for_all_its_rounds(
    tmp_path, number, ends, says
):
    path = tmp_path / "run"
    private = {
        "privacy_unit": "client",
        "noise_multiplier": 1.0,
        "delta": 1e-3,
        "checkpoint_every": 3,
    }
    status, error = _end_in_the_middle(path, number, **private)
    assert status == ends
    assert f"error: {says}; go on with --resume" in error
    assert "Traceback" not in error
    (first, ran), *others = json.loads((path / "rounds.json").read_text())
    assert first == 0
    assert not others
    _main(path, resume=True, **private)
    spans = json.loads((path / "rounds.json").read_text())
    # It goes on from the last checkpoint, and what ran after that is counted twice.
    assert spans in [[[0, ran], [done, 30]] for done in (ran // 3 * 3, (ran - 1) // 3 * 3)]
    privacy = json.loads((path / "privacy.json").read_text())
    assert privacy["rounds"] == sum(end - begin for begin, end in spans) >= 30


@pytest.mark.parametrize("reader", ["head -1", "tail -1"])
def test_a_pipe_returns_and_leaves_no_worker(tmp_path, reader):
    command = " ".join(_command(tmp_path / "run", rounds=2))
    began = time.time()
    ended = subprocess.run(
        f"{command} 2>/dev/null | {reader}",
        shell=True,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert len(ended.stdout.splitlines()) == 1
    assert _summary(tmp_path / "run")["rounds"] == 2
    for process in psutil.process_iter(["name", "create_time", "ppid"]):
        if process.info["name"].startswith("worker_binary") and process.info["ppid"] == 1:
            assert process.info["create_time"] < began, "the run left its worker behind"


def test_a_refusal_is_one_sentence_and_quick_and_status_2(tmp_path):
    ended = subprocess.run(
        _command(tmp_path / "run", privacy_unit="client"),
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: --privacy_unit=client needs one of --target_epsilon")
    assert ended.stderr.count("\n") == 1


def test_a_refusal_of_the_model_is_one_sentence_too(tmp_path):
    ended = subprocess.run(
        _command(tmp_path / "run", model="perceptron"),
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3"),
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --model=perceptron is not known")
    assert ended.stderr.count("\n") == 1


def test_a_run_can_end_with_an_evaluation_on_shares(tmp_path):
    _main(tmp_path / "run", rounds=2, secure_evaluation="aby3", secure_examples=20)
    summary = _summary(tmp_path / "run")
    assert summary["agreement"] == 1
    assert summary["secure_accuracy"] == summary["plaintext_accuracy"]
    evaluation = _summary(tmp_path / "run" / "secure_evaluation")
    assert evaluation["num_examples"] == 20 and evaluation["protocol"] == "aby3"


def test_a_model_that_shares_cannot_hold_is_refused_before_training(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "import tensorflow as tf\n"
        "def build(shape, classes):\n"
        "    layers = tf.keras.layers\n"
        "    return tf.keras.Sequential([layers.Flatten(input_shape=shape),\n"
        "        layers.LayerNormalization(), layers.Dense(classes)])\n"
    )
    with pytest.raises(UserError, match="LayerNormalization, which cannot be computed on shares"):
        _main(tmp_path / "run", model=f"{own}:build", secure_evaluation="aby3")
    assert not (tmp_path / "run").exists()


def test_secure_examples_need_a_secure_evaluation(tmp_path):
    with pytest.raises(UserError, match="no meaning without --secure_evaluation"):
        _main(tmp_path / "run", secure_examples=20)
    assert not (tmp_path / "run").exists()


def _resumed_config(path, *more):
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["federated", "--resume", f"--output_dir={path}", *more])
        return program.config_from_flags(FederatedConfig)


def _with_flags(path, **changes):
    config = json.loads((path / "config.json").read_text())
    config["flags"] |= changes
    (path / "config.json").write_text(json.dumps(config))


def test_resume_needs_no_flag_but_the_directory(tmp_path):
    config = FederatedConfig(
        dataset="digits", rounds=7, privacy_unit="client", target_epsilon=3, clip_norm=0.5
    ).complete()
    runs.RunDirectory.create(
        tmp_path / "run", dataclasses.asdict(config), program="federated"
    ).close()
    resumed = _resumed_config(tmp_path / "run").complete()
    before = dataclasses.replace(config, resume=True, output_dir=str(tmp_path / "run"))
    assert resumed == before
    # What is given counts, and is refused later.
    assert _resumed_config(tmp_path / "run", "--rounds=8").rounds == 8


def test_resume_runs_no_code_that_only_the_directory_names(tmp_path):
    config = dataclasses.asdict(FederatedConfig(dataset="digits").complete())
    runs.RunDirectory.create(tmp_path / "run", config, program="federated").close()
    _with_flags(tmp_path / "run", model="evil.py:build")
    with pytest.raises(UserError, match=r"names --model=evil.py:build, which is code"):
        _resumed_config(tmp_path / "run")
    assert _resumed_config(tmp_path / "run", "--model=evil.py:build").model == "evil.py:build"


def test_flags_of_another_type_in_the_directory_are_refused(tmp_path):
    config = dataclasses.asdict(FederatedConfig(dataset="digits").complete())
    runs.RunDirectory.create(tmp_path / "run", config, program="federated").close()
    _with_flags(tmp_path / "run", rounds="many")
    with pytest.raises(UserError, match="is damaged: --rounds is 'many', which is no int"):
        _resumed_config(tmp_path / "run")
