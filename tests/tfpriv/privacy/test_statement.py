import dataclasses
import json

import pytest

from tfpriv import rounding
from tfpriv.privacy import (
    AdaptiveGaussian,
    Banded,
    CyclicPoissonSampler,
    FixedSizeSampler,
    Gaussian,
    PoissonSampler,
    PrivacyPlan,
    ShuffledSampler,
    Tree,
    statement,
)

GAUSSIAN = Gaussian(clip_norm=0.5, noise_multiplier=1.2)
ADAPTIVE = AdaptiveGaussian(
    clip_norm=0.1,
    target_quantile=0.5,
    clip_learning_rate=0.2,
    count_stddev=6.0,
    noise_multiplier=1.2,
)
POISSON = PoissonSampler(population=3383, expected_size=120)
FIXED = FixedSizeSampler(population=3383, size=120)
SHUFFLED = ShuffledSampler(population=3383, size=120)
CYCLIC = CyclicPoissonSampler(population=3383, expected_size=120, separation=7)
ORDERED = CyclicPoissonSampler(population=3000, expected_size=120, separation=25)
PLANS = [
    PrivacyPlan(unit=unit, sampler=sampler, mechanism=mechanism, delta=1e-5)
    for unit, sampler, mechanism in [
        ("client", POISSON, GAUSSIAN),
        ("client", POISSON, ADAPTIVE),
        ("example", FIXED, GAUSSIAN),
        ("client", SHUFFLED, GAUSSIAN),
        ("client", SHUFFLED, Tree(clip_norm=0.5, noise_multiplier=1.2)),
        ("client", POISSON, dataclasses.replace(GAUSSIAN, noise_multiplier=0.01)),
        ("client", SHUFFLED, dataclasses.replace(GAUSSIAN, noise_multiplier=0.001)),
        ("example", CYCLIC, Banded(clip_norm=0.5, noise_multiplier=1.2, bands=4)),
        ("example", ORDERED, Banded(clip_norm=0.5, noise_multiplier=1.2, bands=4)),
        ("client", POISSON, None),
        ("example", FIXED, dataclasses.replace(GAUSSIAN, noise_multiplier=0.0)),
    ]
]


def describe(plan, **kwargs):
    return statement.describe(plan, plan.segments(100), covered="the released model", **kwargs)


def text_of(plan, **kwargs):
    return statement.as_text(plan, describe(plan, **kwargs))


def words(text):
    return " ".join(text.split())


@pytest.mark.parametrize("plan", PLANS)
def test_statement_is_strict_json_with_the_promised_keys(plan):
    described = describe(plan, not_covered=["the train metrics"])
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert set(described) == {
        *("private", "unit", "neighboring_relation", "sampler", "population", "expected_size"),
        *("mechanism", "noise_multiplier", "clip_norm", "release_noise_multiplier", "steps"),
        *("repeated_steps", "stopped_early_after", "insecure_sampling_seed", "delta", "notes"),
        *("epsilon", "accountant", "epsilon_pld", "epsilon_rdp", "event"),
        *("noise", "covered", "not_covered"),
    }


@pytest.mark.parametrize("plan", PLANS)
def test_indented_text_fits_in_eighty_columns(plan):
    text = text_of(plan, repeated_steps=3, not_covered=["a long list of words " * 10])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 78
    # Only what goes on with a point of the list is indented.
    points = lines.index("Not covered:") if plan.is_private else len(lines)
    assert not any(line.startswith((" ", "- ")) for line in lines[:points])
    assert all(line.startswith(("  ", "- ")) for line in lines[points + 1 :])


def test_lines_are_filled():
    # 78 columns.
    described = {**describe(PLANS[0]), "notes": ["abcdef " * 10 + "abcdefgh"]}
    assert "abcdef " * 10 + "abcdefgh\n" in statement.as_text(PLANS[0], described)


@pytest.mark.parametrize(
    ("epsilon", "words_"),
    [
        (0.6931, "at most exp(0.6931), or about 2, times"),
        (9.21, "at most exp(9.21), or about 1e+04, times"),
        (9.22, "at most exp(9.22) times"),
        (2000.0, "at most exp(2000) times"),
    ],
)
def test_how_much_more_probable_is_told_as_a_number_up_to_ten_thousand(epsilon, words_):
    described = {**describe(PLANS[0]), "epsilon": epsilon}
    assert words_ in words(statement.as_text(PLANS[0], described))


def test_run_that_spent_more_than_its_target_is_noted():
    described = {**describe(PLANS[0]), "epsilon": 2.00041}
    (note,) = statement.notes_on_target(described, 2.0)
    assert note.startswith("epsilon is 2.001, above --target_epsilon=2: the run was interrupted")
    for target in (2.00041, 3.0, None):
        assert statement.notes_on_target(described, target) == ()
    assert statement.notes_on_target({**described, "epsilon": None}, 2.0) == ()


@pytest.mark.parametrize("plan", PLANS[-2:])
def test_no_noise_is_called_not_private_in_words(plan):
    described = describe(plan)
    text = statement.as_text(plan, described)
    assert "not private" in words(text)
    assert plan.unit in text
    assert "inf" not in text
    assert described["private"] is False
    names = ("epsilon", "epsilon_pld", "epsilon_rdp", "accountant")
    assert [described[name] for name in names] == [None] * 4
    assert described["noise"] is None


@pytest.mark.parametrize("plan", PLANS[:-2])
def test_text_names_all_that_the_guarantee_rests_on(plan):
    described = describe(plan, not_covered=["the train metrics"])
    text = words(statement.as_text(plan, described))
    epsilon = rounding.up(described["epsilon"])
    assert f"({epsilon}, 1e-05)-differential privacy for one {plan.unit}" in text
    assert f"by {described['accountant']}" in text
    assert plan.neighboring_relation in text
    assert "the released model" in text
    assert "In each of 100 steps" in text
    for item in (*statement.NOT_COVERED, "the train metrics"):
        assert f"- {item}" in text
    assert "run again" not in text
    for proved in ("discrete Gaussian", "nothing of the sum below the grid", "It is not proved"):
        assert proved in text


@pytest.mark.parametrize(
    ("plan", "relation", "sampling"),
    [
        (PLANS[0], "add or remove one client", "with probability 0.03547, independently"),
        (PLANS[2], "replace one example by another", "120 of 3383 examples took part, drawn anew"),
        (PLANS[3], "contributes nothing (zero-out)", "none is seen twice in a pass; no ampl"),
    ],
)
def test_sampler_and_relation_are_told_in_words(plan, relation, sampling):
    text = words(text_of(plan))
    assert relation in text
    assert sampling in text


def test_both_accountants_are_named_whichever_is_lesser():
    plan = PLANS[0]
    described = describe(plan)
    assert f"by PLD ({rounding.up(described['epsilon_rdp'])} by RDP)" in words(text_of(plan))
    # With thousands of likely steps and little noise, PLD's grid is too coarse to beat RDP.
    busy = dataclasses.replace(
        plan,
        sampler=PoissonSampler(population=10, expected_size=5),
        mechanism=dataclasses.replace(GAUSSIAN, noise_multiplier=0.5),
    )
    described = statement.describe(busy, [100_000], covered="the model")
    assert described["epsilon"] == described["epsilon_rdp"] < described["epsilon_pld"]
    text = words(statement.as_text(busy, described))
    assert f"by RDP ({rounding.up(described['epsilon_pld'])} by PLD)" in text
    strict = dataclasses.replace(plan, delta=1e-20)
    assert "by RDP; PLD has no bound for an epsilon so large or a" in words(text_of(strict))


def test_mechanism_is_told_with_its_numbers():
    assert "clipped to an L2 norm of 0.5 and Gaussian noise of 1.2 times" in words(
        text_of(PLANS[0])
    )
    adaptive = words(text_of(PLANS[1]))
    assert "follows the 0.5 quantile, from 0.1" in adaptive
    assert "on the sum (1.206) and on the count of clipped clients (6) together" in adaptive
    assert "each node of a tree over the steps" in words(text_of(PLANS[4]))


def test_epsilon_is_never_printed_as_less_than_it_is():
    """1.00045 is not 1, as a text that rounds to the nearest would say."""
    described = {**describe(PLANS[0]), "epsilon": 1.00045, "epsilon_rdp": 1.12341}
    text = words(statement.as_text(PLANS[0], described))
    assert "(1.001, 1e-05)-differential privacy" in text and "exp(1.001)" in text
    assert "1.124 by RDP" in text


def test_number_that_decided_who_took_part_is_said_to_void_epsilon():
    text = words(text_of(PLANS[0], insecure_sampling_seed=5))
    assert "the number 5, given as --insecure_sampling_seed" in text
    assert "does not hold for whoever knows this number" in text
    assert "sampling key" not in text
    assert "insecure" not in words(text_of(PLANS[0])) and "sampling key" in words(text_of(PLANS[0]))


def test_run_that_a_result_ended_says_why_epsilon_is_of_all_steps():
    text = words(text_of(PLANS[0], stopped_early_after=40))
    assert "ended after 40 of the steps" in text and "only for a number fixed beforehand" in text


@pytest.mark.parametrize("plan", PLANS[:-2])
def test_delta_of_one_over_the_population_is_noted_in_every_statement(plan):
    weak = dataclasses.replace(plan, delta=1 / plan.sampler.population)
    assert "publishes one member outright would pass" in words(text_of(weak))
    assert describe(weak)["notes"] and not describe(plan)["notes"]


def test_repeated_steps_are_told():
    text = words(text_of(PLANS[0], repeated_steps=7))
    assert "7 of the steps were run again after an interruption and count twice" in text


def test_release_before_the_first_step_is_told():
    released = dataclasses.replace(PLANS[0], release_noise_multiplier=7.0)
    text = words(text_of(released))
    assert "Before the first step all 3383 clients took part in one release" in text
    assert "Gaussian noise of 7 times what one client can add to it" in text
    assert "one release" not in words(text_of(PLANS[0]))
    described = statement.describe(released, [], covered="the released model")
    assert described["epsilon"] > 0 and described["release_noise_multiplier"] == 7.0


def test_run_without_steps_has_spent_nothing():
    described = statement.describe(PLANS[0], [], covered="the released model")
    assert described["epsilon"] == 0
    assert "(0, 1e-05)-differential privacy" in words(statement.as_text(PLANS[0], described))


@pytest.mark.parametrize(
    ("sampler", "name", "is_amplified"),
    [
        (CYCLIC, "optimized", True),
        (CYCLIC, "sqrt", True),
        (CYCLIC, "inverse_sqrt", False),
        (ORDERED, "sqrt", False),
    ],
)
def test_banded_noise_is_told_and_amplification_only_where_it_is_claimed(
    sampler, name, is_amplified
):
    mechanism = Banded(
        clip_norm=0.5, noise_multiplier=1.2, bands=4, factorization=name, horizon=100
    )
    plan = PrivacyPlan(unit="example", sampler=sampler, mechanism=mechanism, delta=1e-5)
    text = words(text_of(plan))
    assert (
        f"one of {sampler.separation} parts of {sampler.population} examples had its turn" in text
    )
    assert "with 4 bands" in text and ("inverse" in text) == (name == "inverse_sqrt")
    assert ("with the least error" in text) == (name == "optimized")
    assert ("no amplification is claimed" not in text) == is_amplified
