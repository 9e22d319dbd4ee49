"""ABY3 on native ops: right, fresh at each call, and each server's view alone means nothing."""

import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfpriv.secure.protocols import aby3_kernels, engine, fixed_point, running
from tfpriv.secure.protocols.engine import aby3_tensors, tensors, tfe

RING = tensors.factories[64]
SCALE = 2**16
EDGES = np.array(
    [0, 1, -1, 2, -2, 2**31, -(2**31), 2**32, 2**40 + 12345, -(2**40), 2**47, -(2**47)]
)
SHAPES = [(1,), (7,), (3, 1), (2, 3, 5), (1100,), ()]


def shared(protocol, values, *, is_scaled=False):
    """Shares integers of the ring as they are."""
    values = tf.constant(values, tf.int64)
    x = protocol.define_private_input("client", lambda: values, apply_scaling=False)
    return aby3_tensors.ABY3PrivateTensor(protocol, x.unwrapped, is_scaled, x.share_type)


def shared_bits(protocol, bits):
    secret = tensors.factories[tf.bool].tensor(tf.constant(bits, tf.bool))
    return protocol._share_and_wrap(secret, False, aby3_tensors.ShareType.BOOLEAN)


def opened(protocol, x):
    """What is shared, and that neighbors hold the same shares."""
    shares = [[share.value.numpy() for share in pair] for pair in x.unwrapped]
    for server in range(3):
        np.testing.assert_array_equal(shares[server][1], shares[(server + 1) % 3][0])
    own = [pair[0] for pair in shares]
    if x.share_type == aby3_tensors.ShareType.BOOLEAN:
        return own[0] ^ own[1] ^ own[2]
    return np.sum(own, axis=0)  # modulo 2^64


def ring_values(shape, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.integers(-(2**63), 2**63 - 1, shape, endpoint=True)
    if values.size >= len(EDGES):
        values.reshape(-1)[: len(EDGES)] = EDGES
    return values


def test_the_fused_functions_are_those_that_are_used(aby3, monkeypatch):
    called = []
    for name, (condition, function) in list(aby3_kernels.FUNCTIONS.items()):

        def noting(*args, _name=name, _function=function, **kwargs):
            called.append(_name)
            return _function(*args, **kwargs)

        monkeypatch.setitem(aby3_kernels.FUNCTIONS, name, (condition, noting))
    x = fixed_point.share(aby3, tf.ones([4, 4]))
    aby3.relu(x)
    aby3.matmul(x, x)
    assert {"_msb_private", "_mul_ab_private_private", "_matmul_private_private"} <= set(called)
    assert "_truncate_heuristic_private" in called


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_exact_in_the_ring(aby3, shape):
    x, y = ring_values(shape, 1), ring_values(shape, 2)
    z = aby3.mul(shared(aby3, x), shared(aby3, y))
    np.testing.assert_array_equal(opened(aby3, z), x * y)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 300, 700), (3, 5, 2), (4, 5, 17), (7, 300, 33), (50, 2, 1)], ids=str
)
def test_matrix_products_are_exact_in_the_ring(aby3, shape):
    rows, depth, columns = shape
    x, y = ring_values((rows, depth), 1), ring_values((depth, columns), 2)
    z = aby3.matmul(shared(aby3, x), shared(aby3, y))
    np.testing.assert_array_equal(opened(aby3, z), x @ y)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 3)], ids=str)
@pytest.mark.parametrize("size", [(3, 3), (5, 2), (1, 1)], ids=str)
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_convolutions_are_exact_in_the_ring(aby3, padding, strides, size, data_format):
    generator = np.random.default_rng(0)
    x = generator.integers(-(2**20), 2**20, (2, 7, 8, 3))
    w = generator.integers(-(2**20), 2**20, (*size, 3, 5))
    expected = tf.nn.conv2d(x.astype(float), w.astype(float), [1, *strides, 1], padding).numpy()
    secret = shared(aby3, x if data_format == "NHWC" else x.transpose(0, 3, 1, 2))
    kernel = shared(aby3, w)
    if data_format == "NHWC":
        result = opened(aby3, aby3.conv2d_channels_last(secret, kernel, strides, padding))
    else:
        result = opened(aby3, aby3.conv2d(secret, kernel, strides, padding)).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(result, expected.astype(np.int64))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_sign_is_that_of_every_ring_element(aby3, shape):
    x = ring_values(shape, 3)
    sign = aby3.msb(shared(aby3, x))
    assert sign.share_type == aby3_tensors.ShareType.BOOLEAN and not sign.is_scaled
    np.testing.assert_array_equal(opened(aby3, sign), x < 0)


def test_the_sign_holds_at_the_ends_of_the_ring(aby3):
    x = np.array([2**63 - 1, -(2**63), -(2**63) + 1, 2**62, -(2**62), 0, -1])
    for _ in range(20):  # anew each time, so that the carries differ
        np.testing.assert_array_equal(opened(aby3, aby3.msb(shared(aby3, x))), x < 0)


@pytest.mark.parametrize("dtype", [tf.bool, tf.int8, tf.int16, tf.int32, tf.int64], ids=str)
def test_and_is_exact_for_each_type(aby3, dtype):
    generator = np.random.default_rng(0)
    bits = [generator.integers(0, 2**63, (3, 700)) for _ in range(2)]
    x, y = (tf.cast(tf.constant(b % 2 if dtype == tf.bool else b), dtype) for b in bits)
    factory = tensors.factories[dtype]
    shares = [
        aby3._share_and_wrap(factory.tensor(v, encode=False), False, aby3_tensors.ShareType.BOOLEAN)
        for v in (x, y)
    ]
    np.testing.assert_array_equal(opened(aby3, aby3.and_(*shares)), x.numpy() & y.numpy())


def test_bits_choose_between_a_number_and_zero(aby3):
    x = ring_values((1000,), 4)
    bits = np.random.default_rng(5).integers(0, 2, 1000).astype(bool)
    z = aby3.mul_ab(shared(aby3, x), shared_bits(aby3, bits))
    np.testing.assert_array_equal(opened(aby3, z), np.where(bits, x, 0))
    numbers = opened(aby3, aby3.b2a_single(shared_bits(aby3, bits)))
    np.testing.assert_array_equal(numbers, bits.astype(np.int64))


@pytest.mark.parametrize("amount", [1, 8, 16, 31])
def test_truncation_is_off_by_at_most_one_step(aby3, amount):
    x = np.random.default_rng(6).integers(-(2**62), 2**62, 5000)
    x[: len(EDGES)] = EDGES
    x[-2:] = -(2**62), 2**62 - 1
    z = opened(aby3, aby3.truncate(shared(aby3, x), amount=amount))
    assert set(np.unique(z - (x >> amount))) <= {0, 1}


def test_truncation_rounds_without_bias(aby3):
    x = np.full(40_000, 2**15 * 3)  # a quarter and a half of a step over
    z = opened(aby3, aby3.truncate(shared(aby3, x), amount=17))
    assert set(np.unique(z)) == {0, 1}
    assert abs(z.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / len(z))


def test_nonnegative_truncation_takes_the_whole_upper_half(aby3):
    x = np.random.default_rng(7).integers(0, 2**63 - 1, 5000)
    z = opened(aby3, aby3.truncate_msb0(shared(aby3, x), amount=16))
    assert set(np.unique(z - (x >> 16))) <= {0, 1}


def values(low, high, shape=(40, 13), seed=8):
    return np.random.default_rng(seed).uniform(low, high, shape)


def mean_of_pairs(p, x, y):
    return p.concat([x, y], axis=0) * 0.5


# What each operation gives on shares and in plaintext, and how exact it is in steps of the grid.
EVERYWHERE = {
    "add": (lambda p, x, y: x + y, np.add, 3),
    "add_public": (lambda p, x, y: x + 1.5, lambda x, y: x + 1.5, 3),
    "subtract": (lambda p, x, y: x - y, np.subtract, 3),
    "negative": (lambda p, x, y: p.negative(x), lambda x, y: -x, 3),
    "multiply": (lambda p, x, y: x * y, np.multiply, 30),
    "multiply_public": (lambda p, x, y: x * 0.25, lambda x, y: x / 4, 20),
    "square": (lambda p, x, y: p.square(x), lambda x, y: x * x, 30),
    "relu": (lambda p, x, y: p.relu(x), lambda x, y: np.maximum(x, 0), 3),
    "maximum": (lambda p, x, y: p.maximum(x, y), np.maximum, 3),
    "reduce_sum": (lambda p, x, y: p.reduce_sum(x, axis=0), lambda x, y: x.sum(0), 40),
    "reshape": (lambda p, x, y: p.reshape(x, [-1]), lambda x, y: x.reshape(-1), 3),
    "concat": (lambda p, x, y: p.concat([x, y], axis=0), lambda x, y: np.concatenate([x, y]), 3),
    "stack": (lambda p, x, y: p.stack([x, y], axis=0), lambda x, y: np.stack([x, y]), 3),
    "expand": (lambda p, x, y: p.expand_dims(x, 0), lambda x, y: x[None], 3),
    "slice": (lambda p, x, y: x[:1], lambda x, y: x[:1], 3),
    "together": (mean_of_pairs, lambda x, y: np.concatenate([x, y]) / 2, 20),
}
ONLY_ABY3 = {
    "transpose": (lambda p, x, y: p.transpose(x), lambda x, y: x.T, 3),
    "tile": (
        lambda p, x, y: p.tile(x, [2] + [1] * (len(x.shape) - 1)),
        lambda x, y: np.concatenate([x, x]),
        3,
    ),
    "select": (lambda p, x, y: p.select(x > y, x, y), lambda x, y: np.minimum(x, y), 3),
    "reduce_max": (lambda p, x, y: p.reduce_max(x, axis=0), lambda x, y: x.max(0), 3),
    "divide": (lambda p, x, y: x / 3.0, lambda x, y: x / 3, 40),
    "power": (lambda p, x, y: y**3, lambda x, y: y**3, 60),
    "polynomial": (
        lambda p, x, y: p.polynomial(y, [1.25, 0.5, 2.5]),
        lambda x, y: 1.25 + y / 2 + 2.5 * y * y,
        60,
    ),
    "reciprocal": (lambda p, x, y: p.reciprocal(x * x + 1), lambda x, y: 1 / (x * x + 1), 600),
    "inv_sqrt": (lambda p, x, y: p.inv_sqrt(x * x + 1), lambda x, y: (x * x + 1) ** -0.5, 600),
    "exp": (lambda p, x, y: p.exp(y), lambda x, y: np.exp(y), 2000),
}
CASES = [("aby3", name) for name in EVERYWHERE | ONLY_ABY3]
CASES += [("securenn", name) for name in EVERYWHERE]


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 5), (3, 1, 4)], ids=str)
@pytest.mark.parametrize(("name", "operation"), CASES)
def test_operations_give_what_they_give_in_the_clear(local_parties, name, operation, shape):
    on_shares, plain, steps = (EVERYWHERE | ONLY_ABY3)[operation]
    x, y = values(-10, 10, shape), values(-2, 2, shape, seed=9)
    with running.protocol(name, local_parties) as protocol:
        z = on_shares(protocol, *(fixed_point.share(protocol, tf.constant(v)) for v in (x, y)))
        tolerance = steps / protocol.fixedpoint_config.scaling_factor
        np.testing.assert_allclose(fixed_point.reveal(protocol, z), plain(x, y), atol=tolerance)


def test_comparisons_give_what_they_give_in_the_clear(aby3):
    x = np.round(values(-2, 2), 1)
    y = np.round(values(-2, 2)[::-1], 1)
    secrets = [fixed_point.share(aby3, tf.constant(v)) for v in (x, y)]
    for name in ("less_than", "less_equal", "greater_than", "greater_equal"):
        plain = {
            "than": {"less": x < y, "greater": x > y},
            "equal": {"less": x <= y, "greater": x >= y},
        }
        direction, kind = name.split("_")
        result = opened(aby3, getattr(aby3, name)(*secrets))
        np.testing.assert_array_equal(result, plain[kind][direction], err_msg=name)


# --- Fresh randomness ----------------------------------------------------------------------------


def product_shares(protocol):
    """A traced function of two products of the same numbers, and all shares of both."""

    @tf.function(autograph=False)
    def run(x):
        secret = protocol.define_private_input("client", lambda: x)
        products = [protocol.matmul(secret, secret), protocol.matmul(secret, secret.transpose())]
        signs = protocol.msb(products[0])
        return [pair[0].value for z in (*products, signs) for pair in z.unwrapped]

    return run


def test_no_call_of_a_traced_function_draws_what_another_drew(aby3):
    run = product_shares(aby3)
    x = tf.constant(values(-1, 1, (32, 32)))
    first, second = run(x), run(x)
    for a, b in zip(first, second, strict=True):
        if a.dtype == tf.bool:
            assert 0.4 < np.mean(a.numpy() == b.numpy()) < 0.6
        else:
            assert np.mean(a.numpy() == b.numpy()) == 0


def test_upstreams_own_protocol_would_mask_two_calls_alike(local_parties):
    tfe.set_config(engine.configuration(local_parties.devices))
    upstream = tfe.protocol.ABY3()
    tfe.set_protocol(upstream)
    secret = upstream.define_private_input("client", lambda: tf.zeros([8, 8], tf.float64))

    @tf.function(autograph=False)
    def run():
        return [share.value for share in upstream._gen_zero_sharing([8, 8])]

    first, second = run(), run()
    tfe.set_config(tfe.LocalConfig())
    del secret
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_iteration_of_a_loop_draws_what_another_drew(aby3):
    @tf.function(autograph=False)
    def run():
        def body(i, drawn):
            shares = aby3._gen_zero_sharing([4])
            return i + 1, drawn.write(i, tf.stack([share.value for share in shares]))

        drawn = tf.TensorArray(tf.int64, 6, element_shape=[3, 4])
        return tf.while_loop(lambda i, _: i < 6, body, (0, drawn))[1].stack()

    drawn = run().numpy()
    np.testing.assert_array_equal(drawn.sum(axis=1), 0)
    assert len(np.unique(drawn)) == drawn.size


def test_steps_in_a_graph_have_keys_or_numbers_of_their_own(aby3):
    zeros = [aby3._gen_zero_sharing([100])[0].value.numpy() for _ in range(5)]
    for a, b in itertools.combinations(zeros, 2):
        assert not np.any(a == b)


# --- What a server sees --------------------------------------------------------------------------


def view(shares, server):
    return [share.value.numpy().reshape(-1) for share in shares.unwrapped[server]]


@pytest.mark.parametrize("operation", ["share", "matmul", "relu", "truncate", "bits"])
@pytest.mark.parametrize("secret", [0.0, 1.0, -700.25])
def test_each_servers_shares_are_uniform_whatever_the_secret(aby3, operation, secret):
    x = fixed_point.share(aby3, tf.fill([128, 128], tf.constant(secret / 128, tf.float64)))
    result = {
        "share": lambda: x,
        "matmul": lambda: aby3.matmul(x, x),
        "relu": lambda: aby3.relu(x),
        "truncate": lambda: aby3.truncate(x, amount=3),
        "bits": lambda: aby3_kernels.bits_to_numbers(aby3, aby3.msb(x)),
    }[operation]()
    for server in range(3):
        own, following = view(result, server)
        for share in (own, following, own + following):
            for byte in (0, 3, 7):
                part = (share.view(np.uint64) >> np.uint64(8 * byte)) & np.uint64(255)
                counts = np.bincount(part.astype(np.int64), minlength=256)
                assert scipy.stats.chisquare(counts).pvalue > 1e-7, (server, byte)


def test_shared_bits_are_uniform_for_each_server(aby3):
    sign = aby3.msb(fixed_point.share(aby3, tf.fill([10_000], tf.constant(-1.0, tf.float64))))
    for server in range(3):
        own, following = view(sign, server)
        for bits in (own, following, own ^ following):
            assert abs(bits.mean() - 0.5) < 0.03


def test_a_chi_square_that_would_see_a_bias():
    counts = np.bincount(np.random.default_rng(0).integers(0, 250, 16384), minlength=256)
    assert scipy.stats.chisquare(counts).pvalue < 1e-7


def test_shares_of_different_shapes_are_refused(aby3):
    x = tf.zeros([3], tf.int64)
    key = tf.zeros([8], tf.int32)
    ops = aby3_kernels.ops
    with pytest.raises(tf.errors.InvalidArgumentError, match="one shape"):
        ops.shares_mul(
            x=x, x_next=tf.zeros([4], tf.int64), y=x, y_next=x, key=key, key_next=key, step=0
        )
    with pytest.raises(tf.errors.InvalidArgumentError, match="seed has shape"):
        ops.shares_mul(x=x, x_next=x, y=x, y_next=x, key=key[:4], key_next=key, step=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no product"):
        ops.int64_mat_mul(x=tf.zeros([2, 3], tf.int64), y=tf.zeros([2, 3], tf.int64))
    with pytest.raises(tf.errors.InvalidArgumentError, match="channels"):
        ops.int64_conv2d(
            x=tf.zeros([1, 4, 4, 2], tf.int64),
            y=tf.zeros([3, 3, 1, 1], tf.int64),
            strides=[1, 1],
            padding="SAME",
        )


def test_a_loop_sorts_on_shares(aby3):
    x = values(-5, 5, (16,))

    @tf.function(autograph=False)
    def run(v):
        return fixed_point.reveal(aby3, aby3.sort(fixed_point.share(aby3, v), 0))

    np.testing.assert_allclose(run(tf.constant(x)), np.sort(x), atol=4e-5)
