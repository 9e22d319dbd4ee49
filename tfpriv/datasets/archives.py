"""Reads members of archives, in memory, whatever the archive says of their names and sizes.

No member is ever written to a folder, so no name leads out of one, and what is unpacked is read up
to a limit and no further.
"""

import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

LARGEST = 2**30

# What the functions here raise for an archive that is damaged or not one, or holds no such member.
UNREADABLE = (OSError, KeyError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


class TooLargeError(OSError):
    """What an archive unpacks to is larger than the limit."""


def gunzip(content: bytes, largest: int = LARGEST) -> bytes:
    """Returns what a gzip file holds.

    Raises:
        TooLargeError: It holds more than `largest` bytes.
        EOFError: It is cut off.
        zlib.error: It is damaged.
    """
    parts, size = [], 0
    while content:
        stream = zlib.decompressobj(wbits=31)
        parts.append(stream.decompress(content, largest - size + 1))
        size += len(parts[-1])
        if size > largest:
            raise TooLargeError(f"it unpacks to more than {largest} bytes")
        if not stream.eof:
            raise EOFError("it ends before its data do")
        content = stream.unused_data
    return b"".join(parts)


def tar_member(archive: str | os.PathLike | bytes, name: str, largest: int = LARGEST) -> bytes:
    """Returns a member of a tar file, packed or not.

    Args:
        archive: A path, or the content.
        name: The member's name.
        largest: The limit, in bytes.

    Raises:
        KeyError: There is no such member, or it is no file but a link or a folder.
        TooLargeError: It is larger than `largest`.
        tarfile.TarError: It is no tar file, or damaged.
    """
    with _opened(archive) as tar:
        return _content(tar, tar.getmember(name), largest)


def tar_members(archive: bytes, largest: int = LARGEST) -> Iterator[tuple[str, bytes]]:
    """Yields (name, content) of the files in a tar file, by name; see `tar_member`."""
    with _opened(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            if member.isfile():
                yield member.name, _content(tar, member, largest)


def zip_member(archive: str | os.PathLike, name: str, largest: int = LARGEST) -> bytes:
    """Returns a member of a zip file; see `tar_member`."""
    with zipfile.ZipFile(archive) as file, file.open(name) as member:
        return _limited(member, name, largest)


def _opened(archive):
    if isinstance(archive, bytes):
        return tarfile.open(fileobj=io.BytesIO(archive))
    return tarfile.open(archive)


def _content(tar, member, largest):
    # A link could stand for anything; `extractfile` would follow it within the archive.
    if not member.isfile():
        raise KeyError(f"{member.name} is not a file")
    return _limited(tar.extractfile(member), member.name, largest)


def _limited(file, name, largest):
    content = file.read(largest + 1)
    if len(content) > largest:
        raise TooLargeError(f"{name} unpacks to more than {largest} bytes")
    return content
