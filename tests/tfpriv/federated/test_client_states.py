"""Tests of tfpriv.federated.client_states."""

import numpy as np
import pytest

from tfpriv.errors import UserError
from tfpriv.federated.client_states import ClientStates

_FIRST = (np.zeros(2, np.float32), np.zeros([], np.float32))


def _state(number):
    return (np.full(2, number, np.float32), np.float32(number))


def _number(states, client):
    pair, single = states.of(client)
    assert pair.dtype == np.float32
    assert np.all(pair == single)
    return float(single)


@pytest.fixture
def states(tmp_path):
    """Client 3 after the rounds 2, 4 and 7, client 0 after the fifth, and checkpoints between."""
    states = ClientStates(tmp_path / "states", _FIRST)
    for client, rounds in ((3, 2), (3, 4), (0, 5), (3, 7)):
        states.keep(client, rounds, _state(rounds))
    return states


def test_a_client_has_what_it_kept_last(states):
    assert _number(states, 3) == 7
    assert _number(states, 0) == 5
    assert _number(states, 1) == 0


@pytest.mark.parametrize(
    ("rounds", "third", "zeroth"), [(7, 7, 5), (6, 4, 5), (4, 4, 0), (3, 2, 0), (0, 0, 0)]
)
def test_another_process_returns_to_any_round(states, tmp_path, rounds, third, zeroth):
    again = ClientStates(tmp_path / "states", _FIRST)
    again.return_to(rounds)
    for one in (again, ClientStates(tmp_path / "states", _FIRST)):
        assert _number(one, 3) == third
        assert _number(one, 0) == zeroth


def test_what_the_last_two_checkpoints_need_stays(states, tmp_path):
    path = tmp_path / "states"
    states.checkpoint_made(4)
    assert len(list(path.iterdir())) == 4
    states.checkpoint_made(6)
    # The run may go on from round 4 or 6: that after round 2 is needed no more.
    assert len(list(path.iterdir())) == 3
    states.checkpoint_made(8)
    assert len(list(path.iterdir())) == 3
    states.checkpoint_made(10)
    assert sorted(file.name for file in path.iterdir()) == [
        "client_0_after_5.npz",
        "client_3_after_7.npz",
    ]


def test_a_damaged_file_is_a_sentence(states, tmp_path):
    (tmp_path / "states" / "client_3_after_7.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"client_3_after_7\.npz is damaged"):
        states.of(3)


def test_files_of_other_names_are_left_alone(states, tmp_path):
    other = tmp_path / "states" / "client_x.npz"
    other.write_text("")
    again = ClientStates(tmp_path / "states", _FIRST)
    again.return_to(6)
    assert other.exists()
