"""Who takes part in a private run is a secret, and in a run without privacy the seed's."""

import numpy as np
import pytest

from tfpriv import central, privacy, runs
from tfpriv.audit.target import Target
from tfpriv.central.config import CentralConfig
from tfpriv.errors import UserError

SMALL = {
    "dataset": "digits",
    "model": "logistic",
    "expected_batch_size": 64,
    "epochs": 1,
    "learning_rate": 0.5,
}
PRIVATE = {**SMALL, "noise_multiplier": 1.0}


@pytest.fixture(name="drawn")
def _drawn(monkeypatch):
    """The members that each step drew, in a list."""
    found = []
    true_draw = privacy.PrivacyPlan.participants

    def participants(self, step, seed, segment):
        members = true_draw(self, step, seed, segment)
        found.append(members.tolist())
        return members

    monkeypatch.setattr(privacy.PrivacyPlan, "participants", participants)
    return found


def _run(path, **settings):
    return central.run(CentralConfig(output_dir=str(path), **settings))


def _draws_of(drawn, path, **settings):
    drawn.clear()
    run = _run(path, **settings)
    return list(drawn), run


@pytest.mark.parametrize(
    "settings",
    [{}, {"sampler": "shuffled"}, {"mechanism": "tree"}, {"mechanism": "banded", "bands": 4}],
    ids=str,
)
def test_the_seed_tells_nothing_of_who_took_part(drawn, tmp_path, settings):
    first, _ = _draws_of(drawn, tmp_path / "0", **PRIVATE, **settings)
    second, _ = _draws_of(drawn, tmp_path / "1", **PRIVATE, **settings)
    assert len(first) == len(second) and all(a != b for a, b in zip(first, second, strict=True))


def test_run_without_privacy_repeats_to_the_last_digit(drawn, tmp_path):
    settings = {**SMALL, "mechanism": "none", "train_fraction": 0.5}
    first, run = _draws_of(drawn, tmp_path / "0", **settings)
    second, again = _draws_of(drawn, tmp_path / "1", **settings)
    assert first == second
    assert run.summary["test_loss"] == again.summary["test_loss"]
    assert not runs.sampling_key.path_of(run.path).exists()


def test_insecure_seed_repeats_the_draws_and_the_statement_says_so(drawn, tmp_path):
    settings = {**PRIVATE, "insecure_sampling_seed": 7}
    first, run = _draws_of(drawn, tmp_path / "0", **settings)
    second, _ = _draws_of(drawn, tmp_path / "1", **settings)
    assert first == second
    assert "does not hold for whoever knows this number" in " ".join(
        (run.path / "privacy.txt").read_text().split()
    )
    assert run.privacy["insecure_sampling_seed"] == 7
    assert not runs.sampling_key.path_of(run.path).exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mechanism": "none"}, "has no meaning with --mechanism=none"),
        ({"noise_multiplier": 0.0}, "has no meaning with --noise_multiplier=0"),
    ],
)
def test_insecure_seed_is_refused_where_nothing_is_secret(settings, message):
    with pytest.raises(UserError, match=message):
        CentralConfig(insecure_sampling_seed=7, **settings).complete()


def test_nothing_in_the_directory_holds_the_key(tmp_path):
    run = _run(tmp_path / "run", **PRIVATE)
    key = bytes.fromhex(runs.sampling_key.path_of(run.path).read_text())
    for path in run.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert key not in content and key.hex().encode() not in content, path


def test_run_goes_on_with_its_key_and_not_without(drawn, tmp_path):
    settings = {**PRIVATE, "epochs": 2, "mechanism": "tree"}
    whole, run = _draws_of(drawn, tmp_path / "run", **settings)
    # As if it had ended after the first epoch.
    (run.path / "checkpoints" / "checkpoint").unlink()
    for path in (run.path / "checkpoints").glob("step-*"):
        path.unlink()
    again, _ = _draws_of(drawn, tmp_path / "run", **settings, resume=True)
    assert again == whole
    runs.sampling_key.path_of(run.path).unlink()
    with pytest.raises(UserError, match="sampling_key is not there"):
        _run(tmp_path / "run", **settings, resume=True)


def test_share_that_a_private_run_trains_on_is_a_secret_that_an_audit_can_read(tmp_path):
    settings = {**PRIVATE, "train_fraction": 0.5}
    run, other = (_run(tmp_path / name, **settings) for name in ("0", "1"))
    rows, others = (Target(str(one.path)).member_rows for one in (run, other))
    assert len(rows) == len(others) == 718
    # Half of a half in common, not all.
    assert 0.4 < np.isin(rows, others).mean() < 0.6
    again = _run(tmp_path / "0", **settings, resume=True)
    np.testing.assert_array_equal(Target(str(again.path)).member_rows, rows)
    runs.sampling_key.path_of(run.path).unlink()
    Target(str(run.path))  # An audit needs no key.
    runs.coins.path_of(run.path).unlink()
    with pytest.raises(UserError, match=r"coins\.json is not there"):
        Target(str(run.path))
