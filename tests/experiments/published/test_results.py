import json

import pytest

from experiments.published import results
from experiments.published.rows import find_row
from tfpriv.errors import UserError

CHECKS = [
    {
        "metric": "rounds_to_target",
        "value": 87,
        "source": "Table 1",
        "comparison": "at_most",
        "tolerance": 0,
        "why": "Fewer rounds are better.",
    },
    {
        "metric": "epsilon",
        "value": 1.71,
        "source": "Computed",
        "comparison": "within",
        "tolerance": 0.005,
        "why": "Half a unit of the last digit.",
    },
]
CONFIG = {
    "started": "2026-01-01T00:00:00+00:00",
    "git_commit": "abc",
    "git_dirty": False,
    "versions": {"python": "3.11.2"},
    "command": "python -m experiments.federated --output_dir=/home/somebody/runs",
}


@pytest.fixture(name="presets")
def _presets(tmp_path):
    folder = tmp_path / "presets" / "paper2020"
    folder.mkdir(parents=True)
    rows = {
        name: {"title": f"Row {name}", "program": "federated", "checks": CHECKS}
        for name in ("first", "second")
    }
    (folder / "expected.json").write_text(json.dumps({"paper": "A paper.", "rows": rows}))
    for name in rows:
        (folder / f"{name}.flags").write_text("--rounds=2\n")
    return tmp_path / "presets"


def judged(presets, name="first", rounds=(80.0, 81.5, 90.0), epsilon=1.712):
    row = find_row(presets, f"paper2020/{name}")
    summaries = {
        seed: {"rounds_to_target": value, "epsilon": epsilon, "wall_seconds": 9.0}
        for seed, value in enumerate(rounds)
    }
    return row, results.judge(row, summaries, dict.fromkeys(summaries, CONFIG))


def test_result_holds_values_by_seed_and_what_made_them(presets):
    _, result = judged(presets)
    assert result == {
        "checks": [
            {
                "metric": "rounds_to_target",
                "published": 87,
                "comparison": "at_most",
                "tolerance": 0,
                "values": {"0": 80.0, "1": 81.5, "2": 90.0},
                "median": 81.5,
                "reached": True,
                "missed_by": None,
            },
            {
                "metric": "epsilon",
                "published": 1.71,
                "comparison": "within",
                "tolerance": 0.005,
                "values": {"0": 1.712, "1": 1.712, "2": 1.712},
                "median": 1.712,
                "reached": True,
                "missed_by": None,
            },
        ],
        "flags": ["--rounds=2"],
        "seconds": {"0": 9.0, "1": 9.0, "2": 9.0},
        "started": "2026-01-01T00:00:00+00:00",
        "git_commit": "abc",
        "git_dirty": False,
        "versions": {"python": "3.11.2"},
    }
    assert results.reached(result)


def test_row_is_reached_only_with_all_its_checks(presets):
    assert not results.reached(judged(presets, rounds=(88.0,))[1])
    assert not results.reached(judged(presets, epsilon=1.72)[1])


def test_metric_that_no_run_has_is_named(presets):
    row = find_row(presets, "paper2020/first")
    with pytest.raises(UserError, match=r"compares rounds_to_target.*one of epsilon, wall_seconds"):
        results.judge(row, {0: {"epsilon": 1.0, "wall_seconds": 1.0}}, {0: CONFIG})


def test_rows_stand_in_the_order_of_the_expected_file_and_replace_themselves(presets):
    results.write(presets, *judged(presets, "second"))
    results.write(presets, *judged(presets, "first", rounds=(1.0,)))
    results.write(presets, *judged(presets, "first", rounds=(2.0,)))
    found = results.read(presets, "paper2020")
    assert list(found) == ["first", "second"]
    assert found["first"]["checks"][0]["values"] == {"0": 2.0}
    assert found["second"] == judged(presets, "second")[1]


def test_paper_without_results_has_none(presets):
    assert results.read(presets, "paper2020") == {}


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"first": 3}', '{"first": {"checks": [{"metric": "epsilon"}]}}']
)
def test_damaged_results_are_named_and_left_as_they_are(presets, content):
    path = presets / "paper2020" / "results.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"results\.json is damaged"):
        results.write(presets, *judged(presets))
    assert path.read_text() == content


def test_table_says_of_each_row_whether_and_by_how_much(presets):
    assert results.table(presets) == "`paper2020`: A paper.\n\nNot run: `first`, `second`."
    results.write(presets, *judged(presets, rounds=(90.25, None, 89.0), epsilon=1.9))
    first = "| Row first (`first`) |"
    assert results.table(presets).splitlines() == [
        "`paper2020`: A paper.",
        "",
        "| row | metric | published | to reach | median here | seeds | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"{first} rounds_to_target | 87 | at most 87 | 90.25 | 3 | missed by 3.25 |",
        f"{first} epsilon | 1.71 | 1.705 to 1.715 | 1.9 | 3 | missed by 0.185 |",
        "",
        "Not run: `second`.",
    ]
    results.write(presets, *judged(presets, "second"))
    assert "Not run" not in results.table(presets)


@pytest.mark.parametrize(("name", "checks"), [("first", CHECKS[:1]), ("other", CHECKS)])
def test_table_refuses_results_of_other_rows_or_checks(presets, name, checks):
    results.write(presets, *judged(presets))
    path = presets / "paper2020" / "expected.json"
    rows = {name: {"title": "A row", "program": "federated", "checks": checks}}
    path.write_text(json.dumps({"paper": "A paper.", "rows": rows}))
    with pytest.raises(UserError, match=r"result of first that expected\.json does not ask for"):
        results.table(presets)


def test_row_that_most_seeds_never_reach_says_so(presets):
    row, result = judged(presets, rounds=(None, None, 80.0))
    assert results.lines(row, result)[0].endswith("|  | 3 | not reached by most seeds |")


def test_table_replaces_what_is_between_the_markers_and_nothing_else(presets, tmp_path):
    page = tmp_path / "results.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter é\n")
    table = results.table(presets)
    for _ in range(2):
        results.write_table(page, presets)
        expected = f"before\n<!-- results -->\n\n{table}\n\n<!-- /results -->\nafter é\n"
        assert page.read_text() == expected


@pytest.mark.parametrize(
    "text",
    [
        "no markers",
        "<!-- results -->",
        "<!-- /results --> <!-- results -->",
        "<!-- results --> <!-- results --> <!-- /results -->",
    ],
)
def test_file_without_the_two_markers_is_left_as_it_is(presets, tmp_path, text):
    page = tmp_path / "results.md"
    page.write_text(text)
    with pytest.raises(UserError, match="must hold the lines"):
        results.write_table(page, presets)
    assert page.read_text() == text


def test_missing_page_is_named(presets, tmp_path):
    with pytest.raises(UserError, match=r"no .*results\.md"):
        results.write_table(tmp_path / "results.md", presets)
