"""Numbers for people that never say less than is true."""

import decimal
import math


def up(value: float, digits: int = 4) -> str:
    """Returns a number of at least 0 with so many digits, rounded up: an upper bound stays one."""
    return _rounded(value, digits, decimal.ROUND_CEILING)


def down(value: float, digits: int = 4) -> str:
    """Returns a number of at least 0 with so many digits, rounded down, as a lower bound is."""
    return _rounded(value, digits, decimal.ROUND_FLOOR)


def _rounded(value, digits, way):
    if not math.isfinite(value) or not value:
        return f"{value:.{digits}g}"
    # As it is written, or 1.1, which is a little more in binary, would become 1.101.
    exact = decimal.Decimal(repr(float(value)))
    step = decimal.Decimal(1).scaleb(exact.adjusted() - digits + 1)
    rounded = exact.quantize(step, way)
    return f"{float(rounded):.{digits}g}"
