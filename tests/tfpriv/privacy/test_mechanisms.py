import dataclasses
import math
import re

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp

from tfpriv.errors import UserError
from tfpriv.privacy import AdaptiveGaussian, Banded, Gaussian, Tree, build_mechanism


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
    with pytest.raises(
        UserError, match=r"1\.2 cannot .* of 0\.6 on .* below 1\.2 can; have more members a step"
    ):
        adaptive(count_stddev=0.6)
    assert adaptive(count_stddev=0.6001).value_noise_multiplier > 60


@pytest.mark.parametrize("build", [Gaussian, Tree, adaptive])
@pytest.mark.parametrize(
    ("name", "value"),
    [("clip_norm", v) for v in (0, -1, math.nan, math.inf)]
    + [("noise_multiplier", v) for v in (-1, math.nan, math.inf, 1e-200, 1e200)],
)
def test_impossible_numbers_are_refused(build, name, value):
    with pytest.raises(UserError, match=f"{name} is "):
        build(**{"clip_norm": 1.0, name: value})


@pytest.mark.parametrize("build", [Gaussian, Tree, Banded])
@pytest.mark.parametrize(
    ("name", "least", "most", "words"),
    [
        ("clip_norm", 1e-10, 1e10, "must be a number from 1e-10 to 1e+10"),
        ("noise_multiplier", 1e-3, 1e5, "must be 0 or a number from 0.001 to 100000"),
    ],
)
def test_bounds_of_numbers_are_still_possible_and_what_lies_beyond_is_not(
    build, name, least, most, words
):
    for value in (least, most):
        assert getattr(build(**{"clip_norm": 1.0, name: value}), name) == value
    for value in (least * 0.999, most * 1.001):
        with pytest.raises(UserError, match=re.escape(words)):
            build(**{"clip_norm": 1.0, name: value})
    assert not build(clip_norm=1.0, noise_multiplier=0.0).noise_multiplier


@pytest.mark.parametrize(
    "mechanism",
    [Gaussian(clip_norm=1.0), Tree(clip_norm=1.0), Banded(clip_norm=1.0), adaptive()],
    ids=lambda mechanism: mechanism.name,
)
def test_mechanism_stays_as_it_was_accounted_and_names_its_numbers(mechanism):
    with pytest.raises(dataclasses.FrozenInstanceError):
        mechanism.noise_multiplier = 7.0
    with pytest.raises(TypeError):
        type(mechanism)(*dataclasses.astuple(mechanism))


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


def test_extreme_adaptive_settings_are_possible():
    for quantile in (0, 1):
        assert adaptive(target_quantile=quantile).target_quantile == quantile
    assert adaptive(clip_learning_rate=0).clip_learning_rate == 0
    assert adaptive(count_stddev=0, noise_multiplier=None).count_stddev == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"factorization": "cholesky"}, "'cholesky'; choose one of optimized, sqrt, inverse_sqrt."),
        ({"bands": 0}, "bands is 0; it must be at least 1."),
        ({"factorization": "optimized", "horizon": 0}, "horizon is 0; the factorization optimized"),
    ],
)
def test_impossible_banded_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=re.escape(words)):
        Banded(clip_norm=1.0, **settings)


def test_one_band_is_independent_noise_however_it_is_found():
    for name in ("optimized", "sqrt", "inverse_sqrt"):
        mechanism = Banded(clip_norm=1.0, factorization=name, bands=1, horizon=1)
        assert mechanism.coefficients().tolist() == [1.0]
        # A prefix sum of t independent numbers has the variance t.
        assert mechanism.prefix_error(9) == pytest.approx(math.sqrt(5))
    assert Banded(clip_norm=1.0).bands == 16


def test_square_root_starts_with_a_half_and_the_optimized_column_has_less_error_over_its_horizon():
    root = Banded(clip_norm=1.0, factorization="sqrt", bands=3)
    first, second, third = root.coefficients()
    assert (second / first, third / first) == pytest.approx((1 / 2, 3 / 8))
    best = Banded(clip_norm=1.0, factorization="optimized", bands=3, horizon=40)
    assert best.prefix_error(40) < 0.99 * root.prefix_error(40)


@pytest.mark.parametrize("name", ["optimized", "sqrt", "inverse_sqrt"])
def test_banded_prefix_error_is_that_of_dense_matrices(name):
    mechanism = Banded(clip_norm=1.0, factorization=name, bands=3, horizon=8)
    column = np.concatenate([mechanism.coefficients(), np.zeros(5)])
    banded = np.array([[column[i - j] if i >= j else 0.0 for j in range(8)] for i in range(8)])
    noise = banded if name == "inverse_sqrt" else np.linalg.inv(banded)
    expected = np.linalg.norm(np.tril(np.ones((8, 8))) @ noise) / math.sqrt(8)
    assert mechanism.prefix_error(8) == pytest.approx(expected, rel=1e-12)
    # One member in one step moves C x by the norm of C's column: by 1, if C itself is banded.
    moved = np.linalg.norm(np.linalg.inv(noise)[:, 0])
    assert mechanism.sensitivity(8, 8) == pytest.approx(moved, rel=1e-12)
    assert name == "inverse_sqrt" or moved == pytest.approx(1.0, rel=1e-12)


NUMBERS = {"clip_norm": 0.5, "noise_multiplier": 1.2, "members_per_step": 120.0, "horizon": 300}


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("gaussian", {}, Gaussian(clip_norm=0.5, noise_multiplier=1.2)),
        ("tree", {}, Tree(clip_norm=0.5, noise_multiplier=1.2)),
        (
            "banded",
            {"factorization": "optimized"},
            Banded(
                clip_norm=0.5,
                noise_multiplier=1.2,
                factorization="optimized",
                bands=1,
                horizon=300,
            ),
        ),
        # The noise on the count is a twentieth of the members of a step.
        (
            "adaptive",
            {"target_quantile": 0.3, "clip_learning_rate": 0.1},
            adaptive(clip_norm=0.5, target_quantile=0.3, clip_learning_rate=0.1, count_stddev=6.0),
        ),
    ],
)
def test_mechanism_is_built_by_its_name_with_what_it_takes_of_the_settings(
    name, settings, expected
):
    built = build_mechanism(name, **NUMBERS, **settings)
    assert built == expected and built.name == name
