import numpy as np
import pytest

from tfpriv import datasets
from tfpriv.datasets import shakespeare

_PLAY = """ACT I.

SCENE I. A street.

[Enter KING and FOOL.]

KING.
What time is it?
[Aside.] He sleeps.

FOOL.
Late, sir.
[Exit FOOL, who leaves
by the door]

[Music.]

Very late.

KING. Then go.

I am alone.

SCENE II. A wood.

Nobody says this.

KING and FOOL.
Ho!
"""


@pytest.fixture(scope="module")
def plays():
    return datasets.load("shakespeare")


def _text(ids):
    return "".join(("?" + shakespeare.VOCABULARY)[i] for i in ids)


def test_speeches_go_to_their_speakers_without_directions():
    # "I am alone." follows an empty line without a new speaker: the king goes on.
    assert shakespeare.parse_play(_PLAY) == {
        "KING": ["What time is it?", "He sleeps.", "Then go.", "I am alone."],
        "FOOL": ["Late, sir.", "Very late."],
        "KING and FOOL": ["Ho!"],
    }


def test_speakers_not_in_capitals_are_known_where_a_play_has_no_others():
    text = "ACT I.\n\nHam.\nTo be, or not to be.\n\nHor.\nMy lord!\n\nHam.\nPeace.\n"
    assert shakespeare.parse_play(text) == {
        "Ham": ["To be, or not to be.", "Peace."],
        "Hor": ["My lord!"],
    }


def test_windows_cover_the_text_and_labels_are_the_next_characters():
    text = "".join(chr(ord("a") + i % 26) for i in range(200))
    windows = shakespeare.windows(text)
    assert windows.shape == (2, 81)
    assert windows.dtype == np.int32
    assert _text(windows[0]) == text[:81]
    assert _text(windows[1]) == text[80:161]


@pytest.mark.parametrize(("length", "count"), [(0, 0), (80, 0), (81, 1), (160, 1), (161, 2)])
def test_rest_that_fills_no_window_is_dropped(length, count):
    assert shakespeare.windows("x" * length).shape == (count, 81)


def test_characters_out_of_the_vocabulary_have_the_unknown_id():
    ids = shakespeare.windows("a{é€😀" + "b" * 76)[0]
    assert ids[1:5].tolist() == [shakespeare.UNKNOWN_ID] * 4
    assert ids[0] == 1 + shakespeare.VOCABULARY.index("a")


def test_vocabulary_has_86_distinct_characters():
    assert len(shakespeare.VOCABULARY) == len(set(shakespeare.VOCABULARY)) == 86


def test_the_plays_have_the_documented_counts(plays):
    datasets.check(plays)
    assert plays.num_classes == 87
    assert plays.train_features.shape == plays.train_labels.shape == (41888, 80)
    assert plays.test_features.shape == (10075, 80)
    sizes = datasets.partition(plays, "natural").sizes
    assert len(sizes) == 1111
    assert sizes.min() == 1
    assert np.mean(plays.train_features == shakespeare.UNKNOWN_ID) < 1e-4


def test_labels_are_the_features_one_character_later(plays):
    np.testing.assert_array_equal(plays.train_features[:, 1:], plays.train_labels[:, :-1])


def test_roles_read_from_a_whole_play_are_named(plays):
    (sentence,) = plays.preparation
    assert "roles" in sentence


def test_a_client_is_one_role(plays):
    # Hamlet says more than anybody else.
    largest = int(np.argmax(np.bincount(plays.train_clients)))
    said = "".join(_text(ids) for ids in plays.train_features[plays.train_clients == largest])
    assert "To be, or not to be,--that is the question:" in said
    assert "Neither a borrower nor a lender be" not in said
