import json

import numpy as np
import pytest

from tfpriv.errors import UserError
from tfpriv.runs import RunDirectory, seal, trajectory

_SEALED = ("config.json", "members.json", "privacy.json", "model.keras")


@pytest.fixture(name="run")
def _run(tmp_path):
    with RunDirectory.create(tmp_path / "run", {}, program="test") as run:
        seal.record_members(run, {"train_examples": 10}, 0)
        run.write_privacy({"epsilon": 1.0}, "private")
        run.model_path.write_bytes(b"a model")
    return run


@pytest.fixture(name="sealed")
def _sealed(run):
    seal.write(run)
    return run


def test_run_as_it_was_left_is_taken(sealed):
    seal.check(sealed)
    assert seal.read_members(sealed) == {"train_examples": 10}


def test_files_that_may_change_are_not_sealed(sealed):
    sealed.write_summary({"accuracy": 1.0})
    (sealed.path / "privacy.txt").write_text("other words")
    seal.check(sealed)


@pytest.mark.parametrize("name", _SEALED)
def test_altered_file_is_named(sealed, name):
    path = sealed.path / name
    content = path.read_bytes()
    # A space is nothing to JSON and something to the seal.
    path.write_bytes(content + b" ")
    with pytest.raises(UserError, match=rf"{name} was altered or removed"):
        seal.check(sealed)
    path.write_bytes(content)
    seal.check(sealed)


@pytest.mark.parametrize("name", ["config.json", "privacy.json", "model.keras"])
def test_removed_file_is_named(sealed, name):
    (sealed.path / name).unlink()
    with pytest.raises(UserError, match=rf"{name} was altered or removed"):
        seal.check(sealed)


@pytest.mark.parametrize("name", _SEALED)
def test_file_left_out_of_the_seal_is_named(sealed, name):
    path = sealed.path / "seal.json"
    content = json.loads(path.read_text())
    del content[name]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"{name} was altered or removed"):
        seal.check(sealed)


def test_unfinished_run_is_refused(run):
    with pytest.raises(UserError, match=r"has not ended: there is no seal\.json; --resume it"):
        seal.check(run)


def test_run_without_members_is_refused(sealed):
    (sealed.path / "members.json").unlink()
    with pytest.raises(UserError, match=r"there is no members\.json"):
        seal.check(sealed)


@pytest.mark.parametrize("name", ["members.json", "seal.json"])
def test_damaged_file_is_refused(sealed, name):
    (sealed.path / name).write_text("{")
    with pytest.raises(UserError, match=rf"{name} is damaged"):
        seal.check(sealed)


def test_seal_that_is_no_table_is_refused(sealed):
    (sealed.path / "seal.json").write_text("[]")
    with pytest.raises(UserError, match="is damaged"):
        seal.check(sealed)


@pytest.mark.parametrize("other", [{"train_examples": 11}, {"train_examples": 10, "more": [1, 2]}])
def test_run_that_goes_on_must_have_the_data_it_began_with(run, other):
    seal.record_members(run, {"train_examples": 10}, 0)
    with pytest.raises(UserError, match=r"the data are not those that .* began with"):
        seal.record_members(run, other, 0)


@pytest.mark.parametrize("change", ["altered", "removed", "added"])
def test_models_of_the_evaluations_are_sealed(run, change):
    for step in (0, 5):
        trajectory.keep(run, step, [np.zeros(3)])
    seal.write(run)
    seal.check(run)
    path = run.trajectory_path / "step_00000005.npz"
    if change == "altered":
        path.write_bytes(path.read_bytes() + b" ")
    elif change == "removed":
        path.unlink()
    else:
        path = run.trajectory_path / "step_00000009.npz"
        path.write_bytes(b"")
    with pytest.raises(UserError, match=f"{path.name} was altered or removed"):
        seal.check(run)


HASH = "0f" * 32


@pytest.mark.parametrize("claims_privacy", [False, True])
def test_data_are_recognized_and_others_refused(tmp_path, claims_privacy):
    settings = {"data_sha256": HASH, "claims_privacy": claims_privacy}
    with RunDirectory.create(tmp_path / "run", {}, program="test") as run:
        for _ in range(2):
            seal.record_members(run, {"train_examples": 10}, 0, **settings)
        with pytest.raises(UserError, match=r"the data are not those that .* began with"):
            seal.record_members(run, {"train_examples": 10}, 0, **{**settings, "data_sha256": "00"})
    assert seal.is_data(run, seal.read_members(run), HASH)
    assert not seal.is_data(run, seal.read_members(run), "00")


def test_directory_of_a_private_run_does_not_tell_its_data(tmp_path):
    """With the plain hash anybody could try whether a suspected data set is the one."""
    recorded = []
    for number in range(2):
        with RunDirectory.create(tmp_path / str(number), {}, program="test") as run:
            seal.record_members(run, {}, 0, data_sha256=HASH, claims_privacy=True)
        recorded.append((run.path / "members.json").read_text())
    assert recorded[0] != recorded[1] and HASH not in "".join(recorded)
