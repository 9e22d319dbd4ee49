"""What the run of tf-encrypted's own tests takes for a failure; `make conformance` is the run."""

import pathlib
import sys
from importlib import util

import pytest

PATH = pathlib.Path(__file__).with_name("conformance.py")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the script with pretended outcomes of its folders; returns its status and output."""
    spec = util.spec_from_file_location("conformance", PATH)
    conformance = util.module_from_spec(spec)
    spec.loader.exec_module(conformance)

    def run(*arguments, **changed):
        outcomes = {"passed": ["a"] * 45, "skipped": [], "failed": []}
        folders = dict.fromkeys(conformance.FOLDERS, outcomes)
        folders |= {"protocol": outcomes | {"passed": ["a"] * 47, "skipped": ["b: why"] * 21}}
        for name, outcomes in changed.items():
            folders[name] = outcomes and folders[name] | outcomes
        monkeypatch.setattr(conformance, "start_folder", lambda folder, protocol: folders[folder])
        monkeypatch.setattr(sys, "argv", ["conformance.py", *arguments])
        return conformance.main(), capsys.readouterr().out

    return run


def test_as_many_as_upstream_are_enough(run):
    status, output = run()
    assert status == 0
    assert "with upstream's protocols: 227 passed, 21 skipped, 0 failed" in output
    assert output.count("skipped: b: why") == 21


def test_failed_test_fails_the_run_and_is_named(run):
    status, output = run(tensor={"passed": ["a"] * 999, "failed": ["TestInt::test_add"]})
    assert status == 1
    assert "failed: TestInt::test_add" in output


def test_fewer_than_upstream_fail_the_run(run):
    assert run(tensor={"passed": ["a"] * 44})[0] == 1


def test_more_skipped_than_upstream_fail_the_run(run):
    status, _ = run(tensor={"passed": ["a"] * 999, "skipped": ["c: disabled"]})
    assert status == 1


def test_folder_whose_process_dies_fails_the_run(run):
    assert run(tensor=None, keras={"passed": ["a"] * 999})[0] == 1


def test_one_folder_alone_need_not_reach_the_sum(run):
    assert run("--folder=tensor")[0] == 0
    assert run("--folder=tensor", tensor={"failed": ["x"]})[0] == 1
