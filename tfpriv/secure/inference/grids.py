"""Chooses, for each stage of a network, how fine the grids are on which its numbers lie.

A number x on a grid of b bits is the whole number x 2^b. The product of two has the grids' bits
together, and whole numbers must stay below 2^61, so finer weights leave coarser inputs. What is
known beforehand, of weights and of bounds, is used to have as many bits as fit.

The bounds are assumptions about the inputs of each stage: `ranges` makes them, and checks them. If
they hold, no number leaves the ring: each stage's sums are bounded by its weights and by the bound
of what it reads.
"""

from collections.abc import Sequence

from tfpriv.errors import UserError
from tfpriv.secure.layers.grid import Grid, log2
from tfpriv.secure.layers.stage import Stage

# A layer whose inputs or weights have fewer bits, of their largest, is refused.
_FEWEST_BITS = 13
# What is revealed has as many bits.
_OUTPUT_BITS = 30


def choose(stages: Sequence[Stage], bounds: Sequence[float]) -> tuple[Grid, ...]:
    """Returns the grids of a row of stages.

    Args:
        stages: Of a network.
        bounds: One more than stages: what the magnitudes of the examples, and of what each stage
            gives, are at most; powers of two.

    Raises:
        UserError: The ring has too few bits for a stage with such bounds; it is named.
    """
    wanted = [_OUTPUT_BITS - log2(bounds[-1])]
    for stage, bound in zip(reversed(stages), reversed(bounds[:-1]), strict=True):
        wanted.append(stage.bits_to_read(bound, wanted[-1]))
    wanted.reverse()
    grids, bits = [], wanted[0]
    for stage, reads, gives, next_wants in zip(
        stages, bounds[:-1], bounds[1:], wanted[1:], strict=True
    ):
        weights = stage.bits_of_weights(reads, bits)
        given = stage.bits_to_give(gives, bits, next_wants)
        if stage.weights:
            given = min(given, bits + weights)
            size = max(float(abs(weight).max()) for weight in stage.weights[:1])
            _refuse_coarse(stage, "inputs", bits, reads)
            _refuse_coarse(stage, "weights", weights, size)
        grids.append(
            Grid(reads=reads, gives=gives, bits_read=bits, weights=weights, bits_given=given)
        )
        bits = given
    return tuple(grids)


def _refuse_coarse(stage, what, bits, size):
    if bits + log2(size) < _FEWEST_BITS:
        raise UserError(
            f"layer {stage.name} of the model has {what} of up to {size:.3g}, of which a share "
            f"could hold {bits + log2(size)} bits only, beside everything else that must fit into "
            "its 64; scale the features or the model."
        )


def errors(stages: Sequence[Stage], grids: Sequence[Grid]) -> list[float]:
    """Returns how far off, on shares, each stage's results are at most if all bounds hold.

    The largest that rounding could do if all of it pointed in one direction: for many layers in a
    row it is far more than happens.
    """
    error = 2.0 ** -(grids[0].bits_read + 1)
    bounds = []
    for stage, grid in zip(stages, grids, strict=True):
        error = stage.error(error, grid)
        bounds.append(error)
    return bounds
