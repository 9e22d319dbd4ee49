"""The hot parts of ABY3 with one native op for what a server computes between two messages.

tf-encrypted writes each step of the protocol as many TensorFlow operations: a comparison of 64-bit
numbers is some seven hundred. Here the same steps are a few ops each; the formulas are beside
their code, in native/aby3_ops.cc and native/product_ops.cc. Only rings of 64 bits have them.

Each function stands for the one of the same name in tf_encrypted.protocol.aby3.aby3, and is used
where its condition holds.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfpriv.secure import native
from tfpriv.secure.protocols.engine import PrivateTensor, PublicTensor, aby3_tensors, tensors, tfe

ops = native.load()

_ARITHMETIC = aby3_tensors.ShareType.ARITHMETIC
_BOOLEAN = aby3_tensors.ShareType.BOOLEAN
_RING = tensors.factories[64]
_BITS = tensors.factories[tf.bool]

# By name of the function: the condition on its tensors, and what to use instead.
FUNCTIONS: dict[str, tuple[Callable[..., bool], Callable[..., Any]]] = {}


def _instead_of(name, condition):
    def register(function):
        FUNCTIONS[name] = (condition, function)
        return function

    return register


def _in_ring(*shared):
    return all(x.backing_dtype is _RING and x.share_type == _ARITHMETIC for x in shared)


def _same_shape(x, y):
    return x.shape.is_fully_defined() and x.shape == y.shape


def _on(protocol, server):
    return tf.device(protocol.servers[server].device_name)


def _keys(protocol, server):
    key, key_next = protocol.pairwise_keys()[server]
    return {"key": key, "key_next": key_next}


def _next_step(protocol):
    """Returns a number that no other step with the same keys has."""
    step = int(protocol.pairwise_nonces()[0])
    protocol._update_pairwise_nonces()
    return step


def _values(shared):
    """Returns the shares as TensorFlow tensors: [server][own, next]."""
    return [[share.value for share in pair] for pair in shared.unwrapped]


def _shared(protocol, shares, is_scaled, share_type=_ARITHMETIC, factory=_RING):
    wrapped = [[factory.tensor(share, encode=False) for share in pair] for pair in shares]
    return aby3_tensors.ABY3PrivateTensor(protocol, wrapped, is_scaled, share_type)


def _reshare(protocol, parts):
    """Sends each server's share to the one before it; returns the pairs."""
    shares = []
    for server in range(3):
        with _on(protocol, server):
            shares.append([parts[server], tf.identity(parts[(server + 1) % 3])])
    return shares


def _multiplied(protocol, op, x, y, **attributes):
    """Has each server compute its part of a product of some kind, and returns the pairs."""
    step = _next_step(protocol)
    xs, ys = _values(x), _values(y)
    parts = []
    for server in range(3):
        with _on(protocol, server):
            parts.append(
                op(
                    x=xs[server][0],
                    x_next=xs[server][1],
                    y=ys[server][0],
                    y_next=ys[server][1],
                    step=step,
                    **_keys(protocol, server),
                    **attributes,
                )
            )
    return _reshare(protocol, parts)


def _product(protocol, op, x, y, **attributes):
    shares = _multiplied(protocol, op, x, y, **attributes)
    z = _shared(protocol, shares, x.is_scaled or y.is_scaled)
    return protocol.truncate(z) if x.is_scaled and y.is_scaled else z


@_instead_of("_mul_private_private", lambda x, y: _in_ring(x, y) and _same_shape(x, y))
def multiply(protocol: tfe.protocol.ABY3, x: PrivateTensor, y: PrivateTensor) -> PrivateTensor:
    return _product(protocol, ops.shares_mul, x, y)


@_instead_of(
    "_matmul_private_private",
    lambda x, y: _in_ring(x, y) and x.shape.rank == 2 and y.shape.rank == 2,
)
def matmul(protocol: tfe.protocol.ABY3, x: PrivateTensor, y: PrivateTensor) -> PrivateTensor:
    return _product(protocol, ops.shares_mat_mul, x, y)


@_instead_of("_conv2d_private_private", lambda x, w, *_: _in_ring(x, w))
def conv2d(
    protocol: tfe.protocol.ABY3,
    x: PrivateTensor,
    w: PrivateTensor,
    strides: Sequence[int],
    padding: str,
    data_format: str = "NCHW",
) -> PrivateTensor:
    return _product(
        protocol,
        ops.shares_conv2d,
        x,
        w,
        strides=list(strides),
        padding=padding,
        data_format=data_format,
    )


@_instead_of("_and_private_private", lambda x, y: _same_shape(x, y) and x.backing_dtype.nbits <= 64)
def and_(protocol: tfe.protocol.ABY3, x: PrivateTensor, y: PrivateTensor) -> PrivateTensor:
    assert x.share_type == y.share_type == _BOOLEAN and x.backing_dtype == y.backing_dtype
    shares = _multiplied(protocol, ops.shares_and, x, y)
    return _shared(protocol, shares, x.is_scaled or y.is_scaled, _BOOLEAN, x.backing_dtype)


@_instead_of("_add_public_public", lambda x, y: True)
def add_public(protocol: tfe.protocol.ABY3, x: PublicTensor, y: PublicTensor) -> PublicTensor:
    """Adds public tensors at each server; tf-encrypted's own does at the caller, and then fails."""
    assert x.is_scaled == y.is_scaled
    sums = []
    for server, (first_share, other) in enumerate(zip(x.unwrapped, y.unwrapped, strict=True)):
        with _on(protocol, server):
            sums.append(first_share + other)
    return aby3_tensors.ABY3PublicTensor(protocol, sums, x.is_scaled)


@_instead_of("_msb_private", _in_ring)
def msb(protocol: tfe.protocol.ABY3, x: PrivateTensor) -> PrivateTensor:
    """Returns the sign of x as a shared bit, in eight rounds."""
    (x0, x1), (_, x2_on_1), (x2_on_2, _) = _values(x)
    keys = [_keys(protocol, server) for server in range(3)]
    step = _next_step(protocol)
    with _on(protocol, 0):
        share, mask_on_0 = ops.sign_share(x0=x0, x1=x1, key=keys[0]["key_next"], step=step)
    with _on(protocol, 1):
        mask_on_1, v_on_1 = ops.sign_mask(x2=x2_on_1, key=keys[1]["key"], step=step)
    with _on(protocol, 2):
        v_on_2 = ops.sign_reverse(x2=x2_on_2)
        share_on_2 = tf.identity(share)
    propagate = [[share, mask_on_0], [mask_on_1, v_on_1], [v_on_2, share_on_2]]
    factors = [[share], [mask_on_1, v_on_1], [share_on_2, v_on_2]]
    parts = []
    for server in range(3):
        with _on(protocol, server):
            parts.append(ops.sign_generate(factors=factors[server], step=step, **keys[server]))
    generate = _reshare(protocol, parts)
    parts = []
    for server in range(3):
        (g, g_next), (p, p_next) = generate[server], propagate[server]
        with _on(protocol, server):
            parts.append(
                ops.sign_merge_first(
                    g=g, g_next=g_next, p=p, p_next=p_next, server=server, step=step, **keys[server]
                )
            )
    for half in (tf.uint32, tf.uint16, tf.uint8, tf.uint8):
        pairs = _reshare(protocol, parts)
        parts = []
        for server, (x_own, x_next) in enumerate(pairs):
            with _on(protocol, server):
                parts.append(
                    ops.sign_merge(x=x_own, x_next=x_next, Half=half, step=step, **keys[server])
                )
    pairs = _reshare(protocol, parts)
    parts = []
    for server, (x_own, x_next) in enumerate(pairs):
        with _on(protocol, server):
            parts.append(
                ops.sign_finish(
                    x=x_own, x_next=x_next, p=propagate[server][0], step=step, **keys[server]
                )
            )
    return _shared(protocol, _reshare(protocol, parts), False, _BOOLEAN, _BITS)


@_instead_of("_b2a_single_private", lambda bits: bits.backing_dtype is _BITS)
def bits_to_numbers(protocol: tfe.protocol.ABY3, bits: PrivateTensor) -> PrivateTensor:
    """Returns shared bits as shared numbers 0 and 1, in two rounds."""
    (b0, b1), (_, b2_on_1), (b2_on_2, _) = _values(bits)
    keys = [_keys(protocol, server) for server in range(3)]
    step = _next_step(protocol)
    with _on(protocol, 0):
        share, number_0 = ops.bit_share(b0=b0, b1=b1, step=step, **keys[0])
    with _on(protocol, 1):
        number_1 = ops.bit_mask(b2=b2_on_1, step=step, **keys[1])
    with _on(protocol, 2):
        number_2 = ops.bit_finish(b2=b2_on_2, share=share, step=step, **keys[2])
    return _shared(protocol, _reshare(protocol, [number_0, number_1, number_2]), False)


@_instead_of(
    "_mul_ab_private_private",
    lambda x, bits: _in_ring(x) and bits.backing_dtype is _BITS and _same_shape(x, bits),
)
def multiply_by_bits(
    protocol: tfe.protocol.ABY3, x: PrivateTensor, bits: PrivateTensor
) -> PrivateTensor:
    return _product(protocol, ops.shares_mul, x, bits_to_numbers(protocol, bits))


@_instead_of(
    "_mul_ab_public_private",
    lambda x, bits: x.backing_dtype is _RING and bits.backing_dtype is _BITS,
)
def multiply_public_by_bits(
    protocol: tfe.protocol.ABY3, x: PublicTensor, bits: PrivateTensor
) -> PrivateTensor:
    return protocol.mul(x, bits_to_numbers(protocol, bits))


@_instead_of("_truncate_heuristic_private", lambda x, _=None: _in_ring(x))
def truncate(
    protocol: tfe.protocol.ABY3, x: PrivateTensor, amount: int | None = None
) -> PrivateTensor:
    """Divides x, between -2^62 and 2^62, by 2^amount; what is left over rounds at random."""
    if amount is None:
        amount = protocol.fixedpoint_config.precision_fractional
    return _truncate(protocol, x, amount, lift=True)


@_instead_of("_truncate_msb0_secureq8_private", lambda x, _=None: _in_ring(x))
def truncate_nonnegative(
    protocol: tfe.protocol.ABY3, x: PrivateTensor, amount: int | None = None
) -> PrivateTensor:
    """Divides x, between 0 and 2^63, by 2^amount; what is left over rounds at random."""
    if amount is None:
        amount = protocol.fixedpoint_config.precision_fractional
    return _truncate(protocol, x, amount, lift=False)


def _truncate(protocol, x, amount, lift):
    (x0, x1), (_, x2_on_1), (x2_on_2, _) = _values(x)
    keys = [_keys(protocol, server) for server in range(3)]
    step = _next_step(protocol)
    with _on(protocol, 2):
        s1, t1, y2_on_2, y0_on_2 = ops.truncation_deal(
            x=x2_on_2, step=step, amount=amount, **keys[2]
        )
    with _on(protocol, 0):
        c0 = ops.truncation_mask(shares=[x0, x1], key=keys[0]["key"], step=step, lift=lift)
    with _on(protocol, 1):
        c1 = ops.truncation_mask(shares=[x2_on_1], key=keys[1]["key_next"], step=step, lift=False)
    with _on(protocol, 0):
        part_0, y0 = ops.truncation_finish0(
            c0=c0, c1=c1, key=keys[0]["key"], step=step, amount=amount, lift=lift
        )
    with _on(protocol, 1):
        part_1, y2 = ops.truncation_finish1(
            c0=c0, c1=c1, s1=s1, t1=t1, key=keys[1]["key_next"], step=step, amount=amount
        )
    with _on(protocol, 0):
        y1_on_0 = part_0 + part_1
    with _on(protocol, 1):
        y1_on_1 = part_0 + part_1
    return _shared(protocol, [[y0, y1_on_0], [y1_on_1, y2], [y2_on_2, y0_on_2]], x.is_scaled)
