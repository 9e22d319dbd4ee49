"""The ledger counts what ran, once for each time that it ran."""

import pytest

from tfpriv.errors import UserError
from tfpriv.privacy import Ledger


def _ran(*spans):
    ledger = Ledger()
    for first, end in spans:
        ledger = Ledger(ledger.spans)
        for step in range(first, end):
            ledger.record(step)
    return ledger


def test_uninterrupted_run_is_one_stretch():
    ledger = _ran((0, 7))
    assert ledger.spans == [[0, 7]]
    assert (ledger.steps, ledger.repeated_steps, ledger.segments()) == (7, 0, [7])


def test_steps_run_again_after_an_interruption_count_twice():
    ledger = _ran((0, 5), (3, 8))
    assert (ledger.steps, ledger.repeated_steps, ledger.segments()) == (10, 2, [5, 5])


def test_stretch_that_follows_on_is_a_segment_of_its_own():
    ledger = _ran((0, 5), (5, 8))
    assert (ledger.steps, ledger.repeated_steps, ledger.segments()) == (8, 0, [5, 3])
    assert ledger.segment == 1


def test_start_without_a_step_changes_nothing():
    assert _ran((0, 5), (5, 5)).spans == [[0, 5]]


def test_segments_are_cut_where_a_pass_ends():
    assert _ran((0, 7)).segments(3) == [3, 3, 1]
    assert _ran((0, 4), (4, 7)).segments(3) == [3, 1, 2, 1]
    assert _ran((0, 4), (3, 7)).segments(3) == [3, 1, 3, 1]


def test_step_that_does_not_follow_is_refused():
    ledger = _ran((0, 2))
    ledger.record(2)
    with pytest.raises(ValueError, match=r"step 5 does not follow on \[0, 3\]"):
        ledger.record(5)
    ledger = _ran((0, 2), (2, 4))
    with pytest.raises(ValueError, match=r"step 5 does not follow on \[2, 4\]"):
        ledger.record(5)


def test_written_ledger_is_read_again_and_goes_on_in_a_segment_of_its_own(tmp_path):
    path = tmp_path / "steps.json"
    _ran((0, 5), (3, 8)).write(path)
    assert path.read_text() == "[[0, 5], [3, 8]]\n"
    ledger = Ledger.read(path)
    assert (ledger.spans, ledger.segment) == ([[0, 5], [3, 8]], 2)
    ledger.record(8)
    assert ledger.spans == [[0, 5], [3, 8], [8, 9]]


@pytest.mark.parametrize(
    "content",
    [
        "[[0, 1.5]]",
        "[[0, -5]]",
        "[[3, 3]]",
        "[[0, 0]]",
        "[[-1, 4]]",
        "[[1, 4]]",
        "[[0, 4], [5, 9]]",
        '[["0", 4]]',
        "[4]",
        "7",
    ],
)
def test_file_that_no_run_writes_is_damaged(content, tmp_path):
    path = tmp_path / "steps.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"steps\.json is damaged"):
        Ledger.read(path)


@pytest.mark.parametrize("content", [None, "[]", "[[0, 79]]", "[[0, 40], [40, 79]]"])
def test_checkpoint_beyond_what_was_counted_is_refused(content, tmp_path):
    path = tmp_path / "steps.json"
    if content is not None:
        path.write_text(content)
    ledger = Ledger.read(path)
    with pytest.raises(
        UserError, match="the last checkpoint has seen 80; epsilon would be too low"
    ):
        ledger.refuse_gap(80, path)
    recorded = max([0, *(end for _, end in ledger.spans)])
    ledger.refuse_gap(recorded, path)
    with pytest.raises(UserError, match=f"counts {recorded} steps"):
        ledger.refuse_gap(recorded + 1, path)
