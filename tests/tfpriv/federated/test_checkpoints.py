"""Tests of tfpriv.federated.checkpoints."""

import numpy as np
import pytest

from tfpriv.errors import UserError
from tfpriv.federated.checkpoints import Checkpoints


def _state(value):
    return {"weights": np.full([2, 3], value, np.float32), "round": np.int32(value)}


def test_the_last_state_comes_back_with_its_round(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for done in (3, 10, 9):
        checkpoints.save(_state(done), done)
    state, done = Checkpoints(tmp_path / "checkpoints").latest(_state(0))
    assert done == 10
    assert np.array_equal(state["weights"], _state(10)["weights"])


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert Checkpoints(tmp_path / "none").latest(_state(0)) == (None, 0)


def test_only_the_last_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for done in (1, 2, 3):
        checkpoints.save(_state(done), done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round_2", "round_3"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_can_be_gone_on_with(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), 1)
    checkpoints.save(_state(2), 2)
    for file in (tmp_path / "round_2").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(UserError, match=r"is damaged .* remove the newest folder round_\*"):
        checkpoints.latest(_state(0))
    for file in sorted((tmp_path / "round_2").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (tmp_path / "round_2").rmdir()
    assert checkpoints.latest(_state(0))[1] == 1
