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
from tfpriv import runs, settings
from tfpriv.errors import UserError

_ROOT = pathlib.Path(__file__).parents[2]


_field = settings.group("Test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
    program_test_word: str | None = _field(None, "A word.", shown="none")
    program_test_choice: str = _field("red", "A choice.", choices=("red", "blue"))
    program_test_number: int = _field(3, "A number.")
    program_test_rate: float | None = _field(
        None,
        "A rate.",
        belongs_to=("program_test_choice", ("blue",)),
        otherwise=0.5,
    )
    program_test_on: bool = _field(False, "Whether.")


program.define_flags(_Config)


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


def test_a_user_error_ends_with_its_sentence_and_status_2(monkeypatch, capsys):
    def main():
        raise UserError("the sky is green; wait.")

    assert _ending(monkeypatch, capsys, main) == (2, "error: the sky is green; wait.\n")


def _interrupted():
    raise KeyboardInterrupt


def test_ctrl_c_ends_with_status_130_and_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    with runs.RunDirectory.create(tmp_path, {}, program="test_program"):
        ending = _ending(monkeypatch, capsys, _interrupted, f"--output_dir={tmp_path}")
    assert ending == (
        130,
        f"error: interrupted; go on with --resume --output_dir={tmp_path}.\n",
    )


def test_ctrl_c_names_the_run_directory_that_was_made_without_the_flag(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    with runs.RunDirectory.create(None, {}, program="test_program") as run:
        status, error = _ending(monkeypatch, capsys, _interrupted)
    assert status == 130
    assert f"go on with --resume --output_dir={run.path.relative_to(tmp_path)}.\n" in error


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
    expected = "With --program_test_choice=blue: a rate. [0.5]"
    assert flags.FLAGS["program_test_rate"].help == expected
    assert flags.FLAGS["program_test_word"].help == "A word. [none]"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_in_groups_and_ends_with_0(flag):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.central", flag],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Trains a Keras model on one machine")
    headings = [line for line in lines if line.endswith(":") and line[0] != " "]
    assert headings[:4] == ["Data:", "Model:", "Training:", "Privacy:"]
    assert lines.index("  --dataset=TEXT") < lines.index("Model:")
    assert "  --mechanism=dpsgd|tree|banded|none|FILE.py:FUNCTION" in lines
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("program_name", "flag", "here"),
    [
        ("central", "epsilon=3", "--target_epsilon"),
        ("central", "batch_size=3", "--expected_batch_size"),
        ("central", "lr=3", "--learning_rate"),
        ("federated", "lr=3", "--client_learning_rate"),
        ("federated", "clinet_epochs=3", "--client_epochs"),
        ("federated", "zzz", "see --help"),
    ],
)
def test_a_flag_of_another_tool_is_told_its_name_here(program_name, flag, here):
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{program_name}", f"--{flag}"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: --{flag.partition('=')[0]} is not a flag; ") and here in line


def test_the_package_itself_says_which_programs_there_are():
    done = subprocess.run(
        [sys.executable, "-m", "experiments"], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    for path in (_ROOT / "experiments").glob("*.py"):
        if "program.run(main" in path.read_text():
            assert f"python -m experiments.{path.stem}\n" in done.stdout
