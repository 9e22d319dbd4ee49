"""Smooth functions on shares, the same for all protocols: polynomials in pieces.

A function is a table: between ends, polynomials; beyond the first and the last end, a constant or a
straight line, so that a number of any size gives what the function gives there. A share is compared
with all ends at once, the bits choose the coefficients, and Horner's scheme takes a product a
degree. Where a coefficient is zero it is zero exactly, so a large number does no harm in a piece
that does not grow.

Reciprocal, inverse square root and logarithm of a positive number first bring it into [1, 4) by a
power of four, which comparisons find.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy import special

from tfpriv.secure.protocols import fixed_point
from tfpriv.secure.protocols.fixed_point import Fixed
from tfpriv.secure.protocols.protocol import Protocol

# The largest error of a table that is accepted; pieces are then as good as their number allows.
_TABLE_ERROR = 2.0**-13
_DEGREE = 5
_MANTISSA_DEGREE = 8
# Ends lie on whole multiples of this.
_END_STEP = 2.0**-8

# Bits behind the point of the coefficients, and of what Horner's scheme carries.
_COEFFICIENT_BITS = 30
# Bits behind the point of the argument; fewer if it can be very large.
ARGUMENT_BITS = 20
# Of a number that was brought into [1, 4), of the factor that takes it back, and of what softmax
# sums.
_MANTISSA = 26
_FACTOR_BITS = 29
_POWER_BITS = 28

# Where every function is what it tends to.
_FAR = 1000.0
# The largest error of softmax over 10,000 classes or fewer, by trial (a test repeats it).
SOFTMAX_ERROR = 2.0**-11
# Arguments up to this have tables of their own; larger ones are divided by the power of two, which
# keeps small what rounding coefficients does to high powers.
_SMALL = 1.0
_ARGUMENT = 2
# What rounding on shares adds to a table's own error: below 3^5 steps of the coefficients' grid.
_ROUNDING = 2.0**-18


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A function in pieces, of its argument times 2^-argument, and times 2^-value.

    Attributes:
        ends: [m], rising: piece i lies before ends[i], piece m behind the last.
        coefficients: [m + 1, degree + 1], those of 1, x, x^2 ... in each piece.
        slope: Of the line through zero that is added behind the last end, to the whole.
        argument: A power of two.
        value: A power of two.
    """

    ends: np.ndarray
    coefficients: np.ndarray
    slope: float = 0.0
    argument: int = 0
    value: int = 0

    def plain(self, x: np.ndarray) -> np.ndarray:
        """Returns what the table says, in float64."""
        x = x * 2.0**-self.argument
        y = np.zeros_like(x)
        for piece, piece_coefficients in enumerate(self.coefficients):
            here = np.searchsorted(self.ends, x, side="right") == piece
            y[here] = np.polyval(piece_coefficients[::-1], x[here])
        y = y * 2.0**self.value
        if self.slope:
            y = y + self.slope * x * 2.0**self.argument * (x >= self.ends[-1])
        return y


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Function:
    """What a table is fitted to: flat before `low`, flat or of a slope behind `high`.

    `steepest` is the largest slope anywhere, `knots` are where it is not smooth, and `error` is the
    largest of a polynomial in its piece.
    """

    function: Callable[[np.ndarray], np.ndarray]
    low: float
    high: float
    slope: float = 0.0
    steepest: float = 1.0
    knots: tuple[float, ...] = ()
    error: float = _TABLE_ERROR


def _elu(x):
    return np.where(x < 0, np.expm1(np.minimum(x, 0)), x)


_SELU_SCALE, _SELU_ALPHA = 1.05070098, 1.67326324

# The ends are where what is left to the constant or the line is below the table's error.
_FUNCTIONS = {
    "tanh": _Function(function=np.tanh, low=-4.875, high=4.875),
    "sigmoid": _Function(function=special.expit, low=-9.125, high=9.125, steepest=0.25),
    "softplus": _Function(function=lambda x: np.logaddexp(x, 0), low=-9.125, high=9.125, slope=1.0),
    "swish": _Function(
        function=lambda x: x * special.expit(x), low=-11.625, high=11.625, slope=1.0, steepest=1.1
    ),
    "gelu": _Function(
        function=lambda x: x * special.ndtr(x), low=-4.125, high=4.125, slope=1.0, steepest=1.13
    ),
    "elu": _Function(function=_elu, low=-9.125, high=0.0, slope=1.0, knots=(0.0,)),
    "selu": _Function(
        function=lambda x: _SELU_SCALE * np.where(x < 0, _SELU_ALPHA, 1.0) * _elu(x),
        low=-9.75,
        high=0.0,
        slope=_SELU_SCALE,
        knots=(0.0,),
        steepest=_SELU_SCALE * _SELU_ALPHA,
    ),
    "hard_sigmoid": _Function(
        function=lambda x: np.clip(0.2 * x + 0.5, 0, 1), low=-2.5, high=2.5, steepest=0.2
    ),
    # Of what is not positive: softmax and exponential take the largest argument off before. Many
    # of its errors are summed.
    "exp": _Function(
        function=lambda x: np.exp(np.minimum(x, 0)), low=-11.0, high=0.0, error=2.0**-15.5
    ),
}

ACTIVATIONS = ("tanh", "sigmoid", "softplus", "swish", "gelu", "elu", "selu", "hard_sigmoid")


@functools.cache
def table(name: str, bound: float = math.inf) -> Table:
    """Returns the table of a function, of as few pieces as its error allows.

    Args:
        name: One of `ACTIVATIONS`, or "exp" (of numbers that are not positive).
        bound: What the argument's magnitude is at most, a power of two. Within a small bound the
            function is nearly straight: fewer pieces do, and the error is small beside its values.
    """
    wanted = _FUNCTIONS[name]
    if bound <= _SMALL and name != "exp":
        return _table_within(wanted, bound)
    unit = 2.0**_ARGUMENT
    low, high = wanted.low / unit, wanted.high / unit
    best = _best_pieces(lambda u: wanted.function(u * unit), low, high, wanted.error)
    before, behind = np.zeros(_DEGREE + 1), np.zeros(_DEGREE + 1)
    far = np.array(_FAR)
    before[0] = wanted.function(-far)
    behind[0] = wanted.function(far) - wanted.slope * far
    return Table(
        ends=np.array([low, *(end for end, _ in best)]),
        coefficients=np.array([before, *(piece for _, piece in best), behind]),
        slope=wanted.slope,
        argument=_ARGUMENT,
    )


def _table_within(wanted, bound):
    argument = round(math.log2(bound))
    value = math.ceil(math.log2(np.abs(wanted.function(np.array([-bound, 0.0, bound]))).max()))

    def function(u):
        return wanted.function(u * bound) * 2.0**-value

    knots = [-1.0, *(knot for knot in wanted.knots if abs(knot) < 1), 1.0]
    pieces = []
    for low, high in itertools.pairwise(knots):
        pieces += _best_pieces(function, low, high, _TABLE_ERROR)
    return Table(
        ends=np.array([end for end, _ in pieces[:-1]]),
        coefficients=np.array([piece for _, piece in pieces]),
        argument=argument,
        value=value,
    )


def steepest(name: str) -> float:
    """Returns how much a function's value changes at most for a change of its argument."""
    return _FUNCTIONS[name].steepest


def room(name: str) -> int:
    """Returns how many bits beside its argument's own a function needs in the ring."""
    return 0 if _FUNCTIONS[name].slope in (0.0, 1.0) else fixed_point.FACTOR_BITS + 1


def argument_bits(bound: float) -> int:
    """Returns the grid on which a function reads numbers of at most `bound`."""
    return ARGUMENT_BITS - min(0, round(math.log2(bound)) if bound <= _SMALL else 0)


@functools.cache
def largest_error(name: str, bound: float = math.inf) -> float:
    """Returns the bound on the error of a function on shares, over all arguments.

    Measured on the table, in float64, from far before its first end to far behind its last; with
    what rounding adds.

    Args:
        name: As for `table`.
        bound: As for `table`.
    """
    pieces = table(name, bound)
    reach = bound if bound <= _SMALL else 64.0
    x = np.linspace(-reach, 0.0 if name == "exp" else reach, 200_001)
    error = float(np.abs(pieces.plain(x) - plain(name, x)).max())
    return error + _ROUNDING * 2.0**pieces.value


def plain(name: str, x: np.ndarray) -> np.ndarray:
    """Returns the function itself, in float64."""
    return _FUNCTIONS[name].function(x)


def _best_pieces(function, low, high, error):
    """Returns (end, polynomial) of as few pieces as the error allows, all of the same error."""
    accepted = _pieces(function, low, high, error)
    best, least, most = accepted, 0.0, error
    for _ in range(8):
        middle = (least + most) / 2
        pieces = _pieces(function, low, high, middle, len(accepted))
        if pieces:
            best, most = pieces, middle
        else:
            least = middle
    return best


def _pieces(function, low, high, error, most=64):
    """Returns (end, polynomial) from `low` to `high`, each as long as it can be; or None."""
    start = low
    pieces: list[tuple[float, np.ndarray]] = []
    while start < high:
        if len(pieces) == most:
            return None
        end = _longest_end(function, start, high, error)
        if end == start:
            return None
        pieces.append((end, _fit(function, start, end)[0]))
        start = end
    return pieces


def _longest_end(function, start, high, error):
    if _fit(function, start, high)[1] <= error:
        return high
    shortest, longest = 0, int((high - start) / _END_STEP)
    while longest - shortest > 1:
        middle = (shortest + longest) // 2
        if _fit(function, start, start + middle * _END_STEP)[1] <= error:
            shortest = middle
        else:
            longest = middle
    return start + shortest * _END_STEP


def _fit(function, start, end, degree=_DEGREE):
    """Returns the polynomial through Chebyshev's nodes, nearly the best there is, and its error."""
    count = 4 * degree
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    middle, half = (start + end) / 2, (end - start) / 2
    fitted = np.polynomial.chebyshev.Chebyshev.fit(
        middle + half * nodes, function(middle + half * nodes), degree, domain=[start, end]
    )
    x = np.linspace(start, end, 200)
    coefficients = np.zeros(degree + 1)
    powers = fitted.convert(kind=np.polynomial.Polynomial, domain=[-1, 1], window=[-1, 1]).coef
    coefficients[: len(powers)] = powers
    return coefficients, float(np.abs(np.polyval(coefficients[::-1], x) - function(x)).max())


# --- On shares -----------------------------------------------------------------------------------


def evaluate(prot: Protocol, name: str, x: Fixed, bits: int, bound: float = math.inf) -> Fixed:
    """Returns a function of private numbers, off by at most `largest_error`.

    Args:
        prot: The protocol.
        name: One of `ACTIVATIONS`, or "exp" (of numbers that are not positive).
        x: On a grid of at most `argument_bits`, any size that the ring holds.
        bits: The grid of the result, for which x must leave room if the function has a slope.
        bound: What x is at most, a power of two.
    """
    pieces = table(name, bound)
    shape = x.shape
    flat = prot.reshape(x.shares, [int(np.prod(shape)), 1])
    flat = Fixed(flat, x.bits + pieces.argument)
    below = _below(prot, flat, pieces.ends) if len(pieces.ends) else None
    result = _horner(prot, flat, below, pieces)
    result = fixed_point.on_grid(prot, Fixed(result.shares, result.bits - pieces.value), bits)
    if pieces.slope:
        line = Fixed(flat.shares - prot.mul(flat.shares, below[:, -1:]), x.bits)
        if pieces.slope == 1.0:
            line = fixed_point.on_grid(prot, line, bits)
        else:
            line = fixed_point.scale(prot, line, pieces.slope, bits)
        result = result.with_shares(result.shares + line.shares)
    return result.with_shares(prot.reshape(result.shares, shape))


def sigmoid(prot: Protocol, x: Fixed, bits: int) -> Fixed:
    """Returns 1 / (1 + exp(-x)); see `evaluate`."""
    return evaluate(prot, "sigmoid", x, bits)


def _below(prot, x, ends):
    """Returns, for x of shape [n, 1], whole numbers [n, ends]: 1 where x lies before the end."""
    copies = _repeated(prot, x.shares, len(ends))
    return prot.is_negative(copies - fixed_point.constant(prot, ends, x))


def _repeated(prot, x, times):
    """Returns [n, times] copies of [n, 1]."""
    return x if times == 1 else prot.concat([x] * times, axis=1)


def _horner(prot, x, below, pieces):
    """Returns the polynomial of the piece in which x, of shape [n, 1], lies, to 30 bits."""
    coefficients = np.round(pieces.coefficients * 2.0**_COEFFICIENT_BITS)
    if below is None:
        return _polynomial(prot, x, coefficients[0])
    chosen = _selected(prot, below, coefficients)
    result = None
    for power in reversed(range(coefficients.shape[1])):
        coefficient = chosen[:, power : power + 1]
        if result is not None:
            product = Fixed(prot.mul(result, x.shares), _COEFFICIENT_BITS + x.bits)
            coefficient = coefficient + fixed_point.on_grid(prot, product, _COEFFICIENT_BITS).shares
        result = coefficient
    return Fixed(result, _COEFFICIENT_BITS)


def _polynomial(prot, x, coefficients):
    """Returns a polynomial of public coefficients, whole numbers on their grid, to 30 bits."""
    result = fixed_point.whole_multiple(prot, x.shares, coefficients[-1])
    result = fixed_point.on_grid(prot, Fixed(result, x.bits + _COEFFICIENT_BITS), _COEFFICIENT_BITS)
    for power in reversed(range(len(coefficients) - 1)):
        constant = prot.define_constant(np.array(coefficients[power]), apply_scaling=False)
        result = result.with_shares(result.shares + constant)
        if power:
            product = Fixed(prot.mul(result.shares, x.shares), _COEFFICIENT_BITS + x.bits)
            result = fixed_point.on_grid(prot, product, _COEFFICIENT_BITS)
    return result


def softmax(prot: Protocol, logits: Fixed, bits: int) -> Fixed:
    """Returns the softmax over the last axis of private logits [..., classes].

    Args:
        prot: The protocol.
        logits: On a grid of at most `ARGUMENT_BITS`, below half of the ring in magnitude.
        bits: The grid of the result.
    """
    shape = logits.shape
    rows, classes = int(np.prod(shape[:-1])), shape[-1]
    # The errors of small powers, summed, would make the total wrong.
    squarings = 1 if classes <= 1000 else 2
    x = prot.reshape(logits.shares, [rows, classes])
    x = x - _repeated(prot, _largest(prot, x), classes)
    powers = exponential(prot, logits.with_shares(x), squarings, _POWER_BITS)
    total = powers.with_shares(powers.shares.reduce_sum(axis=1, keepdims=True))
    inverse = reciprocal(prot, total, 0, math.ceil(math.log2(classes)) + 1, _POWER_BITS)
    inverse = _repeated(prot, inverse.shares, classes)
    product = Fixed(prot.mul(powers.shares, inverse), 2 * _POWER_BITS)
    result = fixed_point.on_grid(prot, product, bits)
    return result.with_shares(prot.reshape(result.shares, shape))


def exponential(prot: Protocol, x: Fixed, squarings: int, bits: int) -> Fixed:
    """Returns exp(x) of private numbers that are not positive, as a power of exp(x / 2^squarings).

    Squaring makes the error of a small power small: that of y^2 is 2 y times that of y.
    """
    y = evaluate(prot, "exp", Fixed(x.shares, x.bits + squarings), bits)
    for _ in range(squarings):
        y = fixed_point.on_grid(prot, Fixed(prot.mul(y.shares, y.shares), 2 * bits), bits)
    return y


def _largest(prot, x):
    """Returns the maximum over the last axis of [rows, n], whose halves meet value by value."""
    count = int(x.shape[1])
    while count > 1:
        half = count // 2
        best = prot.maximum(x[:, :half], x[:, half : 2 * half])
        x = prot.concat([best, x[:, 2 * half : count]], axis=1) if count % 2 else best
        count -= half
    return x


def reciprocal(prot: Protocol, x: Fixed, low: int, high: int, bits: int) -> Fixed:
    """Returns 1 / x for private x in [2^low, 2^high), relatively off by less than 2^-11.

    Args:
        prot: The protocol.
        x: On a grid that holds 2^low to 2^high.
        low: Where x begins, a power of two.
        high: Where it ends; at most 28 above `low`.
        bits: The grid of the result.
    """
    places = _places(low, high)
    shape, m, below = _mantissa(prot, x, places)
    inverse = _of_mantissa(prot, m, lambda m: 1 / m)
    return _rescaled(prot, inverse, below, 2.0**-places, shape, bits)


def inverse_square_root(prot: Protocol, x: Fixed, low: int, high: int, bits: int) -> Fixed:
    """Returns 1 / sqrt(x), relatively off by less than 2^-11; see `reciprocal`.

    `high` can be 36 above `low`.
    """
    places = _places(low, high)
    shape, m, below = _mantissa(prot, x, places)
    inverse = _of_mantissa(prot, m, lambda m: m**-0.5)
    return _rescaled(prot, inverse, below, 2.0 ** (-places / 2), shape, bits)


def logarithm(prot: Protocol, x: Fixed, low: int, high: int, bits: int) -> Fixed:
    """Returns the natural logarithm of x, off by less than 2^-11; see `reciprocal`."""
    places = _places(low, high)
    shape, m, below = _mantissa(prot, x, places)
    result = fixed_point.on_grid(prot, _of_mantissa(prot, m, np.log), bits)
    exponents = np.round(places * math.log(2) * 2.0**bits)[:, np.newaxis]
    exponents = _selected(prot, below, exponents)
    return Fixed(prot.reshape(result.shares + exponents, shape), bits)


def _places(low, high):
    """Returns p = low, low + 2, ..., so that each number in the range is in some [2^p, 4 2^p)."""
    return np.arange(low, high, 2.0)


def _mantissa(prot, x, places):
    """Returns the shape, x by a power of four in [1, 4) as [n, 1], and what lies below which."""
    shape = x.shape
    flat = x.with_shares(prot.reshape(x.shares, [int(np.prod(shape)), 1]))
    last = int(places[-1])
    below = None
    if len(places) > 1:
        below = _below(prot, flat, 2.0 ** places[1:])
        factors = 2.0 ** (last - places)
        product = prot.mul(flat.shares, _selected(prot, below, factors[:, np.newaxis]))
        flat = flat.with_shares(product)
    return shape, fixed_point.on_grid(prot, Fixed(flat.shares, x.bits + last), _MANTISSA), below


def _selected(prot, below, values):
    """Returns, for each row of bits, the row of `values` of the piece that they stand for."""
    last = prot.define_constant(values[-1:].copy(), apply_scaling=False)
    if below is None:
        return last
    steps = prot.define_constant(values[:-1] - values[1:], apply_scaling=False)
    return prot.matmul(below, steps) + last


def _of_mantissa(prot, m, function):
    """Returns a function of m in [1, 4), on the grid of the coefficients."""
    coefficients, _ = _fit(function, 1.0, 4.0, _MANTISSA_DEGREE)
    return _polynomial(prot, m, np.round(coefficients * 2.0**_COEFFICIENT_BITS))


def _rescaled(prot, x, below, factors, shape, bits):
    """Returns x, at most 1, times the factor that the bits stand for."""
    if below is None:
        result = fixed_point.scale(prot, x, factors[0], bits)
    else:
        scale_bits = _FACTOR_BITS - math.ceil(math.log2(factors.max()))
        chosen = _selected(prot, below, np.round(factors * 2.0**scale_bits)[:, np.newaxis])
        product = Fixed(prot.mul(x.shares, chosen), x.bits + scale_bits)
        result = fixed_point.on_grid(prot, product, bits)
    return result.with_shares(prot.reshape(result.shares, shape))
