import math

import pytest

from tfpriv import rounding


@pytest.mark.parametrize(
    ("value", "up", "down"),
    [
        (1.00045, "1.001", "1"),
        (1.0, "1", "1"),
        (1.1, "1.1", "1.1"),
        (0.99999, "1", "0.9999"),
        (9.99951, "10", "9.999"),
        (12345.6, "1.235e+04", "1.234e+04"),
        (1e-9, "1e-09", "1e-09"),
        (0.0, "0", "0"),
        (math.inf, "inf", "inf"),
    ],
)
def test_bounds_stay_bounds(value, up, down):
    assert (rounding.up(value), rounding.down(value)) == (up, down)


def test_digits_are_those_asked_for():
    assert rounding.up(1.2341, 3) == "1.24" and rounding.down(1.2391, 3) == "1.23"
