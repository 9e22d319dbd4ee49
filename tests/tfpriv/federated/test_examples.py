"""Tests of tfpriv.federated.examples."""

import gc

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfpriv.federated.examples import Examples, SharedArray


def _rows_in_the_worker(shared, indices):
    @tff.tensorflow.computation(tff.TensorType(np.int32, [None]))
    def rows(indices):
        return shared.rows(indices)

    return rows(np.asarray(indices, np.int32))


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32),
        np.arange(5, dtype=np.int32),
        np.asfortranarray(np.arange(10.0, dtype=np.float32).reshape(5, 2)),
        np.arange(20, dtype=np.int32)[::4],
    ],
    ids=["images", "labels", "fortran", "strided"],
)
def test_another_process_reads_the_same_values(worker, values):
    shared = SharedArray(values)
    assert np.array_equal(shared.array, values)
    assert np.array_equal(_rows_in_the_worker(shared, [4, 0, 0]), values[[4, 0, 0]])
    shared.close()


def test_no_rows_can_be_read_too(worker):
    shared = SharedArray(np.ones((5, 2), np.float32))
    assert _rows_in_the_worker(shared, []).shape == (0, 2)
    shared.close()


def test_the_array_cannot_be_written():
    shared = SharedArray(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        shared.array[0] = 2
    shared.close()


def test_the_array_outlives_the_handle():
    shared = SharedArray(np.arange(3, dtype=np.int32))
    shared.close()
    array = shared.array
    del shared
    gc.collect()
    assert array.tolist() == [0, 1, 2]


@pytest.mark.parametrize("shape", [(0,), (0, 3)])
def test_an_empty_array_is_held_too(shape):
    shared = SharedArray(np.zeros(shape, np.float32))
    assert shared.array.shape == shape
    shared.close()


def test_examples_give_features_with_their_labels():
    examples = Examples(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([7, 8, 9], np.int32))
    features, labels = examples.rows(tf.constant([2, 0]))
    assert features.numpy().tolist() == [[4, 5], [0, 1]]
    assert labels.numpy().tolist() == [9, 7]
    examples.close()
