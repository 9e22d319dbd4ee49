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


@pytest.mark.parametrize("leaf_count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100])
def test_tree_counts_the_most_nodes_that_a_leaf_is_in(leaf_count):
    # A node of height h covers 2^h leaves in a row, and is released when all of them are there.
    nodes = [
        range(start, start + 2**height)
        for height in range(8)
        for start in range(0, leaf_count, 2**height)
        if start + 2**height <= leaf_count
    ]
    most = max(sum(leaf in node for node in nodes) for leaf in range(leaf_count))
    assert Tree(clip_norm=1, noise_multiplier=1).event(leaf_count).count == most


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8, 15, 16, 17, 240, 1023, 1024, 100_000])
def test_tree_is_worth_what_dp_accounting_says(steps):
    relation = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    theirs = dp_accounting.SingleEpochTreeAggregationDpEvent(2.5, steps)
    ours = Tree(clip_norm=1, noise_multiplier=2.5).event(steps)
    np.testing.assert_allclose(
        rdp.RdpAccountant().compose(ours).rdp,
        rdp.RdpAccountant(neighboring_relation=relation).compose(theirs).rdp,
        rtol=1e-12,
    )


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
