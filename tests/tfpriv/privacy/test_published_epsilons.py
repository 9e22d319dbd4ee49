"""Epsilons of published settings of DP-SGD, with today's accountants."""

import pytest

from tfpriv.privacy import Gaussian, PoissonSampler, PrivacyPlan

# Noise multiplier, epochs, RDP and PLD: TensorFlow Privacy's tutorial table and Opacus's example,
# MNIST, expected batch 256, delta 1e-5; there 1.19, 3.01 and 7.10.
# PLD on a grid of 1e-4; a coarser one gives up to 0.008 more.
TUTORIAL = [(1.3, 15, 0.95, 0.865), (1.1, 60, 2.60, 2.382), (0.7, 45, 6.32, 5.64)]
# Abadi et al. 2016, figure 2: q = 0.01, noise 4, delta 1e-5; there 1.26 and 2.55.
MOMENTS = [(100, 1.04, 0.947), (400, 2.21, 2.034)]


def _epsilon(expected_size, noise_multiplier, steps):
    return PrivacyPlan(
        unit="example",
        sampler=PoissonSampler(population=60_000, expected_size=expected_size),
        mechanism=Gaussian(clip_norm=1.0, noise_multiplier=noise_multiplier),
        delta=1e-5,
    ).epsilon([steps])


@pytest.mark.parametrize(("noise_multiplier", "epochs", "rdp", "pld"), TUTORIAL)
def test_tutorial_table(noise_multiplier, epochs, rdp, pld):
    epsilon = _epsilon(256, noise_multiplier, round(epochs * 60_000 / 256))
    assert epsilon.rdp == pytest.approx(rdp, abs=0.005)
    assert epsilon.pld == pytest.approx(pld, abs=0.005)


@pytest.mark.parametrize(("epochs", "rdp", "pld"), MOMENTS)
def test_moments_accountant_figures(epochs, rdp, pld):
    epsilon = _epsilon(600, 4.0, epochs * 100)
    assert epsilon.rdp == pytest.approx(rdp, abs=0.005)
    assert epsilon.pld == pytest.approx(pld, abs=0.002)
