import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp

from tfpriv.errors import UserError
from tfpriv.privacy import AdaptiveGaussian, Gaussian, Tree


def adaptive(**kwargs):
    settings = {
        "clip_norm": 0.1,
        "target_quantile": 0.5,
        "clip_learning_rate": 0.2,
        "count_stddev": 6.0,
        "noise_multiplier": 1.2,
    }
    return AdaptiveGaussian(**settings | kwargs)


def test_adaptive_split_is_that_of_the_paper():
    # Andrew et al. 2021, Theorem 1, as TFF's adaptive_clip_noise_params has it, for 120 clients.
    expected = (1.2**-2 - (2 * (0.05 * 120)) ** -2) ** -0.5
    assert adaptive().value_noise_multiplier == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(1.20604537831)


@pytest.mark.parametrize(("z", "count_stddev"), [(0.5, 0.3), (1.2, 6), (1.2, 0.61), (5, 100)])
def test_both_adaptive_releases_together_are_worth_the_noise_multiplier(z, count_stddev):
    mechanism = adaptive(noise_multiplier=z, count_stddev=count_stddev)
    # One member moves the count, centered, by 1/2, and the sum by the clip.
    both = dp_accounting.ComposedDpEvent(
        [
            dp_accounting.GaussianDpEvent(mechanism.value_noise_multiplier),
            dp_accounting.GaussianDpEvent(count_stddev / 0.5),
        ]
    )
    one = dp_accounting.GaussianDpEvent(z)
    np.testing.assert_allclose(
        rdp.RdpAccountant().compose(both).rdp, rdp.RdpAccountant().compose(one).rdp, rtol=1e-9
    )


def test_adaptive_without_noise_has_no_noise_on_the_sum():
    assert adaptive(noise_multiplier=0.0).value_noise_multiplier == 0


def test_too_little_noise_on_the_count_is_refused():
    with pytest.raises(UserError, match=r"1\.2 cannot be reached .* have more members a step"):
        adaptive(count_stddev=0.6)


@pytest.mark.parametrize("build", [Gaussian, Tree, adaptive])
@pytest.mark.parametrize(
    ("name", "value"),
    [("clip_norm", v) for v in (0, -1, math.nan, math.inf)]
    + [("noise_multiplier", v) for v in (-1, math.nan, math.inf, 1e-200, 1e200)],
)
def test_impossible_numbers_are_refused(build, name, value):
    with pytest.raises(UserError, match=f"{name} is "):
        build(**{"clip_norm": 1.0, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target_quantile", -0.1),
        ("target_quantile", 1.1),
        ("target_quantile", math.nan),
        ("clip_learning_rate", -1),
        ("clip_learning_rate", math.nan),
        ("count_stddev", -1),
        ("count_stddev", math.nan),
    ],
)
def test_impossible_adaptive_settings_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name} is "):
        adaptive(**{name: value})
