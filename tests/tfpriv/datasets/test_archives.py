"""Archives from anybody: names lead nowhere, and sizes are not believed."""

import gzip
import io
import tarfile
import tracemalloc
import zipfile

import pytest

from tfpriv.datasets import archives


def tar(*members):
    """An archive of (TarInfo, content)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_members_are_read(tmp_path):
    content = tar((tarfile.TarInfo("b"), b"2"), (tarfile.TarInfo("a/c"), b"1"))
    assert archives.tar_member(content, "b") == b"2"
    assert list(archives.tar_members(content)) == [("a/c", b"1"), ("b", b"2")]
    (tmp_path / "x.tgz").write_bytes(content)
    assert archives.tar_member(tmp_path / "x.tgz", "a/c") == b"1"
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("d/e", b"3")
    assert archives.zip_member(tmp_path / "x.zip", "d/e") == b"3"


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "in/../../outside"])
def test_name_that_leads_out_of_a_folder_leads_nowhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content = tar((tarfile.TarInfo(name), b"hostile"))
    assert archives.tar_member(content, name) == b"hostile"  # It is a name, and no more.
    assert list(tmp_path.iterdir()) == [] and not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_link_is_no_member(kind):
    content = tar((tarfile.TarInfo("real"), b"x"), (link("data", "/etc/passwd", kind), b""))
    with pytest.raises(KeyError, match="data is not a file"):
        archives.tar_member(content, "data")
    assert [name for name, _ in archives.tar_members(content)] == ["real"]


def test_what_unpacks_to_more_than_the_limit_is_not_unpacked(tmp_path):
    """A hundred megabytes from a hundred kilobytes; no more than the limit is ever held."""
    bomb = gzip.compress(bytes(10**8))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(10**8))
    tracemalloc.start()
    with pytest.raises(archives.TooLargeError, match="more than 1000000 bytes"):
        archives.gunzip(bomb, 10**6)
    with pytest.raises(archives.TooLargeError):
        archives.zip_member(tmp_path / "bomb.zip", "data", 10**6)
    with pytest.raises(archives.TooLargeError):
        archives.tar_member(tar((tarfile.TarInfo("data"), bytes(2 * 10**6))), "data", 10**6)
    assert tracemalloc.get_traced_memory()[1] < 2 * 10**7
    tracemalloc.stop()


def test_size_that_a_zip_file_declares_is_not_believed(tmp_path):
    path = tmp_path / "lies.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(10**7))
        size = archive.getinfo("data").file_size
    content = path.read_bytes()
    path.write_bytes(content.replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(archives.UNREADABLE):
        archives.zip_member(path, "data", 10**6)


def test_gunzip_is_gzips():
    content = gzip.compress(b"one") + gzip.compress(b"two")
    assert archives.gunzip(content) == gzip.decompress(content) == b"onetwo"
    for damaged in (content[:-5], b"no gzip", content[:5]):
        with pytest.raises(archives.UNREADABLE):
            archives.gunzip(damaged)
