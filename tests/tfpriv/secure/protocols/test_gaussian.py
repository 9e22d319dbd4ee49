import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfpriv.secure.parties import connection
from tfpriv.secure.protocols import fixed_point, gaussian, running

SIGMA = 3.0
SHAPE = (150, 101)


@pytest.fixture(name="draws", scope="module")
def _draws():
    """Two draws of the noise as numbers, and of the first the six shares."""
    with running.protocol("aby3", connection.local()) as prot:

        def draw():
            shared = gaussian.noise(prot, SHAPE, SIGMA)
            opened = fixed_point.reveal(prot, fixed_point.raw(prot, shared))
            return opened, [share.value for pair in shared.unwrapped for share in pair]

        function = tf.function(draw, autograph=False)
        first, shares = function()
        second, _ = function()
        scale = prot.fixedpoint_config.scaling_factor**2
    assert first.dtype == tf.int64
    numbers = [opened.numpy().astype(np.float64) / scale for opened in (first, second)]
    return numbers, [share.numpy() for share in shares]


def p_value(numbers, sigma):
    return stats.kstest(numbers.ravel(), "norm", args=(0, sigma)).pvalue


def test_noise_is_gaussian_of_half_as_much_variance_again_and_not_of_another(draws):
    (first, second), _ = draws
    whole = SIGMA * math.sqrt(1.5)
    assert p_value(first, whole) > 1e-4 and p_value(second, whole) > 1e-4
    assert p_value(first, whole * 2 / 3) < 1e-12
    assert p_value(first, whole * 3 / 2) < 1e-12
    assert p_value(first, SIGMA) < 1e-12


def test_noise_differs_in_each_call_and_between_its_numbers(draws):
    (first, second), _ = draws
    assert np.sum(first == second) == 0
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    # Box and Muller give numbers in pairs, which must not show.
    half = first.size // 2
    pairs = np.corrcoef(first.ravel()[:half], first.ravel()[half : 2 * half])[0, 1]
    assert abs(pairs) < 0.05
    assert abs(np.corrcoef(first.ravel()[:-1], first.ravel()[1:])[0, 1]) < 0.05


def test_shares_of_one_server_tell_nothing_of_the_noise(draws):
    (first, _), shares = draws
    for server in range(3):
        pair = shares[2 * server : 2 * server + 2]
        for share in (*pair, pair[0] + pair[1]):
            assert abs(np.corrcoef(share.ravel().astype(float), first.ravel())[0, 1]) < 0.05
            top = np.bincount((share.ravel() >> 60) + 8, minlength=16)
            assert stats.chisquare(top).pvalue > 1e-6


def test_what_two_servers_add_has_the_standard_deviation_that_is_accounted_for():
    """Each server's own part has half of the variance, so that two make the whole."""
    with running.protocol("aby3", connection.local()) as prot:
        one = tf.function(lambda: gaussian.standard_normal(prot, (100_001,)), autograph=False)()
    numbers = one.numpy()
    assert p_value(numbers, 1.0) > 1e-4
    assert p_value(numbers, 2 / 3) < 1e-12 and p_value(numbers, 3 / 2) < 1e-12
    assert np.abs(numbers).max() > 3.5
    assert 2 * (SIGMA / math.sqrt(2)) ** 2 == pytest.approx(SIGMA**2)


def test_noise_that_the_grid_is_too_coarse_for_is_refused():
    with (
        running.protocol("aby3", connection.local()) as prot,
        pytest.raises(ValueError, match="grid"),
    ):
        gaussian.noise(prot, [2], 1e-4)


def test_noise_does_not_come_from_tensorflow_s_generators():
    with running.protocol("aby3", connection.local()) as prot:
        function = tf.function(lambda: gaussian.standard_normal(prot, (4,)), autograph=False)
        graph = function.get_concrete_function().graph
    kinds = {op.type for op in graph.get_operations()}
    assert not {kind for kind in kinds if "Random" in kind and "Secure" not in kind}
    assert {kind for kind in kinds if "Secure" in kind}
