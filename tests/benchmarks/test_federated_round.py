"""The benchmark of a federated round, with few rounds."""

import json
import subprocess
import sys

import psutil
import pytest

from benchmarks import federated_round

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "results.json"
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.federated_round"),
            *("--models=2nn", "--timed_rounds=2"),
            *("--contenders=ours,plain_keras", "--cores=1", "--memory_rounds=0"),
            f"--output={path}",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return json.loads(path.read_text())


def test_ratios_are_those_of_the_times_beside_them(results):
    measured = results["rounds"]["2nn"]
    ours, plain = (measured["contenders"][name] for name in ("ours", "plain_keras"))
    assert measured["ours_over"]["plain_keras"]["seconds_per_round"] == pytest.approx(
        ours["seconds_per_round"] / plain["seconds_per_round"]
    )


def test_the_parts_of_our_round_make_up_the_round(results):
    measured = results["rounds"]["2nn"]
    seconds = measured["contenders"]["ours"]["seconds_per_round"]
    assert sum(measured["parts"].values()) == pytest.approx(seconds, rel=0.5)


def test_a_contender_that_fails_is_reported_with_its_log_and_ended():
    before = psutil.Process().children(recursive=True)
    with pytest.raises(RuntimeError, match=r"plain_keras ended in round 0:(.|\n)*no_such_model"):
        federated_round.Contender("plain_keras", "no_such_model")
    assert psutil.Process().children(recursive=True) == before


def test_closing_a_contender_ends_its_worker_which_ran_on_its_core():
    with federated_round.Contender("ours", "logistic") as contender:
        family = psutil.Process().children(recursive=True)
        assert {len(process.cpu_affinity()) for process in family} == {1}
        assert any(process.name() == "worker_binary" for process in family)
        assert contender.resident_megabytes() > 100
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)
