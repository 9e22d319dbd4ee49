"""The bit operations, against Python's integers."""

import numpy as np
import pytest
import tensorflow as tf

TYPES = [np.bool_, np.int8, np.int16, np.int32, np.int64]


def width(dtype):
    return 1 if dtype == np.bool_ else 8 * np.dtype(dtype).itemsize


def examples(dtype, count=300):
    """Edge values and random ones."""
    if dtype == np.bool_:
        return np.array([False, True, True, False])
    limits = np.iinfo(dtype)
    edges = [0, 1, 2, 3, -1, -2, limits.min, limits.min + 1, limits.max, limits.max - 1, 0x55]
    rng = np.random.default_rng(0)
    drawn = rng.integers(limits.min, limits.max, count, dtype, endpoint=True)
    return np.concatenate([np.array(edges, dtype), drawn])


def bits(value, dtype):
    return [int(value) >> i & 1 for i in range(width(dtype))]


def number(bits, dtype):
    value = sum(bit << i for i, bit in enumerate(bits))
    if dtype != np.bool_ and value >= 2 ** (width(dtype) - 1):
        value -= 2 ** width(dtype)
    return dtype(value)


def each(function, values):
    dtype = values.dtype.type
    results = [number(function(bits(value, dtype)), dtype) for value in values.reshape(-1)]
    return np.array(results, dtype).reshape(values.shape)


def assert_same(result, expected):
    assert result.dtype.as_numpy_dtype == expected.dtype
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("dtype", TYPES)
def test_bits_are_reversed(ops, dtype):
    values = examples(dtype)
    assert_same(ops.bit_reverse(values), each(lambda bits: bits[::-1], values))


@pytest.mark.parametrize("dtype", TYPES)
def test_indices_of_set_bits_are_xored(ops, dtype):
    values = examples(dtype)
    expected = [
        np.bitwise_xor.reduce([i for i, bit in enumerate(bits(value, dtype)) if bit] or [0])
        for value in values
    ]
    assert_same(ops.xor_indices(values), np.array(expected, dtype))


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 8, 63, 64, 100, 2**31 - 1])
@pytest.mark.parametrize("dtype", TYPES)
def test_bits_are_gathered(ops, dtype, stride):
    values = examples(dtype)

    def gathered(start):
        return each(lambda bits: bits[start::stride], values)

    for start in [0, 1, 2, 7, 8, 63, 64, 2**31 - 1]:
        assert_same(ops.bit_gather(values, start, stride), gathered(start))
    if stride <= 100:
        expected = np.stack([gathered(start) for start in range(stride)])
        assert_same(ops.bit_split_and_gather(values, stride), expected)


@pytest.mark.parametrize("dtype", TYPES)
def test_any_shape_and_many_elements(ops, dtype):
    for shape in [(), (0,), (1,), (2, 3, 5), (4, 0, 2), (100_003,)]:
        values = np.resize(examples(dtype, 5000), shape)
        assert_same(ops.bit_reverse(ops.bit_reverse(values)), values)
        split = ops.bit_split_and_gather(values, 2)
        assert split.shape == (2, *shape)
        for start in (0, 1):
            assert_same(split[start], ops.bit_gather(values, start, 2).numpy())


def test_many_elements_are_gathered_each_in_its_place(ops):
    values = np.arange(300_000, dtype=np.int64) * 0x9E3779B97F4A7
    expected = np.zeros_like(values)
    for bit in range(32):
        expected |= (values >> (2 * bit) & 1) << bit
    assert_same(ops.bit_gather(values, 0, 2), expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda ops, x: ops.bit_gather(x, 0, 0),
        lambda ops, x: ops.bit_gather(x, 0, -1),
        lambda ops, x: ops.bit_gather(x, -1, 1),
        lambda ops, x: ops.bit_split_and_gather(x, 0),
        lambda ops, x: ops.bit_split_and_gather(x, -2),
    ],
)
def test_wrong_strides_and_starts_are_errors(ops, call):
    values = tf.constant([1, 2, 3])
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        call(ops, values)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        tf.function(lambda: call(ops, values))()


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_other_types_are_errors(ops, dtype):
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError)):
        ops.bit_reverse(tf.zeros([3], dtype))


def test_too_large_results_are_errors(ops):
    values = tf.zeros([2**33, 0], tf.int8)
    with pytest.raises(tf.errors.InvalidArgumentError):
        ops.bit_split_and_gather(values, 2**31 - 1)


def test_graphs_know_the_shapes(ops):
    function = tf.function(lambda x: ops.bit_split_and_gather(x, 3))
    spec = tf.TensorSpec([None, 2], tf.int32)
    assert function.get_concrete_function(spec).output_shapes == [3, None, 2]
