"""Tests of experiments.program."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from absl import flags
from absl.testing import flagsaver

import experiments.federated  # noqa: F401 (for its --output_dir; two programs would clash)
from experiments import program
from experiments.program import Help
from tfpriv import runs
from tfpriv.errors import UserError

_ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
    program_test_word: str | None = None
    program_test_choice: str = "red"
    program_test_number: int = 3
    program_test_rate: float | None = None
    program_test_on: bool = False


program.define_flags(
    _Config,
    {
        "program_test_word": Help("A word."),
        "program_test_choice": Help("A choice.", ("red", "blue")),
        "program_test_number": Help("A number.", kind=int),
        "program_test_rate": Help("A rate.", kind=float),
        "program_test_on": Help("Whether.", kind=bool),
    },
)


@pytest.fixture(autouse=True)
def _flags_as_they_were():
    with flagsaver.flagsaver():
        yield


def _run(monkeypatch, main, *arguments):
    monkeypatch.setattr(sys, "argv", ["test_program", *arguments])
    program.run(main, resumes=True)


def _ending(monkeypatch, capsys, main, *arguments):
    with pytest.raises(SystemExit) as ended:
        _run(monkeypatch, main, *arguments)
    return ended.value.code, capsys.readouterr().err


def test_flags_not_given_are_the_fields_defaults(monkeypatch):
    found = []
    _run(monkeypatch, lambda: found.append(program.config_from_flags(_Config)))
    assert found == [_Config()]


def test_flags_reach_their_fields_with_their_types(monkeypatch):
    found = []
    _run(
        monkeypatch,
        lambda: found.append(program.config_from_flags(_Config)),
        "--program_test_word=x",
        "--program_test_choice=blue",
        "--program_test_number=4",
        "--program_test_rate=0.5",
        "--program_test_on",
    )
    assert found == [
        _Config(
            program_test_word="x",
            program_test_choice="blue",
            program_test_number=4,
            program_test_rate=0.5,
            program_test_on=True,
        )
    ]


def test_a_field_without_a_help_text_cannot_be_defined():
    with pytest.raises(KeyError, match="program_test_word"):
        program.define_flags(_Config, {})


def test_a_user_error_ends_with_its_sentence_and_status_2(monkeypatch, capsys):
    def main():
        raise UserError("the sky is green; wait.")

    assert _ending(monkeypatch, capsys, main) == (2, "error: the sky is green; wait.\n")


def _interrupted():
    raise KeyboardInterrupt


def test_ctrl_c_ends_with_status_130_and_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    with runs.RunDirectory.create(tmp_path, {}, program="test_program"):
        ending = _ending(monkeypatch, capsys, _interrupted, f"--output_dir={tmp_path}")
    assert ending == (130, "error: interrupted; go on with --resume and the same flags.\n")


def test_ctrl_c_names_the_run_directory_that_was_made_without_the_flag(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    with runs.RunDirectory.create(None, {}, program="test_program") as run:
        status, error = _ending(monkeypatch, capsys, _interrupted)
    assert status == 130
    assert f"go on with --resume --output_dir={run.path.relative_to(tmp_path)} and" in error


def test_ctrl_c_before_there_is_a_run_promises_nothing(monkeypatch, capsys, tmp_path):
    new = f"--output_dir={tmp_path / 'new'}"
    assert _ending(monkeypatch, capsys, _interrupted, new) == (130, "error: interrupted.\n")


@pytest.mark.parametrize(
    ("holder", "age"),
    [(1, 0), (os.getpid(), 1e6)],
    ids=["another_process", "an_earlier_process_of_our_number"],
)
def test_ctrl_c_does_not_name_the_run_of(monkeypatch, capsys, tmp_path, holder, age):
    monkeypatch.chdir(tmp_path)
    runs.RunDirectory.create("runs/run", {}, program="test_program").close()
    lock = tmp_path / "runs" / "run" / ".lock"
    lock.write_text(f"{holder}\n")
    os.utime(lock, (time.time() - age,) * 2)
    assert _ending(monkeypatch, capsys, _interrupted) == (130, "error: interrupted.\n")


def _interrupted_in_imports(program_name, on_interrupt, *arguments):
    """Sends a program SIGINT in the midst of its imports; returns its status and stderr."""
    program_ = [sys.executable, "-X", "importtime", "-m", f"experiments.{program_name}"]
    process = subprocess.Popen(
        ["env", f"--{on_interrupt}-signal=INT", *program_, *arguments],
        cwd=_ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.endswith(" experiments.program\n"):
            break
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1].splitlines()
    return process.returncode, [line for line in error if not line.startswith("import time:")]


@pytest.mark.parametrize("name", ["central", "federated", "audit", "secure_training"])
def test_ctrl_c_while_a_program_imports_ends_with_one_line_and_status_130(name):
    assert _interrupted_in_imports(name, "default") == (130, ["error: interrupted."])


def test_a_program_that_ignores_ctrl_c_ignores_it_while_it_imports(tmp_path):
    status, error = _interrupted_in_imports("figure", "ignore", f"--presets_dir={tmp_path}")
    assert status == 2
    assert "--figure=None is not known" in error[-1]


def test_the_package_as_a_library_leaves_ctrl_c_alone():
    assert signal.getsignal(signal.SIGINT) is not program._leave


def test_an_argument_that_is_no_flag_is_named(monkeypatch, capsys):
    status, error = _ending(monkeypatch, capsys, pytest.fail, "rounds=3")
    assert status == 2
    assert "'rounds=3' is not a flag; write --name=value." in error


@pytest.mark.parametrize(
    "argument", ["--program_test_wrod=x", "--program_test_choice=green", "--program_test_number=x"]
)
def test_a_flag_that_does_not_parse_ends_with_status_1(monkeypatch, capsys, argument):
    status, error = _ending(monkeypatch, capsys, pytest.fail, argument)
    assert status == 1
    assert argument.partition("=")[0].strip("-") in error


def test_other_errors_are_not_hidden(monkeypatch):
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _run(monkeypatch, main)


def test_the_flags_are_registered_with_their_help():
    assert flags.FLAGS["program_test_choice"].help == "<red|blue>: A choice."
    assert flags.FLAGS["program_test_rate"].help == "A rate."
