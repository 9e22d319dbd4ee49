"""Strict JSON on disk: no NaN or Infinity, whole or not at all."""

import json
import math
import numbers
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfpriv import files


def plain(value: object) -> Any:
    """Returns `value` as what JSON can hold.

    Args:
        value: None, a bool, string, path, number (Python's, numpy's, or a scalar array), or a
            mapping, sequence, set or numpy array of such values.

    Returns:
        None, bool, str, int, float, list or dict. Tuples, sets and arrays become lists (sets
        sorted), paths strings, and NaN and the infinities None, for which JSON has no number.

    Raises:
        TypeError: if there is anything else in `value`.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value)]
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__array__"):  # numpy arrays and eager tensors
        return plain(np.asarray(value).tolist())
    raise TypeError(f"JSON has no place for a {type(value).__name__}: {value!r}")


def write(path: str | os.PathLike, value: object) -> None:
    """Writes `value` to `path` as indented JSON, keys in the order given; see `plain`."""
    files.write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def read(path: str | os.PathLike) -> Any:
    """Returns what the JSON file at `path` holds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON in UTF-8.
    """
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
