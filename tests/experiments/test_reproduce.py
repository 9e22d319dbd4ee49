"""The program from outside, over a real run, and over children that only pretend to train."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

# Starts the program with another Python for its children.
PRETENDING = """
import sys
sys.executable = {child!r}
from experiments import program, reproduce
program.run(reproduce.main)
"""

# A child that finds a run's flags and leaves the run directory that `summary` makes of the seed.
CHILD = """#!{python}
import json, os, pathlib, sys, time
flags = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[3:])
seed, output = int(flags["seed"]), pathlib.Path(flags["output_dir"])
print("training with", *sys.argv[1:4])
{body}
output.mkdir()
config = dict(program="federated", flags=dict(), started="now", git_commit=None)
config.update(git_dirty=None, versions=dict())
(output / "config.json").write_text(json.dumps(config))
summary = dict(rounds_to_target=80 + seed, wall_seconds=1.0)
(output / "summary.json").write_text(json.dumps(summary))
"""


def add_row(presets, name, flags, metric="rounds_to_target", value=81, comparison="at_most"):
    folder = presets / "paper2020"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "expected.json"
    expected = json.loads(path.read_text()) if path.exists() else {"paper": "A paper.", "rows": {}}
    expected["rows"][name] = {
        "title": f"Row {name}",
        "program": "federated",
        "checks": [
            {
                "metric": metric,
                "value": value,
                "source": "Table 1",
                "comparison": comparison,
                "tolerance": 0,
                "why": "None is needed.",
            }
        ],
    }
    path.write_text(json.dumps(expected))
    (folder / f"{name}.flags").write_text("\n".join(flags) + "\n")


class Workplace:
    """A folder with one paper of one row, and a child that does as `body` says."""

    def __init__(self, path, body=""):
        self.path = path
        self.presets = path / "presets"
        self.results_path = self.presets / "paper2020" / "results.json"
        add_row(self.presets, "row", ["--rounds=2"])
        child = path / "child"
        child.write_text(CHILD.format(python=sys.executable, body=body))
        child.chmod(0o755)
        self._program = PRETENDING.format(child=str(child))

    def start(self, *flags):
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                self._program,
                f"--presets_dir={self.presets}",
                "--record",
                *flags,
            ],
            cwd=self.path,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def reproduce(self, *flags):
        process = self.start(*flags)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def results(self):
        return json.loads(self.results_path.read_text())


def test_real_run_that_misses_ends_with_1_and_says_by_how_much(tmp_path):
    flags = ["--dataset=digits", "--partition=iid", "--num_clients=4", "--clients_per_round=2"]
    flags += ["--model=mlp", "--rounds=2", "--batch_size=50"]
    add_row(tmp_path / "presets", "tiny", flags, "test_accuracy", 1.5, "at_least")
    command = [sys.executable, "-m", "experiments.reproduce", "--preset=paper2020/tiny"]
    command += [f"--presets_dir={tmp_path / 'presets'}", "--seeds=3"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert not (tmp_path / "presets" / "paper2020" / "results.json").exists()  # without --record
    (path,) = (tmp_path / "runs" / "reproduce" / "paper2020").glob("tiny-*/results.json")
    result = json.loads(path.read_text())["tiny"]
    (check,) = result["checks"]
    accuracy = check["values"]["3"]
    assert 0 < accuracy < 1
    assert check["median"] == accuracy
    assert check["missed_by"] == pytest.approx(1.5 - accuracy)
    assert "missed by" in done.stdout.splitlines()[-1]
    assert result["flags"] == flags
    assert result["versions"]["tensorflow-federated"]
    assert str(tmp_path) not in json.dumps(result)
    (run,) = (tmp_path / "runs" / "reproduce" / "paper2020").glob("tiny-*/seed_3")
    assert json.loads((run / "config.json").read_text())["flags"]["seed"] == 3
    assert "round 2/2" in (run.parent / "seed_3.log").read_text()


def test_row_that_is_reached_ends_with_0_and_stands_in_the_table(tmp_path):
    workplace = Workplace(tmp_path)
    page = tmp_path / "results.md"
    page.write_text("<!-- results -->\n<!-- /results -->\n")
    status, output, errors = workplace.reproduce(
        "--preset=paper2020/row", "--seeds=0,1,2", "--write_table", f"--table={page}"
    )
    assert (status, errors) == (0, "")
    line = "| Row row (`row`) | rounds_to_target | 81 | at most 81 | 81 | 3 | reached |"
    assert output.splitlines()[-1] == line
    assert line in page.read_text()
    (check,) = workplace.results()["row"]["checks"]
    assert check["values"] == {"0": 80, "1": 81, "2": 82}
    logs = tmp_path.glob("runs/reproduce/paper2020/row-*/seed_*.log")
    flagfile = f"--flagfile={workplace.presets / 'paper2020' / 'row.flags'}"
    assert [log.read_text() for log in logs] == [
        f"training with -m experiments.federated {flagfile}\n"
    ] * 3


def test_failed_run_shows_the_end_of_its_log_and_writes_no_result(tmp_path):
    workplace = Workplace(tmp_path, "if seed == 1: sys.exit('error: training diverged')")
    status, _, errors = workplace.reproduce("--preset=paper2020/row", "--seeds=0,1")
    assert status == 2
    assert "paper2020/row with seed 1 ended with status 1" in errors
    assert errors.endswith("  error: training diverged\n")
    assert not workplace.results_path.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_program_ends_its_child_and_writes_no_result(tmp_path, number):
    workplace = Workplace(
        tmp_path, "if seed: pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    )
    before = sorted(os.listdir(workplace.results_path.parent))
    process = workplace.start("--preset=paper2020/row", "--seeds=0,1")
    pid_path = tmp_path / "pid"
    deadline = time.monotonic() + 30
    while not (pid_path.exists() and pid_path.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "error: interrupted; no result was written.\n"
    assert not pathlib.Path("/proc", pid_path.read_text()).exists()
    assert sorted(os.listdir(workplace.results_path.parent)) == before


def test_damaged_results_stop_the_program_before_it_trains(tmp_path):
    workplace = Workplace(tmp_path)
    workplace.results_path.write_text("{")
    status, _, errors = workplace.reproduce("--preset=paper2020/row")
    assert status == 2
    assert "results.json is damaged" in errors
    assert "Traceback" not in errors
    assert workplace.results_path.read_text() == "{"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to do"),
        (["--preset=row"], "must be paper/row"),
        (["--preset=paper2020/other"], "its rows are row"),
        (["--preset=paper2020/row", "--seeds=0,x"], "--seeds=0,x must be"),
        (["--preset=paper2020/row", "--seeds=1,1"], "--seeds=1,1 must be"),
        (["--preset=paper2020/row", "--seeds=-1"], "--seeds=-1 must be"),
        (["--preset=paper2020/row", "--seeds="], "--seeds= must be"),
        (["--write_table", "--table=none.md"], "there is no none.md"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path, flags, message):
    status, _, errors = Workplace(tmp_path).reproduce(*flags)
    assert status == 2
    assert message in errors
    assert errors.startswith("error: ") and len(errors.splitlines()) == 1
