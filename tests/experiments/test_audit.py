"""Tests of experiments.audit as a program: its verdict, its exit status, and what it refuses."""

import json
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[2]

# All in one process of its own: programs define flags of the same names, and TensorFlow starts
# slowly.
RUN = """
import contextlib, dataclasses, io, json, sys
from absl import flags
from experiments import audit, program
from tfpriv.audit import AuditConfig

start = "tensorflow" in sys.modules
key = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(audit)}
fields = [field.name for field in dataclasses.fields(AuditConfig)]

import pathlib
from absl.testing import flagsaver
from tests import planted
from tfpriv import central

folder = pathlib.Path(sys.argv[1])
settings = {
    **planted.RUN, "target_epsilon": None, "noise_multiplier": 20.0,
    "audit_canaries": 400, "epochs": 8, "checkpoint_every": 8,
}
for name, mistake in (("good", "none"), ("bad", "noise divided by the batch twice")):
    with planted.MISTAKES[mistake][0]():
        central.run(central.CentralConfig(**settings, output_dir=str(folder / name)))

found = {}
for name, arguments in json.loads(sys.argv[2]).items():
    out, err, status = io.StringIO(), io.StringIO(), 0
    sys.argv = ["audit", *arguments]
    with flagsaver.flagsaver(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            program.run(audit.main, resumes=True)
        except SystemExit as end:
            status = end.code
    found[name] = [status, out.getvalue(), err.getvalue()]
pathlib.Path(folder / "found.json").write_text(json.dumps([start, sorted(key), fields, found]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def found(folder):
    good, bad = f"--run={folder}/good", f"--run={folder}/bad"
    one_run = "--attack=one_run"
    ends = {
        "good": [good, one_run, f"--output_dir={folder}/of_good"],
        "bad": [bad, one_run, f"--output_dir={folder}/of_bad"],
        "nothing": [],
        "nowhere": [f"--run={folder}/nowhere"],
        "no meaning": [good, one_run, "--shadow_models=8"],
        "odd": [good, "--attack=lira", "--shadow_models=5", f"--output_dir={folder}/odd"],
        "full": [good, one_run, f"--output_dir={folder}/of_good"],
        "itself": [f"--run={folder}/of_good"],
        "confidence": [good, "--confidence=1.5"],
        "choice": [good, "--attack=magic"],
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), json.dumps(ends)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text())


def test_every_setting_is_a_documented_flag_and_help_needs_no_tensorflow(found):
    started, keys, fields, _ = found
    assert set(fields) <= set(keys) and not started


def test_claim_that_stands_ends_with_status_0(found, folder):
    status, out, err = found[3]["good"]
    assert status == 0, err
    summary = json.loads((folder / "of_good" / "summary.json").read_text())
    assert summary["verdict"].startswith("audited lower bound") and summary["verdict"] in out
    assert "<= accounted" in summary["verdict"]


def test_broken_claim_ends_with_status_3_and_says_so(found, folder):
    status, out, err = found[3]["bad"]
    assert status == 3, err
    assert "the privacy claim is broken: audited lower bound" in out
    content = json.loads((folder / "of_bad" / "audit.json").read_text())
    assert content["broken"] and content["epsilon_lower_bound"] > content["accounted_epsilon"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "there is nothing to audit; give --run"),
        ("nowhere", "nowhere"),
        ("no meaning", "--shadow_models=8"),
        ("odd", "--shadow_models=5 must be even"),
        ("full", "holds a run already"),
        ("itself", "is a run of the program audit, which trains no model"),
        ("confidence", "--confidence=1.5 must be at least 0.5 and below 1"),
        ("choice", "--attack=magic is not known; choose one of membership"),
    ],
)
def test_what_cannot_run_ends_in_one_sentence(found, name, message):
    status, out, err = found[3][name]
    assert status == 2 and not out
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in line


def test_refused_flags_leave_no_directory(found, folder):
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [
        "bad", "good", "of_bad", "of_good"
    ]  # fmt: skip
