"""SecureNN: signs are exact, fresh at each call, and no server's view tells anything."""

import types

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfpriv.secure.parties import communication
from tfpriv.secure.protocols import engine, fixed_point, running, securenn
from tfpriv.secure.protocols.engine import tensors, tfe

EDGES = np.array(
    [0, 1, -1, 2, -2, 2**63 - 1, -(2**63), 1 - 2**63, 2**62, -(2**62), 2**31, -(2**31), 2**40 + 1]
)
SHAPES = [(), (1,), (7,), (64,), (3, 1), (2, 3, 65), (1100,), (0,), (5, 0)]
ROWS = 64 * 300


@pytest.fixture
def protocol(local_parties):
    with running.protocol("securenn", local_parties) as protocol:
        yield protocol


@pytest.fixture
def upstream(local_parties):
    tfe.set_config(engine.configuration(local_parties.devices))
    protocol = tfe.protocol.SecureNN(fixedpoint_config=tensors.fixed64_ni)
    tfe.set_protocol(protocol)
    yield protocol
    tfe.set_config(tfe.LocalConfig())
    tfe.protocol.protocol.nodes.clear()


def shared(protocol, values):
    """Shares integers of the ring as they are."""
    secret = tensors.int64factory.tensor(tf.constant(values, tf.int64))
    return protocol._share_and_wrap(secret, False)


def public(protocol, values):
    return protocol.define_constant(np.array(values), apply_scaling=False)


def opened(x):
    return np.sum([share.value.numpy() for share in x.unwrapped], axis=0)  # modulo 2^64


def ring_values(shape, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.integers(-(2**63), 2**63 - 1, shape, endpoint=True)
    if values.size >= len(EDGES):
        values.reshape(-1)[: len(EDGES)] = EDGES
    return values


# --- What is computed ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_signs_and_what_is_made_of_them_are_exact_in_the_whole_ring(protocol, shape):
    x, y = ring_values(shape, 1), ring_values(shape, 2) >> 1
    np.testing.assert_array_equal(opened(protocol.msb(shared(protocol, x))), x < 0)
    np.testing.assert_array_equal(opened(protocol.relu(shared(protocol, x))), np.maximum(x, 0))
    np.testing.assert_array_equal(opened(protocol.lsb(shared(protocol, x))), x & 1)
    half = x >> 1  # so that the difference is in the ring
    larger = protocol.maximum(shared(protocol, half), shared(protocol, y))
    np.testing.assert_array_equal(opened(larger), np.maximum(half, y))


def test_signs_hold_at_the_ends_of_the_ring(protocol):
    for _ in range(50):  # anew each time, so that the carries differ
        np.testing.assert_array_equal(opened(protocol.msb(shared(protocol, EDGES))), EDGES < 0)


def test_upstreams_signs_do_not(upstream):
    x = np.full(256, -1)
    assert np.any(upstream.msb(shared(upstream, x)).reveal().to_native().numpy() != 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_exact_in_the_ring(protocol, shape):
    x, y = ring_values(shape, 1), ring_values(shape, 2)
    z = protocol.mul(shared(protocol, x), shared(protocol, y))
    np.testing.assert_array_equal(opened(z), x * y)


def test_products_repeat_what_is_smaller(protocol):
    x, y = ring_values((4, 5), 1), ring_values((5,), 2)
    z = protocol.mul(shared(protocol, x), shared(protocol, y))
    np.testing.assert_array_equal(opened(z), x * y)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (7, 300, 33), (50, 2, 1)], ids=str)
def test_matrix_products_are_exact_in_the_ring(protocol, shape):
    rows, depth, columns = shape
    x, y = ring_values((rows, depth), 1), ring_values((depth, columns), 2)
    z = protocol.matmul(shared(protocol, x), shared(protocol, y))
    np.testing.assert_array_equal(opened(z), x @ y)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 3)], ids=str)
def test_convolutions_are_exact(protocol, padding, strides):
    generator = np.random.default_rng(0)
    x = generator.integers(-(2**20), 2**20, (2, 7, 8, 3))
    w = generator.integers(-(2**20), 2**20, (3, 2, 3, 5))
    expected = tf.nn.conv2d(x.astype(float), w.astype(float), [1, *strides, 1], padding).numpy()
    z = protocol.conv2d_channels_last(shared(protocol, x), shared(protocol, w), strides, padding)
    np.testing.assert_array_equal(opened(z), expected.astype(np.int64))


def test_comparisons_give_what_they_give_in_the_clear(protocol):
    generator = np.random.default_rng(3)
    x, y = np.round(generator.uniform(-2, 2, (2, 500)), 1)
    secrets = [fixed_point.share(protocol, tf.constant(v)) for v in (x, y)]
    for name, expected in {
        "less": x < y,
        "less_equal": x <= y,
        "greater": x > y,
        "greater_equal": x >= y,
    }.items():
        result = getattr(protocol, name)(*secrets)
        np.testing.assert_array_equal(opened(result), expected, err_msg=name)


def test_relu_comes_with_where_it_is_not_zero(protocol):
    x = np.array([-3.0, 0.0, 2.5])
    relu, positive = protocol.relu_with_cmp(fixed_point.share(protocol, tf.constant(x)))
    np.testing.assert_array_equal(fixed_point.reveal(protocol, relu), [0, 0, 2.5])
    np.testing.assert_array_equal(opened(positive), [0, 1, 1])
    assert relu.is_scaled and not positive.is_scaled


def test_masked_and_public_tensors_have_signs_too(protocol):
    x = shared(protocol, EDGES)
    np.testing.assert_array_equal(opened(protocol.msb(protocol.mask(x))), EDGES < 0)
    known = public(protocol, [-5, 0, 7])
    np.testing.assert_array_equal(protocol.msb(known).to_native(), [1, 0, 0])
    larger = protocol.maximum(known, shared(protocol, [1, -9, -9]))
    np.testing.assert_array_equal(opened(larger), [1, 0, 7])
    larger = protocol.maximum(known, public(protocol, [1, 1, 1]))
    np.testing.assert_array_equal(larger.to_native(), [1, 1, 7])


def test_maxima_along_an_axis(protocol):
    x = np.random.default_rng(4).permutation(40).reshape(5, 8).astype(float)
    secret = fixed_point.share(protocol, tf.constant(x))
    largest, place = protocol.reduce_max_with_argmax(secret, axis=1)
    np.testing.assert_array_equal(fixed_point.reveal(protocol, largest), x.max(1))
    np.testing.assert_array_equal(fixed_point.reveal(protocol, place), x.argmax(1))


def test_a_ring_without_our_comparisons_is_refused(local_parties):
    tfe.set_config(engine.configuration(local_parties.devices))
    with pytest.raises(ValueError, match=r"2\^64"):
        securenn.SecureNN(fixedpoint_config="high")
    tfe.set_config(tfe.LocalConfig())


def test_messages_of_different_shapes_are_refused():
    ops, key = securenn.ops, tf.zeros([8], tf.int32)
    three, four = tf.zeros([3], tf.int64), tf.zeros([4], tf.int64)
    rows = tf.zeros([3, 64], tf.uint8)
    for call in (
        lambda: ops.compare_share0(c0=three, c1=four, key01=key, key02=key, step=0),
        lambda: ops.compare_share1(c0=three, c1=three, key01=key, bits=rows[:2], step=0),
        lambda: ops.compare_open(row0=rows, row1=rows[:, :63], r=three, key02=key, step=0),
        lambda: ops.compare_finish1(
            c=three, v=tf.zeros([3], tf.bool), x=three, u1=three, ur1=four, step=0
        ),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must have shape"):
            call()
    with pytest.raises(tf.errors.InvalidArgumentError, match="seed has shape"):
        ops.compare_mask(x=three, key=key[:4], step=0)


# --- What server 2 sees --------------------------------------------------------------------------


class Messages:
    """Stands for the native ops and notes what each is given and gives."""

    def __init__(self, ops):
        self._ops = ops
        self.calls = {}

    def __getattr__(self, name):
        op = getattr(self._ops, name)

        def noting(**inputs):
            outputs = op(**inputs)
            self.calls.setdefault(name, []).append((inputs, outputs))
            return outputs

        return noting


def by_row(block):
    """[rows, 64] as the ops lay it out, in whole blocks, with a number's places beside it."""
    return block.numpy().reshape(-1, 64, 64).transpose(0, 2, 1).reshape(-1, 64).astype(np.int64)


def view(monkeypatch, protocol, x):
    """What server 2 deals to server 1 and gets from both servers, modulo `prime`."""
    messages = Messages(securenn.ops)
    monkeypatch.setattr(securenn, "ops", messages)
    protocol.msb(shared(protocol, np.full(ROWS, x)))
    ((_, (_, dealt)),) = messages.calls["compare_deal"]
    ((got, _),) = messages.calls["compare_open"]
    return types.SimpleNamespace(
        prime=127, bits1=by_row(dealt), row0=by_row(got["row0"]), row1=by_row(got["row1"])
    )


def upstream_view(protocol, x, rows=ROWS):
    dealt, got = [], []
    share, reconstruct = protocol._share_and_wrap, protocol._reconstruct

    def noting_share(secret, is_scaled):
        dealt.append(share(secret, is_scaled))
        return dealt[-1]

    def noting_reconstruct(*shares):
        got.append([s.value.numpy() for s in shares])
        return reconstruct(*shares)

    secret = shared(protocol, np.full(rows, x))
    protocol._share_and_wrap, protocol._reconstruct = noting_share, noting_reconstruct
    protocol.msb(secret)
    bits0, bits1 = (s.value.numpy() for s in dealt[0].unwrapped)
    ((row0, row1),) = got
    return types.SimpleNamespace(prime=107, bits0=bits0, bits1=bits1, row0=row0, row1=row1)


def uniform(values, size):
    return scipy.stats.chisquare(np.bincount(values.reshape(-1), minlength=size)).pvalue > 1e-7


def places_of_zeros(seen):
    """The places, and that no row has two zeros."""
    rows, places = np.nonzero((seen.row0 + seen.row1) % seen.prime == 0)
    assert len(np.unique(rows)) == len(rows)
    assert abs(len(rows) / len(seen.row0) - 0.5) < 0.03  # the direction is hidden
    return places


def share_that_is_known(seen):
    """Of the rows whose top bit was dealt as 0 to server 1, the share that come with a zero.

    Server 1's number at the top place is that share, up to its sign, times a factor, unless the
    shares are made anew. By chance 40% of the rows have a zero, and 45% modulo 107.
    """
    rows = seen.row1[seen.bits1[:, 63] == 0]
    assert len(rows) > 50
    return np.mean(np.any(rows == 0, axis=1))


SECRETS = [0, 1, -1, 2**13, -(2**40), 2**62, -(2**63)]


@pytest.mark.parametrize("secret", SECRETS)
def test_server_2_sees_uniform_numbers_whatever_the_secret(monkeypatch, protocol, secret):
    seen = view(monkeypatch, protocol, secret)
    assert uniform(places_of_zeros(seen), 64)
    sums = (seen.row0 + seen.row1) % 127
    for numbers in (seen.row0, seen.row1, seen.row0[sums == 0], seen.bits1):
        assert uniform(numbers, 127) and numbers.max() == 126
    assert uniform(sums[sums > 0] - 1, 126)
    for place in (0, 31, 62, 63):
        assert uniform(seen.row0[:, place], 127) and uniform(seen.row1[:, place], 127)
    assert abs(share_that_is_known(seen) - 0.4) < 0.2


def test_upstreams_server_2_sees_where_the_highest_different_bit_is(upstream):
    assert not uniform(places_of_zeros(upstream_view(upstream, 1)), 64)


def test_upstreams_server_2_knows_the_shares_that_it_gets(upstream):
    assert share_that_is_known(upstream_view(upstream, 1)) == 1


def consistent(seen, row, beta, place, sums, bits):
    """Yields the bits of c + beta that explain what server 2 dealt and got, from `place` down."""
    if place < 0:
        yield bits
        return
    b0, b1 = int(seen.bits0[row, place]), int(seen.bits1[row, place])
    sign = -1 if beta else 1
    for s in (0, 1):
        y0, y1 = sign * (s - b0) + 1 + sums[0], -sign * b1 + sums[1]
        got0, got1 = int(seen.row0[row, place]), int(seen.row1[row, place])
        if (got0 * y1 - got1 * y0) % seen.prime == 0:
            more = (1 - b0, -b1) if s else (b0, b1)
            after = (sums[0] + more[0], sums[1] + more[1])
            yield from consistent(seen, row, beta, place - 1, after, bits | s << place)


def test_upstreams_server_2_could_compute_the_secret(upstream):
    secret, modulus = 123_456_789, 2**64 - 1
    seen = upstream_view(upstream, secret, rows=4)
    for row in range(4):
        r = sum(int(b) % seen.prime << i for i, b in enumerate(seen.bits0[row] + seen.bits1[row]))
        found = {
            (s - beta - r) * pow(2, -1, modulus) % modulus
            for beta in (0, 1)
            for s in consistent(seen, row, beta, 63, (0, 0), 0)
        }
        # As upstream takes shares to the other ring, the secret may have become one more.
        assert len(found) < 9 and found & {secret, secret + 1}


# --- What servers 0 and 1 see --------------------------------------------------------------------


@pytest.mark.parametrize("secret", SECRETS)
def test_servers_0_and_1_see_uniform_numbers_whatever_the_secret(monkeypatch, protocol, secret):
    messages = Messages(securenn.ops)
    monkeypatch.setattr(securenn, "ops", messages)
    x = shared(protocol, np.full(ROWS, secret))
    results = protocol._sign_and_product(x)
    (got, (_, c, v)), *_ = messages.calls["compare_share0"]
    (_, (u1, ur1)), *_ = messages.calls["compare_open"]
    words = [got["c0"], got["c1"], c, u1, ur1]
    for result in results:
        words += [share.value for share in result.unwrapped]
    for number, word in enumerate(words):
        raw = word.numpy().view(np.uint64)
        for byte in (0, 3, 7):
            part = (raw >> np.uint64(8 * byte)) & np.uint64(255)
            assert uniform(part.astype(np.int64), 256), (number, byte)
    assert abs(np.mean(v.numpy()) - 0.5) < 0.03


@pytest.mark.parametrize("secret", SECRETS)
def test_factors_and_shares_of_a_product_are_uniform_whatever_the_secret(
    monkeypatch, protocol, secret
):
    messages = Messages(securenn.ops)
    monkeypatch.setattr(securenn, "ops", messages)
    x = shared(protocol, np.full((128, 128), secret))
    z = protocol.matmul(x, x)
    _, *seen = messages.calls["int64_mat_mul"]
    words = [word for inputs, _ in seen for word in inputs.values()]
    assert len(words) == 8  # two products at each server
    for word in (*words, *(share.value for share in z.unwrapped)):
        raw = word.numpy().view(np.uint64)
        for byte in (0, 3, 7):
            part = (raw >> np.uint64(8 * byte)) & np.uint64(255)
            assert uniform(part.astype(np.int64), 256)


def test_a_chi_square_that_would_see_a_bias():
    generator = np.random.default_rng(0)
    assert not uniform(generator.integers(0, 60, ROWS), 64)
    assert not uniform(generator.integers(0, 126, ROWS * 64), 127)


# --- Fresh randomness ----------------------------------------------------------------------------


def test_no_call_of_a_traced_function_draws_what_another_drew(monkeypatch, protocol):
    messages = Messages(securenn.ops)
    monkeypatch.setattr(securenn, "ops", messages)
    weight = fixed_point.share(protocol, tf.ones([32, 32]))
    protocol.msb(weight)  # draws keys that no graph may use
    messages.calls.clear()

    @tf.function(autograph=False)
    def run(x):
        secret = fixed_point.share(protocol, x)
        signs = [protocol.msb(secret), protocol.msb(secret + secret)]
        products = [protocol.matmul(secret, weight), secret * secret]
        images, kernel = (protocol.reshape(secret, shape) for shape in ([4, 8, 8, 4], [8, 8, 4, 4]))
        products.append(protocol.conv2d_channels_last(images, kernel, (1, 1), "SAME"))
        masked = [protocol.mask(x).unwrapped for x in (secret, products[0])]
        shares = [share.value for x in (*signs, *products) for share in x.unwrapped]
        shares += [alpha.value for *_, alpha, _ in masked]
        shares += [outputs[0] for _, outputs in messages.calls["compare_deal"]]
        dealt = [numbers for _, numbers in messages.calls["common_numbers"]]
        shares += [x for x in dealt if x.device == protocol.server_2.device_name]
        return shares, [inputs["row0"] for inputs, _ in messages.calls["compare_open"]]

    x = tf.ones([32, 32], tf.float64)
    (first, first_rows), (second, second_rows) = run(x), run(x)
    numbers = np.concatenate([x.numpy().reshape(-1) for x in (*first, *second)])
    assert len(np.unique(numbers)) == len(numbers)
    rows = [row.numpy() for row in (*first_rows, *second_rows)]
    for i, a in enumerate(rows):
        for b in rows[:i]:
            assert np.mean(a == b) < 0.02


def test_no_iteration_of_a_loop_draws_what_another_drew(protocol):
    @tf.function(autograph=False)
    def run():
        protocol.msb(shared(protocol, [1]))  # draws keys that the loop may not use

        def body(i, drawn):
            sign = protocol.msb(shared(protocol, [1, -1, 0, 5]))
            return i + 1, drawn.write(i, tf.stack([share.value for share in sign.unwrapped]))

        drawn = tf.TensorArray(tf.int64, 6, element_shape=[2, 4])
        return tf.while_loop(lambda i, _: i < 6, body, (0, drawn))[1].stack()

    drawn = run().numpy()
    np.testing.assert_array_equal(drawn.sum(axis=1), np.tile([0, 1, 0, 0], (6, 1)))
    assert len(np.unique(drawn)) == drawn.size


# --- What travels --------------------------------------------------------------------------------


def traced(function):
    return tf.function(function, autograph=False).get_concrete_function().graph


def holders(tensor):
    """The devices of the operations that read a tensor, also by way of a copy."""
    found = {tensor.device}
    for op in tensor.consumers():
        found.add(op.device)
        if op.type == "Identity":
            found |= holders(op.outputs[0])
    return found - {""}


def test_a_key_is_with_the_two_servers_that_it_is_for(protocol, local_parties):
    graph = traced(lambda: [s.value for s in protocol.msb(shared(protocol, EDGES)).unwrapped])
    devices = [local_parties.devices[f"server{i}"] for i in range(3)]
    deal, hide = (
        next(op for op in graph.get_operations() if op.type == kind)
        for kind in ("CompareDeal", "CompareShare0")
    )

    def drawn(tensor):
        return drawn(tensor.op.inputs[0]) if tensor.op.type == "Identity" else tensor

    keys = {(0, 1): hide.inputs[2], (0, 2): deal.inputs[0], (1, 2): deal.inputs[1]}
    for pair, tensor in keys.items():
        assert drawn(tensor).op.type == "SecureSeed"
        assert holders(drawn(tensor)) == {devices[i] for i in pair}


def test_a_relu_takes_three_rounds_and_224_bytes_a_number(protocol, local_parties):
    count = 100

    def run():
        x = fixed_point.share(protocol, tf.ones([count]))
        return [share.value for share in protocol.relu(x).unwrapped]

    traffic = communication.measure(traced(run), local_parties)
    assert traffic.rounds == 1 + 3  # the first is the client's
    sent = {name: traffic.bytes_sent[f"server{name}"] for name in range(3)}
    keys = 32
    # c and a row from each; the bits of r, and shares of u and u r, from server 2.
    assert sum(sent.values()) <= count * (2 * (8 + 64) + 64 + 16) + 3 * keys
    assert sent[2] >= count * (64 + 16)


def test_a_product_takes_a_round_in_which_server_2_sends_one_tensor(protocol, local_parties):
    def run():
        x, y = (fixed_point.share(protocol, tf.ones(shape)) for shape in ([2, 30], [30, 3]))
        return [share.value for share in fixed_point.matmul(protocol, x, y).unwrapped]

    traffic = communication.measure(traced(run), local_parties)
    assert traffic.rounds == 1 + 1  # the first is the client's
    keys = 2 * 32
    assert traffic.bytes_sent["server2"] <= 8 * 2 * 3 + keys
    assert traffic.bytes_sent["server0"] <= 8 * (2 * 30 + 30 * 3) + keys


def test_shares_stay_apart_in_a_product_with_a_public_matrix(protocol, local_parties):
    x = np.arange(6.0).reshape(2, 3)

    def run():
        secret = fixed_point.share(protocol, tf.constant(x))
        return protocol.matmul(secret, protocol.define_constant(x.T.copy()))

    def untruncated():
        secret = fixed_point.raw(protocol, fixed_point.share(protocol, tf.constant(x)))
        whole = protocol.define_constant(x.T.copy(), apply_scaling=False)
        return [share.value for share in protocol.matmul(secret, whole).unwrapped]

    sent = communication.measure(traced(untruncated), local_parties).bytes_sent
    assert sent["server0"] == sent["server1"] == 0
    np.testing.assert_allclose(fixed_point.reveal(protocol, run()), x @ x.T, atol=1e-2)


@pytest.mark.parametrize("amount", [1, 13, 40, 62])
def test_a_truncation_never_fails_for_any_number_that_the_ring_has_room_for(protocol, amount):
    """The servers' own, without server 2, fails for a number x once in 2^64 / |x| times."""
    generator = np.random.default_rng(amount)
    x = generator.integers(-(2**62), 2**62, 100_000)
    x[:4] = [-(2**62), 2**62 - 1, 0, -1]

    def run():
        secret = protocol.define_private_input(
            "client", lambda: tf.constant(x), apply_scaling=False
        )
        return fixed_point.reveal(protocol, protocol.truncate(secret, amount=amount))

    difference = tf.function(run, autograph=False)().numpy() - (x >> amount)
    assert set(np.unique(difference)) <= {0, 1}
    # What is left over decides how often it is rounded up.
    assert difference.mean() == pytest.approx(np.mean((x % 2**amount) / 2**amount), abs=0.01)


def test_a_truncation_takes_a_round(protocol, local_parties):
    def run():
        x = protocol.define_private_input("client", lambda: tf.ones([100]), apply_scaling=False)
        return [share.value for share in protocol.truncate(x, amount=13).unwrapped]

    traffic = communication.measure(traced(run), local_parties)
    assert traffic.rounds == 1 + 1  # the first is the client's
    keys = 2 * 32
    # The masked number goes both ways; server 2 sends what is left of two shares.
    assert traffic.bytes_sent["server0"] + traffic.bytes_sent["server1"] <= 2 * 8 * 100 + keys
    assert traffic.bytes_sent["server2"] <= 2 * 8 * 100 + keys
