"""Numbers of any size in every setting: each config is completed or refused in a sentence."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as some

from tfpriv import settings
from tfpriv.audit.config import AuditConfig
from tfpriv.central import CentralConfig
from tfpriv.errors import UserError
from tfpriv.federated import FederatedConfig
from tfpriv.secure import InferenceConfig, SecureTrainingConfig

CONFIGS = (FederatedConfig, CentralConfig, InferenceConfig, SecureTrainingConfig, AuditConfig)
NUMBERS = [
    pytest.param(config, setting, id=f"{config.__name__}.{setting.name}")
    for config in CONFIGS
    for setting in settings.of(config)
    if setting.kind in (int, float)
]
WHOLE = some.one_of(some.integers(), some.sampled_from([0, 1, 2**31, 2**63, 10**20]))
REAL = some.one_of(
    some.floats(), some.sampled_from([0.0, 1.0, math.nan, math.inf, 5e-324, 1e300, -1e-300])
)


@pytest.mark.parametrize(("config", "setting"), NUMBERS)
def test_every_number_has_a_range(config, setting):
    limit = setting.limit
    assert -math.inf < limit.least <= limit.most < math.inf
    assert not limit.holds(math.nan)
    for value, is_open in ((limit.least, limit.above), (limit.most, limit.below)):
        assert limit.holds(value) != is_open
    assert not limit.holds(limit.least - 1) and not limit.holds(2 * limit.most + 1)
    if setting.default is not None:
        assert limit.holds(setting.default)


@pytest.mark.parametrize(("config", "setting"), NUMBERS)
def test_a_number_that_is_too_large_is_told_the_largest(config, setting):
    with pytest.raises(UserError, match=rf"^--{setting.name}=1\S* (is too large;|must be)"):
        setting.limit.check(setting.name, 10**20 if setting.kind is int else 1e300)


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True, database=None)
@hypothesis.given(data=some.data())
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_numbers_of_any_size_are_taken_or_refused_in_a_sentence(config, data):
    numbers = [setting for setting in settings.of(config) if setting.kind in (int, float)]
    chosen = data.draw(some.lists(some.sampled_from(numbers), max_size=3, unique_by=id))
    fields = {s.name: data.draw(WHOLE if s.kind is int else REAL) for s in chosen}
    if config is AuditConfig:
        fields["run"] = "runs/any"
    if config is InferenceConfig:
        fields["model"] = "runs/any"
    try:
        made = config(**fields)
        made.check() if config is InferenceConfig else made.complete()
    except UserError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
        return
    for setting in chosen:
        assert setting.limit.holds(np.float64(fields[setting.name]))
