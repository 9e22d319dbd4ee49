import json
import math

import pytest

from experiments.published.rows import Check, find_row, read_paper
from tfpriv.errors import UserError

CHECK = {
    "metric": "rounds_to_target",
    "value": 18,
    "source": "Table 1",
    "comparison": "at_most",
    "tolerance": 2,
    "why": "Table 2 says 20.",
}


def check(**changes):
    return Check(**{**CHECK, **changes})


def make_paper(presets, rows, name="paper2020"):
    folder = presets / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "expected.json").write_text(json.dumps({"paper": "A paper.", "rows": rows}))
    for row in rows:
        (folder / f"{row}.flags").write_text("# A comment.\n\n--rounds=2\n--model=2nn\n")
    return folder


@pytest.mark.parametrize(
    ("comparison", "median", "missed_by"),
    [
        ("at_most", 20.0, None),
        ("at_most", 3.0, None),
        ("at_most", 20.5, 0.5),
        ("at_least", 16.0, None),
        ("at_least", 99.0, None),
        ("at_least", 15.0, 1.0),
        ("within", 16.0, None),
        ("within", 20.0, None),
        ("within", 21.0, 1.0),
        ("within", 15.0, 1.0),
    ],
)
def test_median_is_compared_with_value_and_tolerance(comparison, median, missed_by):
    verdict = check(comparison=comparison).judge([median])
    assert verdict == {"median": median, "reached": missed_by is None, "missed_by": missed_by}


def test_median_of_the_seeds_decides():
    assert check().judge([100.0, 19.0, 18.0])["median"] == 19.0
    assert check().judge([18.0, 19.0, 20.0, 40.0])["median"] == 19.5


def test_decimal_tolerance_is_met_at_its_very_end():
    assert check(comparison="within", value=1.71, tolerance=0.005).judge([1.715])["reached"]


@pytest.mark.parametrize("comparison", ["at_most", "at_least", "within"])
def test_run_that_never_got_there_counts_as_the_worst(comparison):
    lost = check(comparison=comparison).judge([None, 18.0, None])
    assert lost == {"median": None, "reached": False, "missed_by": None}
    assert check(comparison=comparison).judge([None, 18.0, 18.0])["reached"]
    assert not check(comparison=comparison).judge([None, 18.0])["reached"]


@pytest.mark.parametrize(
    "changes",
    [
        {"why": " "},
        {"source": None},
        {"tolerance": -1},
        {"tolerance": "2"},
        {"value": True},
        {"value": math.nan},
        {"comparison": "about"},
    ],
)
def test_incomplete_check_is_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        check(**changes)


def test_flags_come_without_comments_and_empty_lines(tmp_path):
    make_paper(tmp_path, {"row": {"title": "A row", "program": "federated", "checks": [CHECK]}})
    row = find_row(tmp_path, "paper2020/row")
    assert row.flags() == ["--rounds=2", "--model=2nn"]
    assert find_row(tmp_path, "paper2020/row.flags") == row


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("row", "paper/row; the papers are paper2020"),
        ("/row", "paper/row"),
        ("paper2020/", "paper/row"),
        ("paper2021/row", "choose one of paper2020"),
        ("paper2020/rows", "its rows are row, gone"),
        ("paper2020/gone", "has no flag file"),
        ("paper2020/../row", "its rows are row, gone"),
    ],
)
def test_preset_that_is_not_there_is_named_with_those_that_are(tmp_path, preset, message):
    row = {"title": "A row", "program": "federated", "checks": [CHECK]}
    folder = make_paper(tmp_path, {"row": row, "gone": row})
    (folder / "gone.flags").unlink()
    with pytest.raises(UserError, match=message):
        find_row(tmp_path, preset)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"rows": {}}',
        '{"paper": "A paper.", "rows": {"row": {"title": "A row", "program": "federated"}}}',
        '{"paper": "", "rows": {"row": {"title": "t", "program": "federated", "checks": []}}}',
        '{"paper": "", "rows": {"row": {"title": "t", "program": "p", "checks": [{"metric": 1}]}}}',
    ],
)
def test_damaged_expected_file_is_named(tmp_path, content):
    (tmp_path / "paper2020").mkdir()
    (tmp_path / "paper2020" / "expected.json").write_text(content)
    with pytest.raises(UserError, match=r"expected\.json cannot be used"):
        read_paper(tmp_path, "paper2020")
