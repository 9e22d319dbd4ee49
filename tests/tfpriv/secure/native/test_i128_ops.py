"""The ring of integers modulo 2^128, against Python's integers."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.secure.protocols.engine import tfe

RING = 2**128
EDGES = [0, 1, 2, 3, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, 2**126, 2**127 - 1, -1, -2]
EDGES += [-(2**63), -(2**64), -(2**64) - 1, -(2**127), -(2**127) + 1, 0xAAAA << 56]

# Too many elements for one thread.
MANY = 100_000


def signed(values):
    """The representatives in [-2^127, 2^127) of an array of integers."""
    values = (np.asarray(values, dtype=object) + RING // 2) % RING - RING // 2
    return np.asarray(values, dtype=object)  # of no axes, where it had become a Python integer


def random(*shape, seed=0):
    rng = np.random.default_rng(seed)
    words = rng.integers(-(2**63), 2**63, (*shape, 2))
    return from_words(words)


def from_words(words):
    low, high = (words[..., i].astype(object) for i in (0, 1))
    return signed(low % 2**64 + high * 2**64)


def tensor(values):
    values = np.asarray(values, dtype=object) % RING
    words = np.array([values % 2**64, values // 2**64], dtype=object).astype(np.uint64)
    return tf.constant(np.moveaxis(words, 0, -1).astype(np.int64))


def integers(result):
    return from_words(result.numpy())


def assert_same(result, expected):
    got, expected = integers(result), signed(expected)
    assert got.shape == expected.shape
    assert np.array_equal(got, expected)


def bits(value):
    return [value >> i & 1 for i in range(128)]


def number(bits):
    return sum(bit << i for i, bit in enumerate(bits))


def elementwise(function, values):
    values = np.asarray(values, dtype=object)
    results = [function(value) for value in values.reshape(-1)]
    return np.array(results, dtype=object).reshape(values.shape)


BINARY = {
    "i128_add": lambda x, y: x + y,
    "i128_sub": lambda x, y: x - y,
    "i128_mul": lambda x, y: x * y,
}


@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_on_all_pairs_of_edges(ops, name):
    x, y = map(np.array, zip(*itertools.product(EDGES, EDGES), strict=True))
    x, y = x.astype(object), y.astype(object)
    assert_same(getattr(ops, name)(tensor(x), tensor(y)), BINARY[name](x, y))


SHAPES = [
    ((), ()),
    ((), (3,)),
    ((5,), (1,)),
    ((4, 3), (3,)),
    ((4, 1), (1, 3)),
    ((2, 1, 3, 1), (5, 1, 4)),
    ((0, 3), (3,)),
    ((2, 0), (1, 1)),
    ((3, 1, 1), (1, 0, 2)),
    ((400, 1, 25), (10, 1)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_broadcasts(ops, name, shapes):
    x, y = random(*shapes[0]), random(*shapes[1], seed=1)
    assert_same(getattr(ops, name)(tensor(x), tensor(y)), BINARY[name](x, y))
    assert_same(getattr(ops, name)(tensor(y), tensor(x)), BINARY[name](y, x))


@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_on_many_elements(ops, name):
    x, y = random(MANY), random(MANY, seed=1)
    assert_same(getattr(ops, name)(tensor(x), tensor(y)), BINARY[name](x, y))


def test_equal_compares_both_words(ops):
    x, y = map(np.array, zip(*itertools.product(EDGES, EDGES), strict=True))
    result = ops.i128_equal(tensor(x.astype(object)), tensor(y.astype(object)))
    assert result.dtype == tf.bool
    assert np.array_equal(result, x == y)
    column = tensor(random(4, 1))
    expected = integers(column) == integers(column)[:, 0]
    assert np.array_equal(ops.i128_equal(column, column[:, 0]), expected)
    assert expected.sum() == 4


UNARY = {
    "i128_negate": lambda x: -x,
    "i128_abs": abs,
    "i128_bit_reverse": lambda x: number(bits(x)[::-1]),
    "i128_xor_indices": lambda x: int(
        np.bitwise_xor.reduce([i for i, bit in enumerate(bits(x)) if bit] or [0])
    ),
}


@pytest.mark.parametrize("name", UNARY)
def test_ops_of_one_element(ops, name):
    values = np.array(EDGES + list(random(999)), dtype=object)
    assert_same(getattr(ops, name)(tensor(values)), elementwise(UNARY[name], values))


def test_ops_of_one_element_keep_any_shape(ops):
    for shape in [(), (0,), (2, 3), (1, 0, 4)]:
        values = random(*shape)
        assert_same(ops.i128_negate(tensor(values)), -values)


@pytest.mark.parametrize("places", [0, 1, 63, 64, 65, 127, 128, 1000])
def test_shifts(ops, places):
    values = np.array(EDGES + list(random(99)), dtype=object)
    assert_same(ops.i128_left_shift(tensor(values), places), values * 2**places)
    assert_same(ops.i128_right_shift(tensor(values), places), values // 2**places)
    assert_same(ops.i128_logic_right_shift(tensor(values), places), values % RING // 2**places)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 64, 127, 128, 2**31 - 1])
def test_bits_are_gathered(ops, stride):
    values = np.array(EDGES + list(random(20)), dtype=object)

    def gathered(start):
        return elementwise(lambda value: number(bits(value)[start::stride]), values)

    for start in {0, 1, 63, 64, 127, 128, 2**31 - 1}:
        assert_same(ops.i128_bit_gather(tensor(values), start, stride), gathered(start))
    if stride <= 128:
        expected = np.stack([gathered(start) for start in range(stride)])
        assert_same(ops.i128_bit_split_and_gather(tensor(values), stride), expected)


@pytest.mark.parametrize(
    ("x_shape", "y_shape"),
    [
        ((1, 1), (1, 1)),
        ((3, 4), (4, 5)),
        ((1, 7), (7, 70)),
        ((33, 2), (2, 65)),
        ((3, 0), (0, 2)),
        ((0, 3), (3, 2)),
        ((2, 3, 4), (2, 4, 5)),
        ((5, 1, 3, 4), (2, 4, 3)),
        ((2, 3), (6, 3, 4)),
        ((64, 50), (50, 40)),
    ],
    ids=str,
)
def test_matrix_products(ops, x_shape, y_shape):
    x, y = random(*x_shape), random(*y_shape, seed=1)
    if x.size == 0:
        expected = np.zeros(x_shape[:-1] + y_shape[-1:], dtype=object)
    else:
        expected = (x[..., :, :, None] * y[..., None, :, :]).sum(axis=-2)
    assert_same(ops.i128_mat_mul(tensor(x), tensor(y)), expected)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (1, 1), (0, 3), (3, 0), (300, 70)])
def test_sums_over_every_choice_of_axes(ops, shape):
    values = random(*shape)
    axes = range(len(shape))
    for count in range(len(shape) + 1):
        for axis in itertools.permutations(axes, count):
            for keep in (False, True):
                expected = values.sum(axis=tuple(sorted(axis)), keepdims=keep)
                result = ops.i128_reduce_sum(tensor(values), axis=list(axis), keepdims=keep)
                assert_same(result, expected)


@pytest.mark.parametrize("scale", [1, 3, 2**32, 2**63 - 1])
def test_numbers_are_encoded_as_the_exact_product_cut_off_at_the_point(ops, scale):
    rng = np.random.default_rng(0)
    values = rng.normal(size=2000) * 2.0 ** rng.integers(-80, 60, 2000)
    values = np.concatenate([values, [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 5e-324, 2.0**63]])
    expected = elementwise(lambda x: _exact(x, scale), values.astype(object))
    assert_same(ops.to_i128(values, scale=scale), expected)


def _exact(value, scale):
    numerator, denominator = value.as_integer_ratio()
    size = abs(numerator) * scale // denominator
    return size if numerator >= 0 else -size


@pytest.mark.parametrize("scale", [1, 3, 2**32, 2**63 - 1])
def test_numbers_are_decoded_to_the_nearest_double(ops, scale):
    values = np.array(EDGES + list(random(999)), dtype=object)
    expected = elementwise(lambda x: float(x) / float(scale), values).astype(np.float64)
    assert np.array_equal(ops.from_i128(tensor(values), scale=scale), expected)


def test_lowest_value_is_encoded_and_the_first_too_high_one_is_refused(ops):
    assert_same(ops.to_i128([-(2.0**127)], scale=1), [-(2**127)])
    below = math.nextafter(2.0**127, 0)
    assert_same(ops.to_i128([below], scale=1), [int(below)])
    assert_same(ops.to_i128([2.0**64], scale=2**63 - 1), [2**127 - 2**64])
    for value, scale in [(2.0**127, 1), (2.0**65, 2**63 - 1), (-1.1 * 2.0**127, 1), (1e300, 1)]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="128 bits"):
            ops.to_i128([0.0, value], scale=scale)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_encoded(ops, value):
    with pytest.raises(tf.errors.InvalidArgumentError, match="128 bits"):
        ops.to_i128([1.0, value], scale=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda ops: ops.i128_add(tf.zeros([3, 3], tf.int64), tf.zeros([3, 2], tf.int64)),
        lambda ops: ops.i128_add(tf.zeros([], tf.int64), tf.zeros([2], tf.int64)),
        lambda ops: ops.i128_add(tf.zeros([3, 2], tf.int64), tf.zeros([4, 2], tf.int64)),
        lambda ops: ops.i128_equal(tf.zeros([3, 2], tf.int64), tf.zeros([4, 2], tf.int64)),
        lambda ops: ops.i128_negate(tf.zeros([3], tf.int64)),
        lambda ops: ops.i128_mat_mul(tf.zeros([3, 2], tf.int64), tf.zeros([3, 2], tf.int64)),
        lambda ops: ops.i128_mat_mul(tf.zeros([3, 4, 2], tf.int64), tf.zeros([3, 4, 2], tf.int64)),
        lambda ops: ops.i128_mat_mul(
            tf.zeros([2, 3, 4, 2], tf.int64), tf.zeros([3, 4, 3, 2], tf.int64)
        ),
        lambda ops: ops.i128_mat_mul(
            tf.zeros([2**33, 0, 2], tf.int64), tf.zeros([0, 2**33, 2], tf.int64)
        ),
        lambda ops: ops.i128_reduce_sum(tf.zeros([3, 2], tf.int64), axis=[1]),
        lambda ops: ops.i128_reduce_sum(tf.zeros([3, 2], tf.int64), axis=[-1]),
        lambda ops: ops.i128_left_shift(tf.zeros([3, 2], tf.int64), -1),
        lambda ops: ops.i128_right_shift(tf.zeros([3, 2], tf.int64), -1),
        lambda ops: ops.i128_bit_gather(tf.zeros([3, 2], tf.int64), -1, 1),
        lambda ops: ops.i128_bit_gather(tf.zeros([3, 2], tf.int64), 0, 0),
        lambda ops: ops.i128_bit_split_and_gather(tf.zeros([3, 2], tf.int64), 0),
        lambda ops: ops.i128_bit_split_and_gather(tf.zeros([2**33, 0, 2], tf.int64), 2**31 - 1),
        lambda ops: ops.to_i128([1.0], scale=0),
        lambda ops: ops.from_i128(tf.zeros([3, 2], tf.int64), scale=-1),
        lambda ops: ops.from_i128(tf.zeros([3], tf.int64), scale=1),
    ],
)
def test_wrong_arguments_are_errors(ops, call):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        call(ops)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        tf.function(lambda: call(ops))()


def test_graphs_know_the_shapes(ops):
    def output_shape(function, *shapes):
        specs = [tf.TensorSpec(shape, tf.int64) for shape in shapes]
        return tf.function(function).get_concrete_function(*specs).output_shapes

    assert output_shape(ops.i128_add, [None, 3, 2], [4, 1, 2]) == [4, 3, 2]
    assert output_shape(ops.i128_equal, [5, 1, 2], [3, 2]) == [5, 3]
    assert output_shape(ops.i128_mat_mul, [None, 3, 2], [3, 4, 2]) == [None, 4, 2]
    assert output_shape(lambda x: ops.i128_reduce_sum(x, axis=[1]), [5, 6, 7, 2]) == [5, 7, 2]
    assert output_shape(
        lambda x: ops.i128_reduce_sum(x, axis=[0, 2], keepdims=True), [5, None, 7, 2]
    ) == [1, None, 1, 2]
    assert output_shape(lambda x: ops.i128_bit_split_and_gather(x, 2), [3, 2]) == [2, 3, 2]
    assert output_shape(lambda x: ops.from_i128(x, 1), [3, None, 2]) == [3, None]
    assert output_shape(ops.i128_negate, None).rank is None


def test_tf_encrypted_multiplies_compares_and_adds_shares_of_128_bits():
    a, b = np.array([[1.5, -2.25], [3.125, -0.5]]), np.array([[2.0, 1.0], [-1.5, 4.0]])
    with tfe.protocol.ABY3(fixedpoint_config="high") as protocol:
        x, y = map(protocol.define_private_variable, (a, b))
        results = [
            (x * y - x, a * b - a),
            (protocol.matmul(x, y), a @ b),
            (protocol.relu(x), np.maximum(a, 0)),
            (protocol.reduce_max(x, axis=1), a.max(axis=1)),
            (protocol.reduce_sum(x, axis=0), a.sum(axis=0)),
        ]
        for result, expected in results:
            np.testing.assert_allclose(result.reveal().to_native(), expected, atol=1e-6)
