"""Which examples a client trains on, batch by batch.

Batches are int32 [number of batches, width] matrices of row numbers; -1 stands for no example, so
that batches of different sizes fit one matrix. They are drawn here, not in the client's graph, so
that a resumed run trains on the batches of the interrupted one.
"""

import numpy as np

from tfpriv import draws
from tfpriv.draws import Origin

_SHUFFLE_STREAM = 0x5FF1
_POISSON_STREAM = 0x9015


def epochs(
    rows: np.ndarray, *, batch_size: int, num_epochs: int, seed: int, round_number: int, client: int
) -> np.ndarray:
    """Returns the batches of several passes over a client's examples, each in an order of its own.

    Args:
        rows: [n] the client's rows; n may be 0.
        batch_size: The size of a batch; the last one of a pass holds what is left.
        num_epochs: The number of passes, at least 1.
        seed: The run's seed.
        round_number: The round, counted from 0.
        client: The client.

    Returns:
        int32 [num_epochs * ceil(n / batch_size), min(n, batch_size)].
    """
    n = len(rows)
    width = min(n, batch_size)
    if not n:
        return np.empty((0, 0), np.int32)
    generator = np.random.default_rng((seed, _SHUFFLE_STREAM, round_number, client))
    per_epoch = -(-n // width)
    batches = np.full((num_epochs, per_epoch * width), -1, np.int32)
    for epoch in range(num_epochs):
        batches[epoch, :n] = rows[generator.permutation(n)]
    return batches.reshape(num_epochs * per_epoch, width)


def in_order(rows: np.ndarray, *, batch_size: int) -> np.ndarray:
    """Returns one pass over a client's examples in their own order, in batches; see `epochs`."""
    n = len(rows)
    width = min(n, batch_size)
    if not n:
        return np.empty((0, 0), np.int32)
    per_epoch = -(-n // width)
    batches = np.full(per_epoch * width, -1, np.int32)
    batches[:n] = rows
    return batches.reshape(per_epoch, width)


def poisson(
    rows: np.ndarray,
    *,
    sampling_probability: float,
    steps: int,
    seed: Origin,
    round_number: int,
    client: int,
    segment: int = 0,
) -> np.ndarray:
    """Returns Poisson-sampled batches: each example is in each batch independently.

    Args:
        rows: [n] the client's rows.
        sampling_probability: In (0, 1].
        steps: The number of batches.
        seed: What the draws come from: a secret key, or a number.
        round_number: The round, counted from 0.
        client: The client.
        segment: How often the run was interrupted before: a step that is run again must not see
            the same sample under new noise (see `PrivacyPlan.participants`).

    Returns:
        int32 [steps, largest number drawn, at least 1]. No example is left out to make a batch fit.
    """
    stream = (_POISSON_STREAM, round_number, client, segment)
    drawn = draws.bernoulli(seed, stream, sampling_probability, (steps, len(rows)))
    width = int(drawn.sum(axis=1).max(initial=1))
    batches = np.full((steps, width), -1, np.int32)
    for step in range(steps):
        chosen = rows[drawn[step]]
        batches[step, : len(chosen)] = chosen
    return batches
