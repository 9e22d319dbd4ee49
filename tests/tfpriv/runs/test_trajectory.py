"""Tests of tfpriv.runs.trajectory, and of the record of members in tfpriv.runs.seal."""

import numpy as np
import pytest

from tfpriv import runs
from tfpriv.errors import UserError


@pytest.fixture
def run(tmp_path):
    with runs.RunDirectory.create(str(tmp_path / "run"), {}, program="p", seeds={}) as run:
        yield run


def test_kept_weights_come_back_in_the_order_of_steps(run):
    for step in (10, 0, 9):
        runs.trajectory.keep(run, step, [np.full((2, 3), step), np.full(12, step + 1)])
    kept = list(runs.trajectory.models(run))
    assert [[w.shape for w in weights] for weights in kept] == [[(2, 3), (12,)]] * 3
    assert [(a[0, 0], b[0]) for a, b in kept] == [(0, 1), (9, 10), (10, 11)]


def test_too_few_models_and_damaged_ones_are_refused(run):
    runs.trajectory.keep(run, 0, [np.zeros(2)])
    with pytest.raises(UserError, match="holds 1 models, too few"):
        list(runs.trajectory.models(run))
    (run.trajectory_path / "step_00000001.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"step_00000001.npz is damaged"):
        list(runs.trajectory.models(run))


def test_empty_file_is_damaged(run):
    for step in (0, 1):
        runs.trajectory.keep(run, step, [np.zeros(2)])
    (run.trajectory_path / "step_00000001.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"step_00000001.npz is damaged"):
        list(runs.trajectory.models(run))


def test_models_of_later_steps_are_taken_anew(run):
    for step in (0, 5, 10):
        runs.trajectory.keep(run, step, [np.zeros(2)])
    runs.trajectory.truncate(run, 5)
    assert len(list(runs.trajectory.models(run))) == 2


def test_members_are_recorded_once_and_their_coins_stay(run):
    members = {"train_examples": 3}
    coins = runs.seal.record_members(run, members, 30)
    assert members == {"train_examples": 3}
    recorded = runs.seal.read_members(run)
    assert recorded["train_examples"] == 3
    assert len(recorded["coins_sha256"]) == 64
    again = runs.seal.record_members(run, members, 30)
    assert np.array_equal(again, coins)
    assert runs.seal.read_members(run) == recorded


def test_a_run_without_canaries_flips_no_coins(run):
    for _ in range(2):
        assert len(runs.seal.record_members(run, {"train_examples": 3}, 0)) == 0
    assert "coins_sha256" not in runs.seal.read_members(run)
    assert not runs.coins.path_of(run.path).exists()
