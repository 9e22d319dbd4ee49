"""Mechanisms and samplers that are not ours: accounted as ours are, with the same refusals."""

import dataclasses
from typing import ClassVar

import dp_accounting
import numpy as np
import pytest

from tfpriv import noise, privacy
from tfpriv.errors import UserError
from tfpriv.federated import FederatedConfig

KNOWN = {"clip_norm": 1.0, "noise_multiplier": 2.0}
POISSON = privacy.PoissonSampler(population=100, expected_size=10)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(privacy.Mechanism):
    """Independent noise, with an event that a test may choose."""

    name: ClassVar[str] = "own"

    chosen: object = None

    def in_words(self, unit):
        return f"each {unit} was clipped"

    def build_noise(self, size, steps_per_pass=None):
        return noise.IndependentNoise(size, self.noise_multiplier)

    def event(self, sampler, segments):
        return self.chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Everybody(privacy.Sampler):
    """All members each time, or what a test may choose."""

    name: ClassVar[str] = "everybody"

    population: int
    expected_size: float
    chosen: object = None

    def neighboring_relation(self, unit):
        return f"add or remove one {unit}"

    def in_words(self, unit):
        return f"every {unit} took part"

    def sample(self, step, seed, segment=0):
        return np.arange(self.population) if self.chosen is None else self.chosen


def plan_of(mechanism, sampler=POISSON):
    return privacy.PrivacyPlan(unit="client", sampler=sampler, mechanism=mechanism, delta=1e-5)


def test_independent_noise_of_ones_own_is_accounted_as_gaussian():
    ours, own = plan_of(privacy.Gaussian(**KNOWN)), plan_of(Own(**KNOWN))
    assert own.event([7]) == ours.event([7])
    fitted = privacy.fit(own, 50, target_epsilon=2.0)
    assert fitted.mechanism == dataclasses.replace(
        own.mechanism, noise_multiplier=ours.calibrate(2.0, 50).mechanism.noise_multiplier
    )
    assert "Own (own) does what it says of itself" in own.warnings[0] and not ours.warnings


def test_without_a_claim_of_amplification_there_is_none():
    everybody = Everybody(population=100, expected_size=100)
    plan = plan_of(privacy.Gaussian(**KNOWN), everybody)
    gaussian = dp_accounting.GaussianDpEvent(2.0)
    assert plan.event([3, 0, 4]) == dp_accounting.SelfComposedDpEvent(gaussian, 7)
    assert "everybody" in plan.warnings[0]
    assert everybody.largest_size(1e-6) == 100


def composed(release, count=1):
    return dp_accounting.SelfComposedDpEvent(release, count)


GAUSSIAN = dp_accounting.GaussianDpEvent(1.0)


@pytest.mark.parametrize(
    "event",
    [
        GAUSSIAN,
        dp_accounting.NonPrivateDpEvent(),
        dp_accounting.NoOpDpEvent(),
        composed(dp_accounting.LaplaceDpEvent(1.0)),
        composed(dp_accounting.GaussianDpEvent(0.0)),
        composed(dp_accounting.GaussianDpEvent(float("nan"))),
        composed(dp_accounting.GaussianDpEvent(float("inf"))),
        composed(GAUSSIAN, -1),
        composed(GAUSSIAN, 1.5),
        composed(dp_accounting.PoissonSampledDpEvent(0.0, GAUSSIAN)),
        composed(dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.LaplaceDpEvent(1.0))),
        composed(dp_accounting.SampledWithoutReplacementDpEvent(10, 11, GAUSSIAN)),
        dp_accounting.ComposedDpEvent([GAUSSIAN]),
        "nothing",
    ],
)
def test_an_event_without_accounting_is_refused(event):
    with pytest.raises(UserError, match=r"the mechanism own says that it releases .*, for which"):
        plan_of(Own(**KNOWN, chosen=event)).epsilon([5])


def test_an_event_of_several_groups_adds_up():
    event = dp_accounting.ComposedDpEvent(
        [composed(dp_accounting.PoissonSampledDpEvent(0.1, GAUSSIAN), 3), composed(GAUSSIAN, 2)]
    )
    plan = dataclasses.replace(plan_of(Own(**KNOWN, chosen=event)), release_noise_multiplier=1.0)
    assert [part.count for part in plan.event([5]).events] == [1, 3, 2]
    assert plan.epsilon([5]).value > plan_of(Own(**KNOWN, chosen=event)).epsilon([5]).value


@pytest.mark.parametrize(
    "drawn",
    [[3, 3], [4, 3], [-1, 2], [5, 100], [0.0, 1.0], [[1, 2]], [True, False]],
)
def test_draws_that_are_no_set_of_members_are_refused(drawn):
    sampler = Everybody(population=100, expected_size=100, chosen=np.array(drawn))
    with pytest.raises(UserError, match="the sampler everybody drew"):
        plan_of(privacy.Gaussian(**KNOWN), sampler).participants(0, 0, 0)


@pytest.mark.parametrize("drawn", [np.array([], np.int64), np.array([0, 99]), [5]])
def test_any_set_of_members_is_taken(drawn):
    sampler = Everybody(population=100, expected_size=100, chosen=drawn)
    found = plan_of(privacy.Gaussian(**KNOWN), sampler).participants(0, 0, 0)
    np.testing.assert_array_equal(found, drawn)


def test_correlated_mechanisms_refuse_a_sampler_of_ones_own():
    with pytest.raises(UserError, match="the mechanism tree has no bound for the sampler everyb"):
        plan_of(privacy.Tree(**KNOWN), Everybody(population=100, expected_size=100))


def test_a_sampler_that_a_mechanism_needs_is_demanded():
    class Shuffled(Own):
        sampler: ClassVar[str] = "shuffled"

    with pytest.raises(UserError, match=r"own has no bound for the sampler poisson; .* shuffled"):
        plan_of(Shuffled(**KNOWN))


def test_noise_that_starts_anew_with_each_pass_needs_passes():
    class Restarting(Own):
        restarts: ClassVar[bool] = True

    with pytest.raises(UserError, match="own starts anew after each pass, and the sampler poiss"):
        plan_of(Restarting(**KNOWN))


def build_other_noise(clip_norm, noise_multiplier):
    return Own(clip_norm=clip_norm, noise_multiplier=9.0)


def build(clip_norm, noise_multiplier):
    return Own(clip_norm=clip_norm, noise_multiplier=noise_multiplier)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (build_other_noise, "whose noise_multiplier is 9.0, not the run's 2.0"),
        (lambda clip_norm, noise_multiplier: "nothing", "returned a str; return a tfpriv.privacy"),
    ],
)
def test_a_function_that_returns_something_else_is_refused(function, message):
    config = FederatedConfig(
        privacy_unit="client", noise_multiplier=2.0, mechanism=function, sampler="poisson"
    ).complete()
    with pytest.raises(UserError, match=f"--mechanism=.*{message}"):
        privacy.build_mechanism(config.mechanism, **KNOWN, members_per_step=10, horizon=5)


def test_what_belongs_to_other_mechanisms_is_refused():
    with pytest.raises(UserError, match="--bands=3 has no meaning with --mechanism="):
        FederatedConfig(
            privacy_unit="client", noise_multiplier=2.0, mechanism=build, bands=3
        ).complete()
