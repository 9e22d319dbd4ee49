import json
import pathlib

import numpy as np
import pytest

from tfpriv.runs import json_files


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (np.float32("inf"), None),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (True, True),
        ((1, 2), [1, 2]),
        ({"b", "a"}, ["a", "b"]),
        (np.array([1.0, np.nan]), [1.0, None]),
        (np.array(2.5), 2.5),
        (pathlib.Path("a/b"), "a/b"),
        ({1: {"x": float("inf")}}, {"1": {"x": None}}),
    ],
)
def test_each_kind_of_value_becomes_plain_json(value, expected):
    plain = json_files.plain(value)
    assert plain == expected
    assert type(plain) is type(expected)


def test_a_value_without_a_place_in_json_is_named():
    with pytest.raises(TypeError, match="object"):
        json_files.plain({"a": [object()]})


def test_the_file_is_strict_json_and_keeps_the_order(tmp_path):
    path = tmp_path / "x.json"
    json_files.write(path, {"z": float("nan"), "a": 1, "ü": "ε"})

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = path.read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == {"z": None, "a": 1, "ü": "ε"}
    assert list(json_files.read(path)) == ["z", "a", "ü"]


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "x.json"
    json_files.write(path, {"a": 1})
    with pytest.raises(TypeError):
        json_files.write(path, {"a": object()})
    assert json_files.read(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
