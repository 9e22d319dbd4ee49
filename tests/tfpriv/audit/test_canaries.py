import dp_accounting
import numpy as np

from tfpriv.audit import claims, guesses
from tfpriv.audit.canaries import finding

_WORDS = {"good": "sees much", "bad": "sees nothing"}


def test_attackers_share_the_error_probability():
    coins = np.random.default_rng(0).random(500) < 0.5
    scores = {"good": coins + 0.0, "bad": np.zeros(500)}
    found = finding(scores, coins, _WORDS, "example", None, 0.95, figures={"more": 1})
    alone = guesses.guess_canaries(scores["good"], coins, None, 0.975)
    assert found.epsilon_lower_bound == alone["epsilon"] > 2
    assert found.threat_model == "sees much" and found.figures["more"] == 1
    assert found.summary["good_epsilon"] > found.summary["bad_epsilon"]
    assert "Theorem 5.2" in found.bound_rests_on


def test_attacker_chosen_beforehand_keeps_the_whole_error_probability_and_alone_counts():
    coins = np.random.default_rng(0).random(500) < 0.5
    scores = {"good": coins + 0.0, "bad": np.zeros(500)}
    noise = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(1.0), 1)
    claim = claims.Claim(noise, 1e-5)
    for counted, is_much in (("good", True), ("bad", False)):
        found = finding(scores, coins, _WORDS, "example", claim, 0.95, counted)
        alone = guesses.guess_canaries(scores[counted], coins, claim, 0.95)
        assert found.epsilon_lower_bound == alone["epsilon"]
        assert (alone["epsilon"] > 2) == is_much
        assert found.threat_model == _WORDS[counted]
        assert [one["bound_confidence"] for one in found.figures["results"]] == [0.95, 0.95]
        assert "Mahloujifar" in found.bound_rests_on
