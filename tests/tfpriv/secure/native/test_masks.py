"""Every number that a server sends is masked: by the step, and by each key that it is masked with.

Products of shares look random even without a mask, so their distribution does not show that there
is one. Here the shares stay the same and the masks change.
"""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.secure import native

ops = native.load()
GENERATOR = np.random.default_rng(0)


def ring(*shape):
    return tf.constant(GENERATOR.integers(-(2**63), 2**63 - 1, shape))


def unsigned(dtype, count=3000):
    return tf.constant(GENERATOR.integers(0, 2**31, count).astype(dtype))


def bits(count=3000):
    return tf.constant(GENERATOR.integers(0, 2, count).astype(bool))


A, B, C, D = (ring(3000) for _ in range(4))
M, N, P, Q = ring(40, 7), ring(40, 7), ring(7, 30), ring(7, 30)
IMAGES, KERNEL = (ring(2, 6, 6, 2), ring(2, 6, 6, 2)), (ring(3, 3, 2, 20), ring(3, 3, 2, 20))
BOTH = ("key", "key_next")

# The op, its inputs, the keys that mask its first output, and how many of its bits are sent on.
MASKED = {
    "shares_mul": ({"x": A, "x_next": B, "y": C, "y_next": D}, BOTH, 64),
    "shares_mat_mul": ({"x": M, "x_next": N, "y": P, "y_next": Q}, BOTH, 64),
    "shares_conv2d": (
        dict(zip(("x", "x_next", "y", "y_next"), (*IMAGES, *KERNEL), strict=True))
        | {"strides": [1, 1], "padding": "SAME"},
        BOTH,
        64,
    ),
    "shares_and": ({"x": A, "x_next": B, "y": C, "y_next": D}, BOTH, 64),
    "sign_share": ({"x0": A, "x1": B}, ("key",), 64),
    "sign_generate": ({"factors": [A, B]}, BOTH, 64),
    "sign_merge_first": ({"g": A, "g_next": B, "p": C, "p_next": D, "server": 0}, BOTH, 64),
    "sign_merge_64": ({"x": A, "x_next": B, "Half": tf.uint32}, BOTH, 32),
    "sign_merge_32": (
        {"x": unsigned(np.uint32), "x_next": unsigned(np.uint32), "Half": tf.uint16},
        BOTH,
        16,
    ),
    "sign_merge_16": (
        {"x": unsigned(np.uint16), "x_next": unsigned(np.uint16), "Half": tf.uint8},
        BOTH,
        8,
    ),
    "sign_merge_8": (
        {"x": unsigned(np.uint8), "x_next": unsigned(np.uint8), "Half": tf.uint8},
        BOTH,
        4,
    ),
    "sign_finish": ({"x": unsigned(np.uint8), "x_next": unsigned(np.uint8), "p": A}, BOTH, 1),
    "bit_share": ({"b0": bits(), "b1": bits()}, ("key_next",), 64),
    "bit_mask": ({"b2": bits()}, BOTH, 64),
    "bit_finish": ({"b2": bits(), "share": A}, BOTH, 64),
    "truncation_deal": ({"x": A, "amount": 16}, BOTH, 64),
    "truncation_mask": ({"shares": [A, B], "lift": True}, ("key",), 64),
    "truncation_finish0": ({"c0": A, "c1": B, "amount": 16, "lift": True}, ("key",), 64),
    "truncation_finish1": ({"c0": A, "c1": B, "s1": C, "t1": D, "amount": 16}, ("key",), 64),
}
KEYS = {"key": tf.range(8), "key_next": tf.range(8, 16)}


def sent(name, step, keys):
    inputs, _, width = MASKED[name]
    op = getattr(ops, name.rstrip("_0123456789") if "merge" in name else name)
    has = inspect.signature(op).parameters
    result = op(**inputs, step=step, **{k: v for k, v in keys.items() if k in has})
    first = result[0] if isinstance(result, tuple) else result
    words = first.numpy().reshape(-1)
    return words.astype(np.uint8) & (2**width - 1) if width < 8 else words


def share_that_changed(name, before, after):
    width = MASKED[name][2]
    # A fresh mask leaves a word as it was once in 2^width times.
    return np.mean(before != after), 1 - 2.0**-width


@pytest.mark.parametrize("name", MASKED)
def test_the_same_numbers_look_different_in_another_step(name):
    changed, expected = share_that_changed(name, sent(name, 0, KEYS), sent(name, 1, KEYS))
    assert abs(changed - expected) < 0.05
    np.testing.assert_array_equal(sent(name, 7, KEYS), sent(name, 7, KEYS))


@pytest.mark.parametrize(("name", "key"), [(n, k) for n, (_, ks, _) in MASKED.items() for k in ks])
def test_the_same_numbers_look_different_under_another_key(name, key):
    other = KEYS | {key: KEYS[key] + 1}
    changed, expected = share_that_changed(name, sent(name, 0, KEYS), sent(name, 0, other))
    assert abs(changed - expected) < 0.05
