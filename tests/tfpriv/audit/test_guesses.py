"""Guesses by scores: what they prove of known truths, with and without a claim."""

import functools
import math

import dp_accounting
import numpy as np
import pytest

from tfpriv.audit import guesses
from tfpriv.audit.claims import Claim


def _at_most(share, expected, repetitions):
    """Whether a simulated share is at most what is expected, within 3 standard errors."""
    return share <= expected + 3 * math.sqrt(expected * (1 - expected) / repetitions)


# Without a claim: about one run's canaries.


def _randomized_response(epsilon, canaries, generator):
    """Scores that tell each canary's coin as truly as epsilon-DP allows, and the coins."""
    coins = generator.random(canaries) < 0.5
    is_flipped = generator.random(canaries) < 1 / (1 + math.exp(epsilon))
    jitter = generator.uniform(0, 0.1, canaries)
    return (coins ^ is_flipped) + jitter, coins


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_guesses_exceed_the_true_epsilon_as_seldom_as_the_confidence_says(epsilon, monkeypatch):
    # The same counts come up again and again.
    bound = functools.cache(guesses.one_run_epsilon)
    monkeypatch.setattr(guesses, "one_run_epsilon", bound)
    generator = np.random.default_rng(17)
    repetitions = 400
    bounds = np.array(
        [
            guesses.guess_canaries(*_randomized_response(epsilon, 400, generator))["epsilon"]
            for _ in range(repetitions)
        ]
    )
    assert _at_most(np.mean(bounds > epsilon), 0.05, repetitions)
    # Not by proving nothing.
    if epsilon:
        assert np.mean(bounds) > epsilon / 3


def test_random_scores_prove_nothing_as_often_as_the_confidence_says():
    generator = np.random.default_rng(23)
    repetitions = 400
    positive = sum(
        guesses.guess_canaries(generator.normal(size=200), generator.random(200) < 0.5, None, 0.8)[
            "epsilon"
        ]
        > 0
        for _ in range(repetitions)
    )
    assert _at_most(positive / repetitions, 0.2, repetitions)


def test_perfect_scores_prove_a_large_epsilon():
    coins = np.random.default_rng(0).random(1000) < 0.5
    found = guesses.guess_canaries(coins.astype(float), coins)
    assert found["epsilon"] > 4
    assert found["correct"] == found["guesses"] > 100


def test_guesses_turned_around_prove_nothing():
    coins = np.random.default_rng(0).random(1000) < 0.5
    assert guesses.guess_canaries(-coins.astype(float), coins)["epsilon"] == 0


@pytest.mark.parametrize("canaries", [20, 21, 37])
def test_guesses_of_few_canaries_are_no_more_than_there_are(canaries):
    coins = np.arange(canaries) % 2 == 0
    found = guesses.guess_canaries(coins.astype(float), coins)
    assert 2 <= found["guesses"] <= canaries
    assert found["epsilon"] > 0


def test_scores_that_are_not_finite_are_guessed_by_their_sign():
    coins = np.arange(100) < 50
    scores = np.where(coins, np.inf, -np.inf)
    found = guesses.guess_canaries(scores, coins)
    assert found["epsilon"] == guesses.guess_canaries(coins * 1.0, coins)["epsilon"] > 1
    scores[:] = np.nan
    assert 0 <= guesses.guess_canaries(scores, coins[::-1])["epsilon"] < math.inf


# Without a claim: about the pairs of a draw.


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_pairs_exceed_the_true_epsilon_as_seldom_as_the_confidence_says(epsilon, monkeypatch):
    """Each example's part is told as truly as epsilon-DP allows."""
    bound = functools.cache(guesses.one_run_epsilon)
    monkeypatch.setattr(guesses, "one_run_epsilon", bound)
    generator = np.random.default_rng(6)
    repetitions, pairs = 100, 500
    truth = 1 / (1 + math.exp(-epsilon))
    bounds = []
    for number in range(repetitions):
        members, others = (generator.random(pairs) < share for share in (truth, 1 - truth))
        found = guesses.guess_pairs(members * 1.0, others * 1.0, seed=number)
        bounds.append(found["epsilon"])
    assert _at_most(np.mean(np.array(bounds) > epsilon), 0.05, repetitions)
    assert np.mean(bounds) > epsilon / 3


def test_scores_of_equal_pairs_and_of_pairs_turned_around_prove_nothing():
    assert guesses.guess_pairs(np.ones(100), np.ones(100))["epsilon"] == 0
    assert guesses.guess_pairs(np.zeros(100), np.ones(100))["epsilon"] == 0


@pytest.mark.parametrize("pairs", [1, 2, 10])
def test_few_pairs_are_guessed_no_more_often_than_there_are(pairs):
    found = guesses.guess_pairs(np.ones(pairs), np.zeros(pairs))
    assert 1 <= found["correct"] <= found["guesses"] <= pairs


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_pairs_take_scores_that_are_not_finite(bad):
    found = guesses.guess_pairs(np.full(100, bad), np.linspace(1, 2, 100))
    assert (found["epsilon"] > 1) == (bad == np.inf)
    assert guesses.guess_pairs(np.full(9, bad), np.full(9, bad))["epsilon"] == 0


# Against a claim.


def _gaussian_claim(noise_multiplier, count=1):
    step = dp_accounting.GaussianDpEvent(noise_multiplier)
    claim = Claim(dp_accounting.SelfComposedDpEvent(step, count), 1e-5)
    # The same counts come up again and again.
    claim.bound, claim.guesses = functools.cache(claim.bound), functools.cache(claim.guesses)
    return claim


def _bounds(claim, shift, generator, *, canaries=400, repetitions=150):
    """Bounds against mechanisms that tell each coin by a normal score, as well as can be."""
    found = []
    for _ in range(repetitions):
        coins = generator.random(canaries) < 0.5
        scores = generator.normal(size=canaries) + shift * coins
        found.append(guesses.guess_canaries(scores, coins, claim)["epsilon"])
    return np.array(found)


@pytest.mark.parametrize(("noise_multiplier", "proved"), [(0.5, 0.4), (1.0, 0.4), (3.0, 0.1)])
def test_true_claim_is_broken_as_seldom_as_the_confidence_says(noise_multiplier, proved):
    claim = _gaussian_claim(noise_multiplier)
    true = claim._epsilon(0)
    bounds = _bounds(claim, 1 / noise_multiplier, np.random.default_rng(3))
    assert _at_most(np.mean(bounds > true), 0.05, len(bounds))
    # Not by proving nothing.
    assert np.median(bounds) > proved * true


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_bound_is_valid_for_other_noise_than_was_claimed(factor):
    claim, true = _gaussian_claim(1.0), _gaussian_claim(factor)._epsilon(0)
    bounds = _bounds(claim, 1 / factor, np.random.default_rng(5))
    assert _at_most(np.mean(bounds > true), 0.05, len(bounds))
    assert np.median(bounds) > 0.3 * true


def test_claim_of_too_much_privacy_is_broken():
    claim = _gaussian_claim(4.0)
    bounds = _bounds(claim, 2.0, np.random.default_rng(7), repetitions=20)
    assert np.all(bounds > claim._epsilon(0))


def test_random_scores_against_a_claim_prove_little_more_than_nothing():
    generator = np.random.default_rng(9)
    bounds = _bounds(_gaussian_claim(1.0), 0.0, generator)
    assert _at_most(np.mean(bounds > 0.05), 0.05, len(bounds))


def test_number_of_guesses_does_not_depend_on_the_scores():
    claim = _gaussian_claim(1.0)
    generator = np.random.default_rng(1)
    coins = generator.random(500) < 0.5
    told = {
        guesses.guess_canaries(scores, coins, claim)["guesses"]
        for scores in (coins * 1.0, 1.0 - coins, generator.normal(size=500), np.zeros(500))
    }
    assert len(told) == 1


def test_stronger_claims_are_met_with_more_guesses():
    weak, middle, strong = (_gaussian_claim(z).guesses(1000, 0.05) for z in (0.5, 2.0, 8.0))
    assert 10 <= sum(weak) < sum(middle) < sum(strong) == 1000


def test_canaries_that_may_never_be_drawn_are_only_guessed_in():
    step = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(1.0))
    few, many = (
        Claim(dp_accounting.SelfComposedDpEvent(step, count), 1e-5).guesses(200, 0.05)
        for count in (10, 1000)
    )
    assert few[0] == 0 < few[1] <= 100
    assert many[0] > 0


def test_pairs_against_a_claim_hold_for_examples_that_are_replaced():
    generator = np.random.default_rng(11)
    claim, bounds = _gaussian_claim(1.0), []
    for number in range(100):
        members, others = generator.normal(size=(2, 300)) + np.array([[1.0], [0.0]])
        found = guesses.guess_pairs(members, others, claim, seed=number)
        assert 0 <= found["correct"] <= found["guesses"] <= 300
        bounds.append(found["epsilon"])
    assert _at_most(np.mean(np.array(bounds) > claim._epsilon(0)), 0.05, len(bounds))
    assert np.median(bounds) > 0.2 * claim._epsilon(0)


@pytest.mark.parametrize("canaries", [20, 21])
def test_few_canaries_against_a_claim(canaries):
    coins = np.arange(canaries) % 2 == 0
    found = guesses.guess_canaries(coins * 1.0, coins, _gaussian_claim(1.0))
    assert 1 <= found["guesses"] <= canaries and found["correct"] == found["guesses"]


def test_bound_of_enormous_and_of_tiny_claims_is_finite():
    for noise_multiplier in (0.01, 0.05, 1000.0):
        claim = _gaussian_claim(noise_multiplier)
        assert 0 <= claim.bound(1000, 100, 100, 0.05) < 1e5
        assert claim.bound(1000, 100, 50, 0.05) == 0
        assert 1 <= sum(claim.guesses(1000, 0.05)) <= 1000


def test_statement_without_epsilon_is_no_claim():
    assert Claim.of({"epsilon": None, "event": None, "delta": None}) is None
    step = "SelfComposedDpEvent(event=GaussianDpEvent(noise_multiplier=2.0), count=3)"
    claim = Claim.of({"epsilon": 3.0, "event": step, "delta": 1e-5})
    assert claim._epsilon(0) == _gaussian_claim(2.0, 3)._epsilon(0)
    with pytest.raises(ValueError, match="no event of tfpriv"):
        Claim.of({"epsilon": 3.0, "event": "__import__('os').system('true')", "delta": 1e-5})
