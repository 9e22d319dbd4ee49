"""The benchmarks of secure computation, with few and small measurements."""

import json
import subprocess
import sys

import pytest

from benchmarks import secure, secure_inference, secure_training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "results.json"
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.secure_inference"),
            *("--inference_quick", f"--inference_output={path}"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return json.loads(path.read_text())


def test_units_are_the_times_over_the_unit_beside_them(results):
    one, two = results["measured"]
    assert one["units"] == pytest.approx(one["seconds"] / one["unit_seconds"])
    assert "units" not in two  # a unit is one core's
    assert one["cores"] == 1 and one["first_seconds"] > one["seconds"]


def test_the_table_has_a_row_for_each_measurement_and_its_aim(results):
    table = secure.table(results, {("2nn", 1): 0.5})
    row = next(line for line in table.splitlines() if line.startswith("| 2nn | 1 | aby3"))
    assert f"{results['measured'][0]['units']:.2f} | at most 0.5 |" in row


def test_a_job_that_fails_is_reported_with_what_it_said():
    job = secure_inference.jobs(quick=True)[0] | {"model": "no_such_model"}
    job.pop("cores")
    with pytest.raises(RuntimeError, match="no_such_model"):
        secure.measure(job, 1)


def test_every_aim_is_measured_on_one_core():
    for module in (secure_inference, secure_training):
        measured = {
            (job["model"], job["batch_size"])
            for job in module.jobs(quick=False)
            if job["cores"] == 1 and job["engine"] == "tfpriv" and job["protocol"] == "aby3"
        }
        assert set(module.AIMS) <= measured
