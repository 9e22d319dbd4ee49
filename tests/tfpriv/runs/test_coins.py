import json
import stat

import numpy as np
import pytest

from tfpriv.errors import UserError
from tfpriv.runs import coins


@pytest.fixture(name="run_path")
def _run_path(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    return path


def test_coins_lie_beside_the_run_directory_for_their_owner_only(run_path):
    coins.flip(run_path, 100)
    assert list(run_path.iterdir()) == []
    path = run_path.with_name("run.coins.json")
    assert coins.path_of(run_path) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("count", [1, 8, 1000])
def test_coins_are_read_as_they_were_flipped(run_path, count):
    flipped, commitment = coins.flip(run_path, count)
    assert flipped.shape == (count,) and flipped.dtype == bool
    np.testing.assert_array_equal(coins.read(run_path, commitment), flipped)


def test_coins_are_fair_and_never_the_same(tmp_path):
    flipped = [coins.flip(tmp_path / str(number), 10000)[0] for number in range(2)]
    # Six standard deviations.
    assert all(abs(np.mean(one) - 0.5) < 0.03 for one in flipped)
    assert abs(np.mean(flipped[0] == flipped[1]) - 0.5) < 0.03


def test_commitment_hides_the_coins(tmp_path):
    """One coin has two values only, so that without the salt anybody could try both."""
    commitments = {coins.flip(tmp_path / str(number), 1)[1] for number in range(20)}
    assert len(commitments) == 20


def test_coins_of_another_run_are_not_written_over(run_path):
    flipped, commitment = coins.flip(run_path, 50)
    with pytest.raises(UserError, match=r"run\.coins\.json holds the coin flips of another run"):
        coins.flip(run_path, 50)
    np.testing.assert_array_equal(coins.read(run_path, commitment), flipped)


def test_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        coins.flip(tmp_path / "file" / "run", 50)


def test_salt_without_anything_to_guess_gives_way_to_a_new_run(run_path):
    coins.flip(run_path, 0)
    coins.refuse_left_over(run_path)
    _, commitment = coins.flip(run_path, 50)
    assert len(coins.read(run_path, commitment)) == 50


def test_who_was_taken_is_kept_and_never_written_over(run_path):
    taken = np.arange(20) % 3 == 0
    _, commitment = coins.flip(run_path, 0, taken)
    np.testing.assert_array_equal(coins.read_taken(run_path, commitment), taken)
    with pytest.raises(UserError, match="holds the coin flips of another run"):
        coins.flip(run_path, 0)


def test_run_without_a_secret_draw_has_nobody_taken(run_path):
    _, commitment = coins.flip(run_path, 5)
    assert coins.read_taken(run_path, commitment) is None


def test_same_text_has_another_hash_under_the_salt_of_each_run(tmp_path):
    hashes = set()
    for number in range(5):
        _, commitment = coins.flip(tmp_path / str(number), 0)
        hashes.add(coins.salted(tmp_path / str(number), commitment, "the data"))
    assert len(hashes) == 5


def _turned(kept):
    first = "1" if kept["coins"][0] == "0" else "0"
    return {**kept, "coins": first + kept["coins"][1:]}


@pytest.mark.parametrize(
    "alter",
    [
        _turned,
        lambda kept: {**kept, "salt": "00"},
        lambda kept: {**kept, "coins": kept["coins"] + "0"},
        lambda kept: {"salt": kept["salt"]},
        lambda kept: [kept],
        lambda kept: None,
    ],
)
def test_altered_coins_are_refused(run_path, alter):
    _, commitment = coins.flip(run_path, 50)
    path = coins.path_of(run_path)
    path.write_text(json.dumps(alter(json.loads(path.read_text()))))
    with pytest.raises(UserError, match="does not hold the coins that were flipped for this run"):
        coins.read(run_path, commitment)


def test_damaged_coins_are_refused(run_path):
    _, commitment = coins.flip(run_path, 50)
    path = coins.path_of(run_path)
    path.write_text(path.read_text()[:40])
    with pytest.raises(UserError, match="put the right file back"):
        coins.read(run_path, commitment)


def test_missing_coins_are_named(run_path):
    with pytest.raises(UserError, match=r"run\.coins\.json is not there"):
        coins.read(run_path, "0" * 64)


def test_new_run_is_refused_where_coins_are_left_over(run_path):
    coins.refuse_left_over(run_path)
    coins.flip(run_path, 50)
    with pytest.raises(UserError, match="holds the coin flips of another run"):
        coins.refuse_left_over(run_path)


def test_coins_are_found_through_a_link_to_the_run_directory(run_path, tmp_path):
    flipped, commitment = coins.flip(run_path, 50)
    link = tmp_path / "link"
    link.symlink_to(run_path)
    np.testing.assert_array_equal(coins.read(link, commitment), flipped)
