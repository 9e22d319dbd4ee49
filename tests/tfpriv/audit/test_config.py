import pytest

from tfpriv.audit import AuditConfig
from tfpriv.errors import UserError


def test_fields_with_a_meaning_are_filled_in():
    config = AuditConfig(run="runs/x", attack="lira").complete()
    assert (config.max_examples, config.shadow_models, config.lira_variant) == (1000, 32, "both")
    assert config.lira_variant == "both"
    config = AuditConfig(run="runs/x", attack="one_run").complete()
    assert config.max_examples is None and config.shadow_models is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run": None}, "there is nothing to audit; give --run"),
        ({"run": ""}, "there is nothing to audit; give --run"),
        ({"attack": "magic"}, "--attack=magic"),
        ({"attack": "lira", "lira_variant": "sideways"}, "--lira_variant=sideways"),
        ({"attack": "one_run", "shadow_models": 8}, "--shadow_models=8"),
        ({"attack": "membership", "processes": 1}, "--processes=1"),
        ({"attack": "one_run", "max_examples": 100}, "--max_examples=100"),
        ({"attack": "lira", "shadow_models": 2}, "--shadow_models=2 is too small"),
        ({"attack": "lira", "shadow_models": 5}, "--shadow_models=5 must be even"),
        ({"attack": "lira", "processes": 0}, "--processes=0 is too small"),
        ({"max_examples": 9}, "--max_examples=9 is too small"),
        ({"max_examples": 19}, "--max_examples=19 is too small; it must be at least 20"),
        ({"attack": "lira", "max_examples": 9}, "--max_examples=9 is too small"),
        ({"seed": -1}, "--seed=-1 is too small"),
        ({"seed": 2**32}, "--seed=4294967296 is too large; it must be at most 4294967295"),
        ({"confidence": 0.4}, "--confidence=0.4 must be at least 0.5"),
        ({"confidence": 1.0}, "--confidence=1.0 must be"),
        ({"confidence": float("nan")}, "--confidence=nan must be"),
    ],
)
def test_what_has_no_meaning_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        AuditConfig(**{"run": "runs/x", **settings}).complete()
