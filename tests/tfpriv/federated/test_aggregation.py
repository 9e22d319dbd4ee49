"""Tests of tfpriv.federated.aggregation: what the server sees, from the worker it sees it from."""

import numpy as np
import pytest
from scipy import stats

from tfpriv import privacy
from tfpriv.federated import aggregation

_CLIP = 0.5
_NOISE = 1.5
_EXPECTED = 4.0
_STANDARD_DEVIATION = _NOISE * _CLIP / _EXPECTED
_MECHANISMS = ("gaussian", "adaptive", "tree")


def _plan(mechanism, noise_multiplier, clip_norm=_CLIP):
    noise = {"clip_norm": clip_norm, "noise_multiplier": noise_multiplier}
    if mechanism == "adaptive":
        mechanism = privacy.AdaptiveGaussian(
            **noise, target_quantile=0.5, clip_learning_rate=0.2, count_stddev=1.0
        )
    else:
        mechanism = {"gaussian": privacy.Gaussian, "tree": privacy.Tree}[mechanism](**noise)
    sampler = (
        privacy.ShuffledSampler(population=100, size=int(_EXPECTED))
        if isinstance(mechanism, privacy.Tree)
        else privacy.PoissonSampler(population=100, expected_size=_EXPECTED)
    )
    return privacy.PrivacyPlan(unit="client", sampler=sampler, mechanism=mechanism, delta=1e-5)


@pytest.fixture
def private(worker, trial):
    """Makes a trial with noise over clients; one SGD step of the server shows the aggregate."""

    def make(model, mechanism, noise_multiplier=_NOISE, weights=None, **flags):
        return trial(
            model,
            _plan(mechanism, noise_multiplier),
            weights,
            privacy_unit="client",
            mechanism=mechanism,
            clip_norm=_CLIP,
            noise_multiplier=noise_multiplier,
            clients_per_round=_EXPECTED,
            **flags,
        )

    return make


def _flat(moved):
    return np.concatenate([m.ravel() for m in moved])


def _assert_normal_at_no_other_scale(noise, standard_deviation):
    assert stats.kstest(noise / standard_deviation, "norm").pvalue > 1e-6
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(noise / (wrong * standard_deviation), "norm").pvalue < 1e-6


def _assert_independent(first, second):
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.07


_NOBODY = ()
_WITHOUT_EXAMPLES = (np.empty((0, 0)), np.empty((0, 0)))


@pytest.mark.parametrize("cohort", [_NOBODY, _WITHOUT_EXAMPLES], ids=["nobody", "zero_updates"])
@pytest.mark.parametrize("mechanism", _MECHANISMS)
def test_an_empty_round_is_noise_of_the_accounted_scale(private, wide_model, mechanism, cohort):
    noise = _flat(private(wide_model, mechanism).round(*cohort))
    scale = _STANDARD_DEVIATION
    if mechanism == "adaptive":
        scale *= _plan("adaptive", _NOISE).mechanism.value_noise_multiplier / _NOISE
        assert scale > _STANDARD_DEVIATION
    _assert_normal_at_no_other_scale(noise, scale)


@pytest.mark.parametrize("mechanism", _MECHANISMS)
def test_tensors_and_runs_have_noise_of_their_own(private, wide_model, mechanism):
    first, second = (_flat(private(wide_model, mechanism).round()) for _ in range(2))
    _assert_independent(first, second)
    half = len(first) // 2
    _assert_independent(first[:half], first[half:])


@pytest.mark.parametrize("mechanism", ["gaussian", "adaptive"])
def test_rounds_have_noise_of_their_own(private, wide_model, mechanism):
    run = private(wide_model, mechanism)
    _assert_independent(_flat(run.round()), _flat(run.round()))


def test_the_tree_adds_up_nodes_not_rounds(private, wide_model):
    run = private(wide_model, "tree")
    sums = np.cumsum([_flat(run.round()) for _ in range(8)], axis=0)
    # After 2^h rounds one node covers all; its estimate from the whole subtree below has variance
    # 1 / (2 - 2^-h) (Honaker 2015; Kairouz et al. 2021, appendix B). Independent noise would have
    # variance 2^h.
    for height in range(4):
        scale = _STANDARD_DEVIATION / (2 - 0.5**height) ** 0.5
        _assert_normal_at_no_other_scale(sums[2**height - 1], scale)


def test_a_tree_started_anew_has_new_noise(private, wide_model):
    run = private(wide_model, "tree")
    begun = run.state.aggregator
    first = _flat(run.round())
    run.state = run.state._replace(aggregator=private(wide_model, "tree").state.aggregator)
    assert begun is not run.state.aggregator
    second = _flat(run.round())
    _assert_normal_at_no_other_scale(second, _STANDARD_DEVIATION)
    _assert_independent(first, second)


_FEATURES = np.array([[3, -1], [100, 50], [np.nan, 0], [np.inf, 1], [1e25, -1e25]], np.float32)
_LABELS = np.array([1, 1, 1, 0, 1], np.int32)
_START = [np.array([[0.1, -0.2], [0.3, 0.4]], np.float32), np.array([0.0, 0.1], np.float32)]


@pytest.fixture(scope="module")
def logistic(local_model):
    return local_model(_FEATURES, _LABELS)[0]


@pytest.mark.parametrize(
    ("mechanism", "algorithm"),
    [*((m, "fedavg") for m in _MECHANISMS), ("gaussian", "fedsgd"), ("gaussian", "fedprox")],
)
def test_a_client_moves_the_noiseless_aggregate_by_no_more_than_the_clip(
    private, logistic, mechanism, algorithm
):
    flags = {"client_learning_rate": 1e4} if algorithm == "fedavg" else {}

    def moved(*rows):
        run = private(logistic, mechanism, 0.0, _START, algorithm=algorithm, **flags)
        return _flat(run.round(*([[row]] for row in rows)))

    for others in ((), (0,)):
        difference = np.linalg.norm(moved(1, *others) - moved(*others))
        assert difference <= _CLIP / _EXPECTED + 1e-5
    # A huge update is cut to the clip and not to less, and divided by what was expected.
    assert np.linalg.norm(moved(1)) == pytest.approx(_CLIP / _EXPECTED, abs=1e-5)
    # Examples do not weigh.
    assert np.linalg.norm(moved(1, 1)) == pytest.approx(2 * _CLIP / _EXPECTED, abs=1e-5)


@pytest.mark.parametrize("mechanism", _MECHANISMS)
def test_a_client_whose_update_has_no_finite_norm_contributes_nothing(private, logistic, mechanism):
    run = private(logistic, mechanism, 0.0, _START, client_learning_rate=1e4)
    assert (_flat(run.round(*([[row]] for row in (2, 3, 4)))) == 0).all()


def test_the_adaptive_clip_follows_the_share_of_updates_within_it(private, logistic):
    run = private(logistic, "adaptive", 0.0, _START, client_learning_rate=1e4)
    plan = _plan("adaptive", 0.0)
    # C <- C exp(-eta (b - gamma)), with b the share within the clip; Andrew et al. 2021, section 2.
    run.round(*[[[1]]] * 4)
    clip = aggregation.clip_norm_of(plan, run.metrics["aggregator"])
    assert clip == pytest.approx(_CLIP * np.exp(-0.2 * (0 - 0.5)))
    run.round(*[np.empty((0, 0))] * 4)
    clip = aggregation.clip_norm_of(plan, run.metrics["aggregator"])
    assert clip == pytest.approx(_CLIP * np.exp(-0.2 * (0 - 0.5)) * np.exp(-0.2 * (1 - 0.5)))


def test_a_fixed_clip_is_the_plans():
    for mechanism in ("gaussian", "tree"):
        assert aggregation.clip_norm_of(_plan(mechanism, 1.0), None) == _CLIP
