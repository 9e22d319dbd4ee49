"""Tests of experiments.program."""

import dataclasses
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import program
from experiments.program import Help
from tfpriv.errors import UserError


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


def test_ctrl_c_ends_with_status_130_and_says_how_to_go_on(monkeypatch, capsys):
    def main():
        raise KeyboardInterrupt

    status, error = _ending(monkeypatch, capsys, main)
    assert status == 130
    assert "--resume" in error


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
