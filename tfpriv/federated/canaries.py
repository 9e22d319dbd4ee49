"""Clients that an audit adds: their update is a random direction, whatever the model.

Andrew et al. 2023 (arXiv 2302.03098): in many dimensions random directions are nearly orthogonal to
each other and to all that is learned, so canaries hardly disturb each other or the training, and
how far the model has moved along one shows whether it took part.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfpriv import models
from tfpriv.federated.algorithms.base import ClientOutput
from tfpriv.federated.config import FederatedConfig

# Streams drawn from one seed for different purposes must not collide.
_STREAM = 0xCAC1
# So far above the clip that what is left after clipping has the clip's norm, also where the clip
# adapts. There canaries count among those that the clip shortens, so that many of them raise it.
_TIMES_CLIP = 1e3
# Without a clip there is nothing to take the norm from; it is that of the default clip.
_NORM_WITHOUT_CLIP = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canaries:
    """The canary clients of a run.

    Attributes:
        count: How many there are.
        seed: Decides their directions; public.
        norm: Of an update, before any clip.
        examples: How many examples an update counts for in a mean that is weighted by them.
    """

    count: int
    seed: int
    norm: float
    examples: float

    def beside(
        self, train: Callable[[], ClientOutput], weights: Any, batches: tf.Tensor
    ) -> ClientOutput:
        """Returns what a client does, or, if it is a canary, a direction.

        Args:
            train: What a client does; it sends updates alone.
            weights: TFF's `ModelWeights` of the round.
            batches: The client's batches, or what stands for a canary.
        """

        def point():
            shapes = [w.shape for w in weights.trainable]
            number = -2 - batches[0, 0]
            update = models.random_direction(self.seed, number, shapes, self.norm)
            return tuple(update), (tf.zeros([]), tf.zeros([]))

        def work():
            output = train()
            return tuple(output.update), output.sums

        return ClientOutput(*tf.cond(is_canary(batches), point, work))

    def counted(self, batches: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Returns what a client's examples count for: `count`, or a canary's `examples`."""
        return tf.where(is_canary(batches), self.examples, count)


def build_canaries(config: FederatedConfig, sizes: np.ndarray) -> Canaries | None:
    """Returns the canaries of a run; None where it has none.

    Args:
        config: A complete config.
        sizes: [num_clients] the number of examples of each other client.
    """
    if not config.audit_canaries:
        return None
    norm = _NORM_WITHOUT_CLIP
    if config.is_private:
        assert config.clip_norm is not None, "the config is complete"
        norm = _TIMES_CLIP * config.clip_norm
    return Canaries(
        count=config.audit_canaries,
        seed=int(np.random.default_rng((config.seed, _STREAM)).integers(2**31)),
        norm=norm,
        # As `weigh` takes them: a client's examples count once for each local epoch.
        examples=float(np.mean(sizes)) * (config.client_epochs or 1),
    )


def batches_of(number: int) -> np.ndarray:
    """Returns what stands for a canary where clients have their batches: [1, 1] int32, below -1."""
    return np.array([[-2 - number]], np.int32)


def is_canary(batches: tf.Tensor) -> tf.Tensor:
    """Says whether these are a canary's batches."""
    return tf.reduce_any(batches < -1)
