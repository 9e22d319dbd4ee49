"""Files that appear whole or not at all."""

import contextlib
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from tfpriv.errors import UserError


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, owner_only: bool = False) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, renamed to `path` when the block succeeds.

    If the block raises, the temporary file is removed and `path` is left as it was. The temporary
    name keeps the suffix of `path`, because some writers choose their format by it.

    Args:
        path: The file to create or replace. Its folder is created when missing.
        owner_only: Whether nobody but its owner may read the file.

    Yields:
        The path to write to.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        if not owner_only:
            # mkstemp makes files that only their owner may read; a result is an ordinary file.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def replace_between(path: str | os.PathLike, begin: str, end: str, text: str) -> None:
    """Replaces what stands between two markers in a text file, whole or not at all.

    Args:
        path: The file.
        begin: The marker before, which must occur once.
        end: The marker behind, which must occur once, after `begin`.
        text: What is to stand between them, with an empty line on either side.

    Raises:
        UserError: if the file is not there or does not hold each marker once, in order.
    """
    path = pathlib.Path(path)
    try:
        old = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"there is no {path} to write the table to; restore it.") from error
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise UserError(
            f"{path} must hold the lines {begin} and {end} once, in this order; the table goes "
            "between them."
        )
    before, rest = old.split(begin)
    write_text(path, f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}")


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
