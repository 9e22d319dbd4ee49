"""Tests of tfpriv.federated.aggregation: what the server sees, from the worker it sees it from."""

import collections
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow_federated as tff
from scipy import stats

from tfpriv import privacy
from tfpriv.federated import aggregation
from tfpriv.federated.noise import NoiseFeed

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
    first = _flat(run.round())
    run.noise.restart()
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


_Process = collections.namedtuple("_Process", ["aggregator"])


class _Aggregation:
    """The server's aggregation alone, of updates of one vector, with its noise."""

    def __init__(self, plan, size):
        update_type = tff.to_type([tff.TensorType(np.float32, [size])])
        self._process = aggregation.build_aggregator(plan, update_type)
        self.noise = NoiseFeed(plan, size)
        self.state = self._process.initialize()

    def round(self, *updates):
        state = self.noise.into(_Process(self.state)).aggregator
        return self.run(state, *updates)

    def run(self, state, *updates):
        updates = [[np.asarray(u, np.float32)] for u in updates]
        output = self._process.next(state, updates, [1.0] * len(updates))
        self.state = output.state
        return output.result[0]


def _banded_plan():
    return privacy.PrivacyPlan(
        unit="client",
        sampler=privacy.CyclicPoissonSampler(population=100, expected_size=4, separation=4),
        mechanism=privacy.Banded(clip_norm=_CLIP, noise_multiplier=_NOISE, bands=4),
        delta=1e-5,
    )


_PLANS = {name: functools.partial(_plan, name, _NOISE) for name in _MECHANISMS}
_PLANS["banded"] = _banded_plan


@pytest.mark.parametrize("mechanism", _PLANS)
def test_a_release_is_a_function_of_noisy_whole_steps_whatever_the_low_bits(worker, mechanism):
    plan = _PLANS[mechanism]()
    aggregate = _Aggregation(plan, 50)
    generator = np.random.default_rng(0)
    drawn = generator.integers(-1000, 1000, 51 if mechanism == "adaptive" else 50)
    state = collections.OrderedDict(aggregate.state, noise=drawn)
    width = _CLIP * plan.build_noise(50).width
    steps = generator.integers(-50, 50, (3, 50))
    released = []
    for _ in range(2):
        updates = width * (steps + generator.uniform(-0.49, 0.49, steps.shape))
        released.append(aggregate.run(state, *updates))
    assert released[0].tobytes() == released[1].tobytes()
    found = released[0] / (width / _EXPECTED)
    np.testing.assert_allclose(found, steps.sum(axis=0) + drawn[:50], atol=1e-3)


@pytest.mark.parametrize("mechanism", _PLANS)
def test_what_a_round_leaves_holds_no_noise_and_without_noise_no_round_runs(worker, mechanism):
    aggregate = _Aggregation(_PLANS[mechanism](), 50)
    for _ in range(2):
        assert np.any(aggregate.round() != 0)
        assert set(aggregate.state) == {"clip_norm", "noise"}
        assert np.size(aggregate.state["noise"]) == 0 and np.size(aggregate.state["clip_norm"]) == 1
        with pytest.raises(Exception, match="not compatible with expected shape"):
            aggregate.run(aggregate.state)


def test_noise_of_the_count_moves_the_clip_as_published(worker):
    plan = _plan("adaptive", _NOISE)
    aggregate = _Aggregation(plan, 3)
    steps = round(2.0 / (0.5 * plan.mechanism.build_count_noise().width))
    aggregate.run(collections.OrderedDict(aggregate.state, noise=np.array([0, 0, 0, steps])))
    # As if four clients had been within the clip, of the four that were expected.
    assert aggregate.state["clip_norm"] == pytest.approx(_CLIP * np.exp(-0.2 * (1 - 0.5)))
    # And of the noise's four halves, four clients above it take all away.
    aggregate = _Aggregation(plan, 3)
    state = collections.OrderedDict(aggregate.state, noise=np.array([0, 0, 0, steps]))
    aggregate.run(state, *[[1.0, 0.0, 0.0]] * 4)
    assert aggregate.state["clip_norm"] == pytest.approx(_CLIP)


def test_banded_noise_of_clients_takes_some_of_the_earlier_back(worker):
    plan = _banded_plan()
    aggregate = _Aggregation(plan, 20_000)
    rounds = np.array([aggregate.round() for _ in range(3)]) * _EXPECTED / (_CLIP * _NOISE)
    column = np.append(plan.mechanism.coefficients(), np.zeros(3))
    matrix = np.array([[column[i - j] if i >= j else 0.0 for j in range(3)] for i in range(3)])
    inverse = np.linalg.inv(matrix)
    np.testing.assert_allclose(np.cov(rounds), inverse @ inverse.T, atol=0.1)
    aggregate.noise.restart()
    after = aggregate.round()
    assert max(abs(np.corrcoef(after, row)[0, 1]) for row in rounds) < 0.05


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize(("end", "update"), [(0, 0.0), (1, 1e15)])
def test_the_adaptive_clip_stays_where_squares_neither_vanish_nor_overflow(
    worker, end, update, private
):
    mechanism = privacy.AdaptiveGaussian(
        clip_norm=privacy.CLIP_NORMS[end],
        noise_multiplier=0.1 if private else 0.0,
        target_quantile=0.5,
        clip_learning_rate=1.0,
        count_stddev=0.1,
    )
    plan = dataclasses.replace(_plan("gaussian", 1.0), mechanism=mechanism)
    aggregate = _Aggregation(plan, 3)
    for _ in range(3):
        aggregate.round(*[[update, 0.0, 0.0]] * 4)
        assert aggregate.state["clip_norm"] == np.float32(privacy.CLIP_NORMS[end])


def test_a_fixed_clip_is_the_plans():
    for mechanism in ("gaussian", "tree"):
        assert aggregation.clip_norm_of(_plan(mechanism, 1.0), None) == _CLIP
