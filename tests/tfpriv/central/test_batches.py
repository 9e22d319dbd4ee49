"""Batches hold every member that was drawn, in few shapes."""

import numpy as np
import pytest
from scipy import stats

from tfpriv.central.batches import Batches, rows_of
from tfpriv.privacy import PoissonSampler, ShuffledSampler

SAMPLER = PoissonSampler(population=60_000, expected_size=256)


@pytest.mark.parametrize("accumulate_steps", [1, 3])
@pytest.mark.parametrize("size", [0, 1, 200, 256, 350, 1000])
def test_chunks_hold_each_member_once(size, accumulate_steps):
    members = np.random.default_rng(size).choice(60_000, size, replace=False)
    batches = Batches(SAMPLER, 1000, accumulate_steps)
    chunks = batches.chunks(members)
    held = np.concatenate(chunks)
    assert sorted(held[held >= 0]) == sorted(members)
    assert len(chunks) >= accumulate_steps
    assert all(0 < len(chunk) <= batches.width for chunk in chunks)


def test_overflow_is_rarer_than_one_in_a_million_runs_and_not_by_far():
    steps = 3516
    capacity = Batches(SAMPLER, steps).capacity
    drawn = stats.binom(60_000, 256 / 60_000)
    assert steps * drawn.sf(capacity) <= 1e-6 < steps * drawn.sf(capacity - 3)


def test_overflowing_batch_is_split_and_not_cut():
    batches = Batches(SAMPLER, 1000)
    members = np.arange(2 * batches.width + 5)
    chunks = batches.chunks(members)
    assert len(chunks) == 3
    assert np.count_nonzero(np.concatenate(chunks) >= 0) == len(members)


def test_run_meets_a_handful_of_shapes():
    batches = Batches(SAMPLER, 1000)
    widths = {len(batches.chunks(SAMPLER.sample(step, 0))[0]) for step in range(1000)}
    assert len(widths) <= 16


def test_batch_without_members_is_padding():
    (chunk,) = Batches(SAMPLER, 1000).chunks(np.array([], np.int64))
    assert set(chunk) == {-1}


def test_no_chunk_is_wider_than_the_model_can_take():
    batches = Batches(SAMPLER, 1000, largest=10)
    assert max(len(chunk) for chunk in batches.chunks(np.arange(256))) <= 10


def test_shuffled_batches_have_one_size():
    assert Batches(ShuffledSampler(population=100, size=7), 50).capacity == 7


def test_padding_reads_no_member():
    values = np.full((5, 2, 3), np.nan, np.float32)
    assert np.all(rows_of(values, np.array([-1, -1])) == 0)
    values[3] = 7.0
    rows = rows_of(values, np.array([3, -1, -1]))
    assert rows.dtype == values.dtype and rows.shape == (3, 2, 3)
    assert np.all(rows[0] == 7) and np.all(rows[1:] == 0)
