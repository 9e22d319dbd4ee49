"""tanh and sigmoid on ABY3's shares, as cubic polynomials between fixed ends.

tf-encrypted has a sigmoid of five straight lines, which is off by 0.03, and no tanh for ABY3.
"""

import functools
import itertools

import numpy as np

# Between these, cubics are within 0.0005 of tanh, and so is 1 beyond the last.
_ENDS = (-4.5, -2.5, -1.2, -0.4, 0.4, 1.2, 2.5, 4.5)


def tanh(protocol, x):
    """Returns tanh(x) for shares x in an ABY3 protocol, off by less than 0.002."""
    return _piecewise(protocol, x, *_cubics())


def sigmoid(protocol, x):
    """Returns 1 / (1 + exp(-x)), which is (1 + tanh(x / 2)) / 2, off by less than 0.001."""
    ends, coefficients = _cubics()
    coefficients = coefficients / 2
    coefficients[:, 0] += 0.5
    return _piecewise(protocol, x * 0.5, ends, coefficients)


@functools.cache
def _cubics():
    """Returns the ends and, for the pieces before, between and behind them, a row of coefficients.

    A row holds those of 1, x, x^2 and x^3.
    """
    pieces = [[-1.0, 0.0, 0.0, 0.0]]
    for low, high in itertools.pairwise(_ENDS):
        # At Chebyshev's nodes, which makes the largest error about the smallest there is.
        nodes = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
        pieces.append(np.polyfit(nodes, np.tanh(nodes), 3)[::-1].tolist())
    pieces.append([1.0, 0.0, 0.0, 0.0])
    return np.array(_ENDS), np.array(pieces)


def _piecewise(protocol, x, ends, coefficients):
    """Returns the polynomial of the piece that x lies in.

    Each coefficient is what it is in the first piece, and changes by a public step at each end
    that x lies above. Beyond the last ends only the constant is left, so a large x does no harm.
    """
    rank = len(x.shape)
    public = functools.partial(_column, protocol, rank)
    copies = protocol.tile(protocol.expand_dims(x, 0), [len(ends)] + [1] * rank)
    above = protocol.b2a_single(protocol.greater_than(copies, public(ends)))
    # On the grid first: then the steps add up to exactly nothing where a coefficient is 0.
    grid = protocol.fixedpoint_config.scaling_factor
    coefficients = np.round(coefficients * grid) / grid
    steps = np.diff(coefficients, axis=0)
    result = None
    for power in (3, 2, 1, 0):
        changes = (above * public(steps[:, power])).reduce_sum(axis=0)
        coefficient = changes + float(coefficients[0, power])
        result = coefficient if result is None else result * x + coefficient
    return result


def _column(protocol, rank, values):
    """A public number for each copy of a tensor."""
    return protocol.define_constant(np.reshape(values, [-1] + [1] * rank))
