"""Tests of tfpriv.federated.batches."""

import numpy as np
import pytest
from scipy import stats

from tfpriv.federated import batches

_ROWS = np.array([5, 3, 11, 8, 2, 20, 7])


def _epochs(rows=_ROWS, **changes):
    settings = {"batch_size": 3, "num_epochs": 2, "seed": 0, "round_number": 0, "client": 0}
    return batches.epochs(rows, **(settings | changes))


@pytest.mark.parametrize("batch_size", [1, 3, 6, 7, 100])
def test_each_epoch_holds_every_example_once(batch_size):
    drawn = _epochs(batch_size=batch_size, num_epochs=3).reshape(3, -1)
    for epoch in drawn:
        assert sorted(epoch[epoch >= 0]) == sorted(_ROWS)


def test_only_the_last_batch_of_an_epoch_is_short_and_filled_up_by_minus_one():
    drawn = _epochs()
    assert drawn.dtype == np.int32
    assert drawn.shape == (6, 3)
    assert [int((batch >= 0).sum()) for batch in drawn] == [3, 3, 1, 3, 3, 1]
    assert (drawn[2, 1:] == -1).all()


def test_a_batch_is_no_wider_than_the_client():
    assert _epochs(batch_size=50).shape == (2, 7)


def test_a_client_without_examples_has_no_batches():
    assert _epochs(rows=np.array([], np.int64)).shape == (0, 0)
    assert batches.in_order(np.array([], np.int64), batch_size=3).shape == (0, 0)


def test_the_same_draw_gives_the_same_batches():
    assert np.array_equal(_epochs(), _epochs())


@pytest.mark.parametrize("change", [{"seed": 1}, {"round_number": 1}, {"client": 1}])
def test_seed_round_and_client_each_change_the_order(change):
    assert not np.array_equal(_epochs(), _epochs(**change))


def test_epochs_differ_in_order():
    first, second = _epochs().reshape(2, -1)
    assert not np.array_equal(first, second)


def test_in_order_keeps_the_order():
    found = batches.in_order(_ROWS, batch_size=4)
    assert found.tolist() == [[5, 3, 11, 8], [2, 20, 7, -1]]


def _poisson(rows, **changes):
    settings = {"steps": 4, "seed": 0, "round_number": 0, "client": 0}
    return batches.poisson(rows, **({"sampling_probability": 0.3} | settings | changes))


def test_poisson_draws_each_example_at_its_probability_and_at_most_once_a_batch():
    rows = np.arange(1000, 1200)
    drawn = _poisson(rows, steps=2000, sampling_probability=0.1)
    sizes = (drawn >= 0).sum(axis=1)
    # Sizes are binomial: exactly fixed, or rounded, ones would fail.
    assert sizes.mean() == pytest.approx(20, abs=0.5)
    assert sizes.var() == pytest.approx(200 * 0.1 * 0.9, rel=0.15)
    counts = np.bincount(drawn[drawn >= 0], minlength=1200)[1000:]
    assert stats.chisquare(counts).pvalue > 1e-6
    for batch in drawn[:50]:
        present = batch[batch >= 0]
        assert len(set(present)) == len(present)
        assert set(present) <= set(rows)


def test_poisson_at_probability_one_draws_everybody_in_every_batch():
    assert (_poisson(_ROWS, sampling_probability=1.0) == _ROWS).all()


def test_poisson_batches_may_be_empty_but_keep_their_steps():
    drawn = _poisson(_ROWS, sampling_probability=1e-9)
    assert drawn.shape == (4, 1)
    assert (drawn == -1).all()


def test_poisson_leaves_no_drawn_example_out_to_make_a_batch_fit():
    rows = np.arange(50)
    drawn = _poisson(rows, steps=300, sampling_probability=0.2)
    assert drawn.shape[1] == (drawn >= 0).sum(axis=1).max()


@pytest.mark.parametrize("change", [{"seed": 1}, {"round_number": 1}, {"client": 1}])
def test_seed_round_and_client_each_change_the_draw(change):
    rows = np.arange(100)
    assert np.array_equal(_poisson(rows), _poisson(rows))
    assert not np.array_equal(_poisson(rows), _poisson(rows, **change))
