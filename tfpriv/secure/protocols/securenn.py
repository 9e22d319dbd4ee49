"""SecureNN (Wagh, Gupta and Chandran 2019, https://eprint.iacr.org/2018/442) as tf-encrypted has
it, with comparisons of our own.

Servers 0 and 1 hold x = x0 + x1 modulo 2^64. The sign of x comes in three rounds:

1. Server 2 gives the others shares of a random r, and shares modulo a small prime of the bits of r.
   They open c = x + r to each other.
2. The sign of x = c - r is the xor of the top bits of c and r and of whether the lower bits of r
   are greater than those of c. Servers 0 and 1 compare as in the paper's PrivateCompare (Algorithm
   3), the direction hidden from server 2, who finds a zero in a row of 64 numbers, or none.
3. Server 2 shares the bit u that it then has. The sign is u xor v, with v known to servers 0 and 1,
   and sign(x) x = v x + (1 - 2v) (u c - u r) takes no more than shares of u r beside those of u.

So a ReLU or a maximum needs no product of shares. Unlike the paper's ComputeMSB the numbers stay
in the ring of 2^64, where every sign is exact. tf-encrypted takes the shares to the ring of
2^64 - 1 as they are, which makes -1 nonnegative at times.

It also leaves out what keeps server 2, who dealt the bits of r, from learning c by comparing:
the places of a row are not permuted, so the place of the zero is the highest bit at which r and c
differ, and the shares that arrive are those dealt, times factors that are the same on both sides,
so their ratios tell each bit of c. Here the places move at random and the shares are made anew.

A product of x and y takes a round. Server 2 draws a and b and gives shares of them and of a b to
the others, who open x - a and y - b; then x y = (x - a) y + a (y - b) + a b. All that it gives but
one share of a b is drawn from keys.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfpriv.secure import native
from tfpriv.secure.protocols.engine import PrivateTensor, PublicTensor, tensors, tfe
from tfpriv.secure.protocols.per_graph import PerGraph
from tfpriv.secure.protocols.protocol import Protocol

ops = native.load()

_RING = tensors.int64factory
_PAIRS = ((0, 1), (0, 2), (1, 2))
_Private = tfe.protocol.pond.PondPrivateTensor
_Masked = tfe.protocol.pond.PondMaskedTensor


class SecureNN(tfe.protocol.SecureNN, Protocol):
    """tf-encrypted's SecureNN with signs, ReLU and maxima that server 2 learns nothing from.

    The keys that two servers have in common are drawn anew in each graph, as in
    `tfpriv.secure.protocols.aby3.ABY3`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.tensor_factory is not _RING:
            raise ValueError(
                "comparisons are for the ring of 2^64 only; give a fixedpoint_config of 64 bits, "
                "such as tensors.fixed64_ni."
            )
        self._drawn = PerGraph()

    def msb(self, x: PrivateTensor | PublicTensor) -> PrivateTensor | PublicTensor:
        """Returns the sign of x, 0 or 1, not scaled."""
        if not _is_private(x):
            return super().msb(x)
        return self._sign_and_product(x)[0]

    def is_negative(self, x: PrivateTensor) -> PrivateTensor:
        """See `Protocol`."""
        return self.msb(x)

    def with_scale(self, x: PrivateTensor, *, is_scaled: bool) -> PrivateTensor:
        """See `Protocol`."""
        return type(x)(self, *x.unwrapped, is_scaled)

    def put_together(self, x: PrivateTensor, player: tfe.player.Player) -> tf.Tensor:
        """See `Protocol`."""
        del player  # What tf-encrypted adds up is added where it is asked for.
        return self._reconstruct(*x.unwrapped)

    def truncate(
        self, x: PrivateTensor | PublicTensor, amount: int | None = None
    ) -> PrivateTensor | PublicTensor:
        """Divides x, between -2^62 and 2^62, by 2^amount; what is left over rounds at random.

        tf-encrypted's own has each server divide its share, which fails with a probability that
        grows with x, and then by 2^50. Here server 2 deals a mask, as in
        `tfpriv.secure.protocols.aby3`, and nothing fails.
        """
        if not _is_private(x):
            return tfe.protocol.SecureNN.truncate(self, x)
        if amount is None:
            amount = self.fixedpoint_config.precision_fractional
        keys, step = self._next_step()
        key02, key12 = keys[0, 2], keys[1, 2]
        x0, x1 = (share.value for share in _shares(x))
        with self._on(2):
            s1, t1, _, _ = ops.truncation_deal(
                x=tf.zeros(x.shape, tf.int64),
                key=key12[2],
                key_next=key02[2],
                step=step,
                amount=amount,
            )
        with self._on(0):
            c0 = ops.truncation_mask(shares=[x0], key=key02[0], step=step, lift=True)
        with self._on(1):
            c1 = ops.truncation_mask(shares=[x1], key=key12[1], step=step, lift=False)
        with self._on(0):
            part, y = ops.truncation_finish0(
                c0=c0, c1=c1, key=key02[0], step=step, amount=amount, lift=True
            )
            z0 = _RING.tensor(part + y)
        with self._on(1):
            part, y = ops.truncation_finish1(
                c0=c0, c1=c1, s1=s1, t1=t1, key=key12[1], step=step, amount=amount
            )
            z1 = _RING.tensor(part + y)
        return _Private(self, z0, z1, x.is_scaled)

    def lsb(self, x: PrivateTensor | PublicTensor) -> PrivateTensor | PublicTensor:
        """Returns the lowest bit of x, 0 or 1, not scaled."""
        if not _is_private(x):
            return super().lsb(x)
        # The sign of x 2^63.
        shares = []
        for server, share in enumerate(_shares(x)):
            with self._on(server):
                shares.append(_RING.tensor(tf.bitwise.left_shift(share.value, 63)))
        return self.msb(_Private(self, *shares, False))

    def relu_with_cmp(
        self, x: PrivateTensor | PublicTensor, **kwargs: Any
    ) -> tuple[PrivateTensor | PublicTensor, PrivateTensor | PublicTensor]:
        """Returns max(x, 0), and 1 where x is not negative and 0 elsewhere."""
        if not _is_private(x):
            return super().relu_with_cmp(x, **kwargs)
        sign, negative_part = self._sign_and_product(x)
        return x - negative_part, self.bitwise_not(sign)

    def maximum(
        self, x: PrivateTensor | PublicTensor, y: PrivateTensor | PublicTensor
    ) -> PrivateTensor | PublicTensor:
        """Returns the greater of x and y, of which one at least is private."""
        difference = x - y
        if not _is_private(difference):
            return super().maximum(x, y)
        return x - self._sign_and_product(difference)[1]

    def dispatch(self, base_name: str, *args: Any, container: object = None, **kwargs: Any) -> Any:
        """Finds the function for the kinds of the tensors."""
        kinds = [arg.dispatch_id for arg in args if hasattr(arg, "dispatch_id")]
        if base_name == "matmul" and kinds == ["private", "public"]:
            return self._matmul_by_public(*args)
        if kinds == ["private", "private"] and all(x.backing_dtype is _RING for x in args):
            if base_name == "mul":
                return self._product(tf.multiply, *args)
            if base_name == "matmul" and all(x.shape.rank == 2 for x in args):
                return self._product(lambda x, y: ops.int64_mat_mul(x=x, y=y), *args)
        return super().dispatch(base_name, *args, container=container, **kwargs)

    def _matmul_by_public(self, x, y):
        # tf-encrypted's own computes both shares of the product on server 0, and so fails.
        shares = []
        for server, (share, public) in enumerate(zip(_shares(x), y.unwrapped, strict=True)):
            with self._on(server):
                shares.append(share.matmul(public))
        z = _Private(self, *shares, x.is_scaled or y.is_scaled)
        return self.truncate(z) if x.is_scaled and y.is_scaled else z

    def conv2d_channels_last(
        self, x: PrivateTensor, kernel: PrivateTensor, strides: Sequence[int], padding: str
    ) -> PrivateTensor:
        """Convolves images [batch, height, width, channels] with a kernel (HWIO), both private."""

        def convolve(x, kernel):
            return ops.int64_conv2d(
                x=x, y=kernel, strides=list(strides), padding=padding, data_format="NHWC"
            )

        return self._product(convolve, x, kernel)

    def _product(self, multiply, x, y):
        """Returns a bilinear function of private tensors; `multiply` computes it on integers."""
        keys, step = self._next_step()

        def drawn(part, pair, server, shape):
            key = keys[pair][server]
            return ops.common_numbers(key=key, shape=shape, step=step, part=part)

        with self._on(2):
            a, b = (
                drawn(part, (0, 2), 2, z.shape) + drawn(part, (1, 2), 2, z.shape)
                for part, z in enumerate((x, y))
            )
            ab = multiply(a, b)
            ab1 = ab - drawn(2, (0, 2), 2, ab.shape)
        unmasked, masked = [], []
        for server, (x_share, y_share) in enumerate(zip(_shares(x), _shares(y), strict=True)):
            with self._on(server):
                a_share, b_share = (
                    drawn(i, (server, 2), server, z.shape) for i, z in enumerate((x, y))
                )
                unmasked.append((a_share, y_share.value))
                masked.append((x_share.value - a_share, y_share.value - b_share))
        (x0, y0), (x1, y1) = masked
        shares = []
        for server, (a_share, y_share) in enumerate(unmasked):
            with self._on(server):
                ab_share = ab1 if server else drawn(2, (0, 2), 0, ab.shape)
                z = multiply(x0 + x1, y_share) + multiply(a_share, y0 + y1) + ab_share
                shares.append(_RING.tensor(z))
        z = _Private(self, *shares, x.is_scaled or y.is_scaled)
        return self.truncate(z) if x.is_scaled and y.is_scaled else z

    def _on(self, server):
        return tf.device((self.server_0, self.server_1, self.server_2)[server].device_name)

    def _next_step(self):
        """Returns the keys by pair and server, and a number that no other step with them has."""
        here = self._drawn.here()
        if not here:
            here["keys"] = {pair: self._draw_key(*pair) for pair in _PAIRS}
            here["steps"] = itertools.count()
        return here["keys"], next(here["steps"])

    def _draw_key(self, first, second):
        with self._on(first):
            key = ops.secure_seed()
        with self._on(second):
            return {first: key, second: tf.identity(key)}

    def _sign_and_product(self, x):
        """Returns the sign of x, not scaled, and its product with x, scaled as x is."""
        keys, step = self._next_step()
        key01, key02, key12 = (keys[pair] for pair in _PAIRS)
        values, masked = [], []
        with self._on(2):
            r, bits = ops.compare_deal(key02=key02[2], key12=key12[2], shape=x.shape, step=step)
        for server, share in enumerate(_shares(x)):
            with self._on(server):
                values.append(share.value)
                masked.append(
                    ops.compare_mask(x=values[-1], key=keys[server, 2][server], step=step)
                )
        c0, c1 = masked
        with self._on(0):
            row0, c_on_0, v_on_0 = ops.compare_share0(
                c0=c0, c1=c1, key01=key01[0], key02=key02[0], step=step
            )
        with self._on(1):
            row1, c_on_1, v_on_1 = ops.compare_share1(
                c0=c0, c1=c1, key01=key01[1], bits=bits, step=step
            )
        with self._on(2):
            u1, ur1 = ops.compare_open(row0=row0, row1=row1, r=r, key02=key02[2], step=step)
        with self._on(0):
            sign0, product0 = ops.compare_finish0(
                c=c_on_0, v=v_on_0, x=values[0], key02=key02[0], step=step
            )
            sign0, product0 = _RING.tensor(sign0), _RING.tensor(product0)
        with self._on(1):
            sign1, product1 = ops.compare_finish1(
                c=c_on_1, v=v_on_1, x=values[1], u1=u1, ur1=ur1, step=step
            )
            sign1, product1 = _RING.tensor(sign1), _RING.tensor(product1)
        sign = _Private(self, sign0, sign1, False)
        return sign, _Private(self, product0, product1, x.is_scaled)


def _is_private(x):
    return isinstance(x, _Private | _Masked)


def _shares(x):
    """Returns the two shares, for a masked tensor those of what is masked."""
    return (x.unmasked if isinstance(x, _Masked) else x).unwrapped
