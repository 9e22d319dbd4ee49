"""ChaCha20 streams, and the integers that are drawn from them.

The reference is the `cryptography` package's ChaCha20, which is held to the vectors of RFC 8439.
"""

import concurrent.futures
import ctypes
import pathlib
import subprocess

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from cryptography.hazmat.primitives import ciphers
from cryptography.hazmat.primitives.ciphers import algorithms

from tfpriv.secure import native
from tfpriv.secure.protocols.engine import tfe

SEED = np.arange(-3, 5, dtype=np.int32) * 123456789
OTHER_SEED = SEED + 1
TYPES = [np.int8, np.int16, np.int32, np.int64]

# The nonce of libsodium's randombytes_buf_deterministic.
NONCE = b"LibsodiumDRG"


def key_stream(key, count, nonce=NONCE, block=0):
    """Bytes of ChaCha20 by the `cryptography` package, from the start of a block on."""
    start = block.to_bytes(4, "little") + nonce
    cipher = ciphers.Cipher(algorithms.ChaCha20(bytes(key), start), mode=None)
    return cipher.encryptor().update(bytes(count))


def draw(ops, shape, low, high, dtype=np.int64, seed=SEED):
    low, high = tf.constant(low, dtype), tf.constant(high, dtype)
    return ops.secure_seeded_random_uniform(shape, seed, low, high).numpy()


def draw_ring(ops, shape, dtype=np.int64, seed=SEED):
    limits = np.iinfo(dtype)
    return draw(ops, shape, limits.min, limits.max, dtype, seed)


def words_of(value):
    """The two words of an integer of 128 bits, the low one first."""
    return np.frombuffer((value % 2**128).to_bytes(16, "little"), np.int64)


def draw_i128(ops, count, low, high, seed=SEED):
    """Integers of 128 bits, as Python's."""
    pairs = ops.i128_secure_seeded_random_uniform([count], seed, words_of(low), words_of(high))
    raw = pairs.numpy().tobytes()
    return [int.from_bytes(raw[i : i + 16], "little", signed=True) for i in range(0, len(raw), 16)]


# RFC 8439: section 2.3.2, and appendix A.1, vectors 1, 2 and 4.
COUNTING = bytes(range(32))
RFC_VECTORS = [
    (
        COUNTING,
        "000000090000004a00000000",
        1,
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    ),
    (
        bytes(32),
        "000000000000000000000000",
        0,
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
    ),
    (
        bytes(32),
        "000000000000000000000000",
        1,
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ),
    (
        bytes([0, 0xFF]) + bytes(30),
        "000000000000000000000000",
        2,
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
        "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
    ),
]


@pytest.mark.parametrize("vector", RFC_VECTORS, ids=["2.3.2", "A.1 1", "A.1 2", "A.1 4"])
def test_reference_is_the_cipher_of_the_rfc(vector):
    key, nonce, block, expected = vector
    assert key_stream(key, 64, bytes.fromhex(nonce), block).hex() == expected


@pytest.fixture(scope="module", params=["avx512f", "avx2", "sse2"])
def read_stream(request, tmp_path_factory):
    """ReadStream, compiled for processors of one vector width."""
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    if request.param not in flags:
        pytest.skip(f"this machine's processor has no {request.param}")
    folder = tmp_path_factory.mktemp("chacha20")
    source = pathlib.Path(native.__file__).with_name("chacha20.cc")
    library = folder / "chacha20.so"
    # One clone, by force, where the library has the loader choose among several.
    clone = f'-Dtarget_clones(...)=target("{request.param}")'
    command = ["g++", "-O3", "-w", "-std=c++17", "-fPIC", "-shared", clone, source, "-o", library]
    subprocess.run(command, check=True)
    function = ctypes.CDLL(str(library))["_ZN6tfpriv10ReadStreamERKNS_6StreamEllPv"]
    function.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    function.restype = None

    def read(key, nonce, first, count):
        stream = (ctypes.c_char * 44).from_buffer_copy(key + nonce)
        out = ctypes.create_string_buffer(count + 1)
        out[count] = b"\x7f"
        function(stream, first, count, out)
        assert out[count] == b"\x7f"
        return out.raw[:count]

    return read


@pytest.mark.parametrize("vector", RFC_VECTORS, ids=["2.3.2", "A.1 1", "A.1 2", "A.1 4"])
def test_every_vector_width_gives_the_vectors_of_the_rfc(read_stream, vector):
    key, nonce, block, expected = vector
    assert read_stream(key, bytes.fromhex(nonce), 64 * block, 64).hex() == expected


def test_every_vector_width_reads_from_any_place(read_stream):
    reference = key_stream(SEED, 9000)
    rng = np.random.default_rng(0)
    places = [(0, 0), (0, 1), (63, 2), (64, 1024), (1, 1024), (1023, 1025), (960, 64)]
    places += [tuple(map(int, pair)) for pair in rng.integers(0, 4500, (50, 2))]
    for first, count in places:
        assert read_stream(SEED.tobytes(), NONCE, first, count) == reference[first : first + count]


def test_every_vector_width_counts_blocks_to_the_last(read_stream):
    block = 2**32 - 20
    expected = key_stream(SEED, 20 * 64, block=block)
    assert read_stream(SEED.tobytes(), NONCE, 64 * block, 20 * 64) == expected


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [0, 1, 15, 17, 63, 64, 65, 1023, 1025, 4097, 1_000_003])
def test_ring_elements_are_the_stream_of_the_seed(ops, dtype, count):
    expected = np.frombuffer(key_stream(SEED, count * np.dtype(dtype).itemsize), dtype)
    assert np.array_equal(draw_ring(ops, [count], dtype), expected)


def test_ring_elements_of_128_bits_are_the_stream_of_the_seed(ops):
    raw = key_stream(SEED, 16 * 5001)
    expected = [int.from_bytes(raw[i : i + 16], "little", signed=True) for i in range(0, 80016, 16)]
    assert draw_i128(ops, 5001, -(2**127), 2**127 - 1) == expected


def test_draws_at_the_same_time_do_not_disturb_each_other(ops):
    seeds = [SEED + i for i in range(16)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda seed: draw_ring(ops, [100_001], seed=seed), seeds))
    for seed, values in zip(seeds, drawn, strict=True):
        assert values.tobytes() == key_stream(seed, 800_008)


RANGES = [
    (np.int8, -128, 127),
    (np.int8, 0, 2),
    (np.int8, -100, 100),
    (np.int16, -5, 12),
    (np.int32, 0, 2**31 - 1),
    (np.int32, -(2**31), 1),
    (np.int64, -(2**63), 1),
    (np.int64, -7, 2**62),
    (np.int64, 0, 2**61),
]


@pytest.mark.parametrize(("dtype", "low", "high"), RANGES)
def test_fewer_elements_are_the_first_of_more(ops, dtype, low, high):
    many = draw(ops, [70_001], low, high, dtype)
    for shape in [[0], [1], [1000], [7, 11, 13], []]:
        few = draw(ops, shape, low, high, dtype)
        assert few.shape == tuple(shape)
        assert np.array_equal(few.reshape(-1), many[: few.size])


def redrawn(seed, low, size, count, drawn):
    """Draws by the definition: words that are too high are drawn anew from a stream of their own.

    Returns the integers, as Python's, and how many words were drawn anew.
    """
    bits = 8 * np.dtype(drawn).itemsize if drawn else 128
    width = bits // 8
    limit = 2**bits - 2**bits % size

    def word(stream, place):
        return int.from_bytes(stream[place * width : (place + 1) * width], "little")

    main = key_stream(seed, count * width)
    results, anew = [], 0
    for element in range(count):
        value = word(main, element)
        if value >= limit:
            anew += 1
            retry = key_stream(seed, 64 * width, element.to_bytes(8, "little") + b"rtry")
            value = next(v for v in (word(retry, i) for i in range(64)) if v < limit)
        results.append(low + value % size)
    return results, anew


@pytest.mark.parametrize(
    ("dtype", "low", "high", "drawn"),
    [
        (np.int8, -50, 51, np.uint32),
        (np.int16, -30_000, 32_767, np.uint32),
        (np.int32, -(2**31), 1, np.uint32),
        (np.int32, 5, 8, np.uint32),
        (np.int64, -(2**63), 1, np.uint64),
        (np.int64, -(2**61), 2**62, np.uint64),
    ],
)
def test_rejected_words_are_drawn_anew(ops, dtype, low, high, drawn):
    expected, anew = redrawn(SEED, low, high - low, 5000, drawn)
    assert draw(ops, [5000], low, high, dtype).tolist() == expected
    if high - low > 2**31:
        assert anew > 1000


def test_rejected_words_of_128_bits_are_drawn_anew(ops):
    expected, anew = redrawn(SEED, -(2**127), 2**127 + 1, 3000, None)
    assert draw_i128(ops, 3000, -(2**127), 1) == expected
    assert anew > 1000
    expected, _ = redrawn(SEED, -3, 10, 3000, None)
    assert draw_i128(ops, 3000, -3, 7) == expected


def is_uniform(values, low, size, cells):
    """Whether a chi-square test lets the values pass as uniform on [low, low + size)."""
    assert values.min() >= low
    assert values.max() < low + size
    # The first integer of each cell; where the size is no multiple, cells hold unequal numbers.
    edges = np.array([low - (-cell * size // cells) for cell in range(cells + 1)], np.float64)
    counts, _ = np.histogram(values, edges)
    expected = np.diff(edges) / (edges[-1] - edges[0]) * len(values)
    return scipy.stats.chisquare(counts, expected).pvalue > 1e-4


UNIFORM = [
    (np.int8, -128, 127, 256),  # the ring: 127 comes too
    (np.int16, -(2**15), 2**15 - 1, 1024),
    (np.int32, -(2**31), 2**31 - 1, 1000),
    (np.int64, -(2**63), 2**63 - 1, 1000),
    (np.int8, -64, 64, 128),
    (np.int32, 0, 16, 16),
    (np.int64, -(2**40), 2**40, 64),
    (np.int8, -100, 101, 201),
    (np.int16, 0, 3, 3),
    (np.int32, 0, 67, 67),
    (np.int32, -(2**30), 2**31 - 1, 99),
    (np.int64, 0, 3 * 2**61, 99),
]


@pytest.mark.parametrize(("dtype", "low", "high", "cells"), UNIFORM)
def test_integers_are_uniform(ops, dtype, low, high, cells):
    values = draw(ops, [300_000], low, high, dtype)
    limits = np.iinfo(dtype)
    whole = low == limits.min and high == limits.max
    assert is_uniform(values, low, high - low + whole, cells)


def test_uniformity_test_finds_what_is_not_uniform(ops):
    """The biases that an op would have if it were wrong in the ways that such ops are."""
    words = draw_ring(ops, [300_000], np.int32).astype(np.int64) + 2**31
    size = 3 * 2**30
    assert not is_uniform(words % size, 0, size, 99)  # a remainder of all words
    assert not is_uniform(words % 256 % 201, 0, 201, 201)
    ring = draw_ring(ops, [300_000], np.int8)
    assert not is_uniform(ring[ring != 127], -128, 256, 256)  # the highest value never comes
    assert not is_uniform(np.where(np.arange(300_000) % 50 == 0, 0, ring), -128, 256, 256)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_ring_holds_every_value(ops, dtype):
    values = draw_ring(ops, [2_000_000], dtype)
    assert len(np.unique(values)) == 256 ** np.dtype(dtype).itemsize


def test_high_is_never_drawn_and_low_is(ops):
    assert set(draw(ops, [1000], 3, 4)) == {3}
    assert set(draw(ops, [1000], -1, 2, np.int8)) == {-1, 0, 1}
    assert set(draw(ops, [1000], 125, 127, np.int8)) == {125, 126}
    assert set(draw_i128(ops, 1000, 2**64 - 1, 2**64 + 2)) == {2**64 - 1, 2**64, 2**64 + 1}


def test_seeds_in_one_function_differ_and_so_do_calls(ops):
    @tf.function
    def two_seeds():
        return ops.secure_seed(), ops.secure_seed()

    before = int(ops.seeds_drawn())
    seeds = [tuple(seed.numpy()) for _ in range(50) for seed in two_seeds()]
    assert len(set(seeds)) == 100
    assert int(ops.seeds_drawn()) - before == 100
    assert is_uniform(np.array(seeds).view(np.int8).reshape(-1), -128, 256, 16)


@pytest.mark.parametrize("bits", [64, 128])
def test_unseeded_draws_in_one_function_differ_and_so_do_calls(ops, bits):
    def unseeded():
        if bits == 64:
            bounds = (tf.constant(limit, tf.int64) for limit in (-(2**63), 2**63 - 1))
            return ops.secure_random_uniform([100], *bounds)
        return ops.i128_secure_random_uniform([50], words_of(-(2**127)), words_of(2**127 - 1))

    function = tf.function(lambda: (unseeded(), unseeded()))
    drawn = np.concatenate([np.ravel(values) for _ in range(20) for values in function()])
    assert len(np.unique(drawn)) == 4000


def test_seeds_differ(ops):
    assert not np.any(draw_ring(ops, [1000]) == draw_ring(ops, [1000], seed=OTHER_SEED))


def test_shapes_that_are_known_only_at_run_time(ops):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def function(shape):
        limits = tf.int64.min, tf.int64.max
        return ops.secure_seeded_random_uniform(shape, SEED, *(tf.constant(x) for x in limits))

    assert np.array_equal(function([3, 5]), draw_ring(ops, [3, 5]))
    static = tf.function(lambda: ops.secure_seeded_random_uniform([3, 5], SEED, 0, 9))
    assert static.get_concrete_function().output_shapes == [3, 5]


WRONG_SEEDS = [SEED[:7], np.append(SEED, 1), SEED.reshape(2, 4), np.int32(5)]


@pytest.mark.parametrize("seed", WRONG_SEEDS, ids=[7, 9, "matrix", "scalar"])
def test_wrong_seeds_are_errors(ops, seed):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a seed has shape \[8\]"):
        draw(ops, [3], 0, 5, seed=seed)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a seed has shape \[8\]"):
        draw_i128(ops, 3, 0, 5, seed=seed)


@pytest.mark.parametrize("dtype", [tf.int64, tf.float32])
def test_seeds_of_another_type_are_errors(ops, dtype):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        draw(ops, [3], 0, 5, seed=tf.constant(SEED, dtype))


@pytest.mark.parametrize("shape", [[-1], [[1, 2]], 3, [2**31 - 1] * 3], ids=str)
def test_wrong_shapes_are_errors(ops, shape):
    with pytest.raises(tf.errors.InvalidArgumentError):
        draw(ops, shape, 0, 5)
    with pytest.raises(tf.errors.InvalidArgumentError):
        ops.i128_secure_seeded_random_uniform(shape, SEED, words_of(0), words_of(5))


def test_results_that_fit_in_no_memory_are_errors(ops):
    shape = [2**31 - 1, 2**31 - 1, 2]
    with pytest.raises(tf.errors.OpError):
        draw(ops, shape, 0, 5)
    with pytest.raises(tf.errors.OpError):
        ops.i128_secure_seeded_random_uniform(shape, SEED, words_of(0), words_of(5))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("low", "high"), [(0, 0), (5, 4), (127, -128), (1, -1)])
def test_empty_ranges_are_errors(ops, dtype, low, high):
    with pytest.raises(tf.errors.InvalidArgumentError, match="minval must be below maxval"):
        draw(ops, [3], low, high, dtype)


def test_empty_ranges_of_128_bits_are_errors(ops):
    for low, high in [(0, 0), (2**64, 2**64 - 1), (2**127 - 1, -(2**127))]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="minval must be below maxval"):
            draw_i128(ops, 3, low, high)


def test_bounds_that_are_no_single_numbers_are_errors(ops):
    with pytest.raises(tf.errors.InvalidArgumentError, match="single numbers"):
        draw(ops, [3], [0, 1], 5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="two numbers"):
        ops.i128_secure_seeded_random_uniform([3], SEED, words_of(0), [1])


def test_bounds_of_two_types_are_an_error_and_no_constant(ops):
    low, high = tf.constant(0, tf.int32), tf.constant(9, tf.int64)
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError)):
        ops.secure_seeded_random_uniform([3], SEED, low, high)
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError)):
        tf.function(lambda: ops.secure_seeded_random_uniform([3], SEED, low, high))()
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError)):
        ops.secure_random_uniform([3], low, high)


@pytest.mark.parametrize("dtype", [tf.uint8, tf.uint64, tf.float32, tf.complex64])
def test_other_types_are_errors(ops, dtype):
    bounds = tf.cast(0, dtype), tf.cast(1, dtype)
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.NotFoundError, TypeError)):
        ops.secure_seeded_random_uniform([3], SEED, *bounds)


@pytest.mark.parametrize("dtype", TYPES)
def test_tf_encrypted_draws_from_these_streams(ops, dtype):
    limits = np.iinfo(dtype)
    drawn = tfe.operations.secure_random.seeded_random_uniform(
        [1000], limits.min, limits.max, dtype, SEED
    )
    assert np.array_equal(drawn, draw_ring(ops, [1000], dtype))


def test_bits_are_as_often_true_as_false_and_hold_nothing_else(ops):
    seed = ops.secure_seed()
    bounds = {"minval": tf.constant(False), "maxval": tf.constant(True)}
    bits = ops.secure_seeded_random_uniform(shape=[200_001], seed=seed, **bounds).numpy()
    assert set(np.unique(bits.view(np.uint8))) == {0, 1}
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    again = ops.secure_seeded_random_uniform(shape=[77], seed=seed, **bounds).numpy()
    np.testing.assert_array_equal(again, bits[:77])
    assert ops.secure_random_uniform(shape=[1000], **bounds).numpy().std() > 0.4


def test_a_range_of_bits_that_is_empty_is_refused(ops):
    for low in (False, True):
        with pytest.raises(tf.errors.InvalidArgumentError, match="minval must be below maxval"):
            ops.secure_random_uniform(shape=[3], minval=tf.constant(low), maxval=tf.constant(False))
