import hashlib
import os
import stat

import pytest

from tfpriv import files


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="power cut"), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]


def test_file_is_not_there_before_it_is_whole(tmp_path):
    path = tmp_path / "model.keras"
    with files.replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".keras"
    assert path.read_text() == "half"
    assert os.listdir(tmp_path) == ["model.keras"]


def test_missing_folders_are_made(tmp_path):
    files.write_text(tmp_path / "a" / "b.txt", "ε = 2\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "ε = 2\n".encode()


def test_others_may_read_the_file_as_far_as_the_umask_lets_them(tmp_path):
    old = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a.txt", "")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_writer_that_renames_its_own_file_into_place_is_taken(tmp_path):
    path = tmp_path / "a.txt"
    with files.replacing(path) as temporary:
        (tmp_path / "other").write_text("new")
        os.replace(tmp_path / "other", temporary)
    assert path.read_text() == "new"


def test_sha256_is_of_the_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 1_000_000)
    assert files.sha256(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
