"""ABY3 (Mohassel and Rindal 2018, https://eprint.iacr.org/2018/403) as tf-encrypted has it, with
keys that are never used twice and its hot parts as native ops."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfpriv.secure.protocols import aby3_kernels
from tfpriv.secure.protocols.engine import PrivateTensor, aby3_tensors, tfe
from tfpriv.secure.protocols.per_graph import PerGraph
from tfpriv.secure.protocols.protocol import Protocol


def _of_graph(name):
    """A property that has a value for each graph."""

    def read(self):
        return self._keys_of_graph()[name]

    def write(self, value):
        self._keys_of_graph()[name] = value

    return property(read, write)


class ABY3(tfe.protocol.ABY3, Protocol):
    """tf-encrypted's ABY3, safe inside tf.function.

    tf-encrypted draws the servers' keys once, when the protocol is built, and numbers their uses
    while a graph is traced. A traced function that is called twice would mask two computations
    with the same numbers. Here each graph draws keys of its own, with operations that run anew
    each time: at each call of a tf.function, at each iteration of a loop.
    """

    pairwise_keys_ = _of_graph("pairwise_keys")
    pairwise_nonces_ = _of_graph("pairwise_nonces")
    b2a_keys_1_ = _of_graph("b2a_keys_1")
    b2a_keys_2_ = _of_graph("b2a_keys_2")
    b2a_nonce_ = _of_graph("b2a_nonce")

    def reset(self) -> None:
        """Forgets all keys; each graph draws its own when it first needs them."""
        self._keys = PerGraph()
        self.keys_initialized = True

    def _keys_of_graph(self):
        keys = self._keys.here()
        if not keys:
            keys["drawing"] = True
            self.initialize_keys()
        return keys

    def while_loop(
        self,
        cond: Callable[..., tf.Tensor],
        body: Callable[..., Sequence[Any]],
        loop_vars: Sequence[Any],
    ) -> Sequence[Any]:
        """`tf.while_loop` over private, public and plain tensors.

        tf-encrypted builds the loop from parts of TensorFlow that are not there any more.
        """

        def plain(values):
            return [v.bone if isinstance(v, aby3_tensors.ABY3Tensor) else v for v in values]

        def wrapped(values):
            kind = aby3_tensors.ABY3TensorBone
            return [self.from_bone(v) if isinstance(v, kind) else v for v in values]

        if tf.executing_eagerly():
            while cond(*loop_vars):
                loop_vars = body(*loop_vars)
            return loop_vars
        result = tf.while_loop(
            lambda *values: cond(*wrapped(values)),
            lambda *values: plain(body(*wrapped(values))),
            plain(loop_vars),
        )
        return wrapped(result)

    def is_negative(self, x: PrivateTensor) -> PrivateTensor:
        """See `Protocol`."""
        return self.b2a_single(self.msb(x))

    def conv2d_channels_last(
        self, x: PrivateTensor, kernel: PrivateTensor, strides: Sequence[int], padding: str
    ) -> PrivateTensor:
        """See `Protocol`."""
        return aby3_kernels.conv2d(self, x, kernel, strides, padding, data_format="NHWC")

    def with_scale(self, x: PrivateTensor, *, is_scaled: bool) -> PrivateTensor:
        """See `Protocol`."""
        return type(x)(self, x.unwrapped, is_scaled, x.share_type)

    def put_together(self, x: PrivateTensor, player: tfe.player.Player) -> tf.Tensor:
        """See `Protocol`."""
        return self._reconstruct(x.unwrapped, player, x.share_type)

    def dispatch(self, base_name: str, *args: Any, container: object = None, **kwargs: Any) -> Any:
        """Finds the function for the kinds of the tensors, a fused one where there is one."""
        kinds = [arg.dispatch_id for arg in args if hasattr(arg, "dispatch_id")]
        fused = aby3_kernels.FUNCTIONS.get(f"_{base_name}_{'_'.join(kinds)}")
        if fused is not None:
            condition, function = fused
            if condition(*args):
                return function(self, *args, **kwargs)
        return super().dispatch(base_name, *args, container=container, **kwargs)
