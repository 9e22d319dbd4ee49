import dataclasses
import pathlib
import stat

import pytest

from tfpriv.errors import UserError
from tfpriv.runs import sampling_key


@dataclasses.dataclass(frozen=True)
class _Config:
    claims_privacy: bool = True
    seed: int = 3
    insecure_sampling_seed: int | None = None
    output_dir: str | None = None
    resume: bool = False


@pytest.fixture(name="run_path")
def _run_path(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    return path


def test_key_lies_beside_the_run_directory_for_its_owner_only(run_path):
    origin = sampling_key.origin_of(_Config())
    sampling_key.keep(run_path, origin)
    assert list(run_path.iterdir()) == []
    path = sampling_key.path_of(run_path)
    assert path.parent == run_path.parent
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert origin.hex() in path.read_text()


def test_private_run_has_a_new_key_whatever_its_seed():
    origins = {sampling_key.origin_of(_Config()) for _ in range(5)}
    assert len(origins) == 5 and all(isinstance(origin, bytes) for origin in origins)


def test_run_without_privacy_has_its_seed_and_leaves_no_key(run_path):
    origin = sampling_key.origin_of(_Config(claims_privacy=False))
    assert origin == 3
    sampling_key.keep(run_path, origin)
    assert not sampling_key.path_of(run_path).exists()


def test_number_given_as_insecure_takes_the_place_of_a_key():
    assert sampling_key.origin_of(_Config(insecure_sampling_seed=9)) == 9


def test_run_that_goes_on_has_the_key_that_it_began_with(run_path):
    origin = sampling_key.origin_of(_Config())
    sampling_key.keep(run_path, origin)
    again = _Config(output_dir=str(run_path), resume=True)
    assert sampling_key.origin_of(again) == origin


def test_run_cannot_go_on_without_its_key(run_path):
    again = _Config(output_dir=str(run_path), resume=True)
    with pytest.raises(UserError, match=r"run\.sampling_key is not there.*put it back"):
        sampling_key.origin_of(again)


@pytest.mark.parametrize("content", [b"", b"00ff", b"no key", b"\xff" * 32])
def test_damaged_key_is_refused(run_path, content):
    sampling_key.path_of(run_path).write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        sampling_key.origin_of(_Config(output_dir=str(run_path), resume=True))


def test_key_of_an_earlier_run_gives_way(run_path):
    for _ in range(2):
        origin = sampling_key.origin_of(_Config())
        sampling_key.keep(run_path, origin)
    assert origin.hex() in sampling_key.path_of(run_path).read_text()


def test_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        sampling_key.keep(pathlib.Path(tmp_path / "file" / "run"), b"k" * 32)
