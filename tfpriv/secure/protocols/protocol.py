"""What a protocol adds to tf-encrypted's for the rest of this room to compute on it."""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfpriv.secure.protocols.engine import PrivateTensor, tfe


class Protocol(abc.ABC):
    """What is asked of a protocol beyond tf-encrypted's sums, products and reshapes.

    Whoever computes on shares asks the protocol, and never which one it is.
    """

    @abc.abstractmethod
    def is_negative(self, x: PrivateTensor) -> PrivateTensor:
        """Returns 1 where x is negative and 0 elsewhere: private whole numbers."""

    @abc.abstractmethod
    def truncate(self, x: PrivateTensor, amount: int | None = None) -> PrivateTensor:
        """Divides x, an integer between -2^62 and 2^62, by 2^amount.

        The result is that of rounding down or one more, with the right mean, and never fails.

        Args:
            x: Private.
            amount: The bits of the protocol's own grid if None.
        """

    @abc.abstractmethod
    def conv2d_channels_last(
        self, x: PrivateTensor, kernel: PrivateTensor, strides: Sequence[int], padding: str
    ) -> PrivateTensor:
        """Convolves images [batch, height, width, channels] with a kernel (HWIO), both private."""

    @abc.abstractmethod
    def with_scale(self, x: PrivateTensor, *, is_scaled: bool) -> PrivateTensor:
        """Returns the same shares as fixed-point numbers or, if not scaled, as integers."""

    @abc.abstractmethod
    def put_together(self, x: PrivateTensor, player: tfe.player.Player) -> tf.Tensor:
        """Returns the ring's elements that x shares, at a player of tf-encrypted's."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Returns what tf-encrypted's protocols have."""
