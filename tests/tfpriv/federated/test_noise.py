"""Tests of tfpriv.federated.noise, and that all noise of federated runs comes through it."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from scipy import stats

from tfpriv import federated, privacy
from tfpriv.federated import noise, trainer
from tfpriv.federated.checkpoints import Checkpoints
from tfpriv.noise import discrete_gaussian

_CLIP = 0.5
_NOISE = 1.5
_EXPECTED = 40
_NO_EXAMPLE = [[-1]]
_CLIENT = {"privacy_unit": "client", "noise_multiplier": 1.0, "delta": 1e-3}
_CLIENTS = ("gaussian", "adaptive", "tree")
_FLAGS = {
    "gaussian": _CLIENT,
    "adaptive": {**_CLIENT, "mechanism": "adaptive", "noise_multiplier": 0.2},
    "tree": {**_CLIENT, "mechanism": "tree"},
    "example": {"privacy_unit": "example", "noise_multiplier": 1.0},
}


_State = collections.namedtuple("_State", ["aggregator"])


def _plan(name, noise_multiplier=_NOISE, expected=_EXPECTED):
    size = {"clip_norm": _CLIP, "noise_multiplier": noise_multiplier}
    sampler = privacy.PoissonSampler(population=100, expected_size=expected)
    if name == "adaptive":
        mechanism = privacy.AdaptiveGaussian(
            **size, target_quantile=0.5, clip_learning_rate=0.2, count_stddev=1.0
        )
    elif name == "tree":
        mechanism = privacy.Tree(**size)
        sampler = privacy.ShuffledSampler(population=100, size=expected)
    else:
        mechanism = privacy.Gaussian(**size)
    unit = "example" if name == "example" else "client"
    return privacy.PrivacyPlan(unit=unit, sampler=sampler, mechanism=mechanism, delta=1e-5)


def _trial(make, model, name, **flags):
    mechanism = {} if name == "example" else {"mechanism": name, "clients_per_round": _EXPECTED}
    return make(
        model,
        _plan(name),
        privacy_unit="example" if name == "example" else "client",
        clip_norm=_CLIP,
        noise_multiplier=_NOISE,
        client_learning_rate=1.0,
        **mechanism,
        **flags,
    )


def _moved(run, name, clients=1):
    """Returns the noise of a round without examples."""
    cohort = [_NO_EXAMPLE] * clients if name == "example" else []
    return np.concatenate([m.ravel() for m in run.round(*cohort)])


def _assert_normal_at_no_other_scale(values, standard_deviation):
    assert stats.kstest(values / standard_deviation, "norm").pvalue > 1e-6
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(values / (wrong * standard_deviation), "norm").pvalue < 1e-6


def _assert_nothing_shared(*draws):
    """Checks that no pair of draws is equal, shifted or otherwise alike."""
    for i, first in enumerate(draws):
        for second in draws[i + 1 :]:
            assert abs(np.corrcoef(first, second)[0, 1]) < 0.07
            # Few of 2^23 steps of a uniform number come twice; a window that starts elsewhere in
            # the same stream would share nearly all.
            assert len(np.intersect1d(first, second)) < len(first) // 20


@pytest.fixture
def secrets(monkeypatch):
    """Collects the secrets of all noise that graphs draw."""
    collected = []
    make = noise.SecretNoise.__init__

    def collect(self):
        make(self)
        collected.append(self._secret)

    monkeypatch.setattr(noise.SecretNoise, "__init__", collect)
    return collected


def _forms(secret):
    """Returns what a part of a secret looks like in a file: its bytes and its digits."""
    for word in secret:
        for number in (word, word % 2**64):
            yield str(number).encode()
        for order in ("little", "big"):
            yield (word % 2**64).to_bytes(8, order)


def _numbers(words, further):
    """Runs the graph's map from words to numbers, with [levels, n, 2] further words at hand."""
    ties = words >> 15 == discrete_gaussian.table_of().packed[words & np.uint32(2**15 - 1)] >> 15

    @tf.function
    def run():
        return noise.to_numbers(tf.constant(words), lambda count: tf.constant(further[ties]))

    return run().numpy(), int(ties.sum())


def test_graph_and_numpy_agree_on_what_words_stand_for_ties_among_them():
    generator = np.random.default_rng(2)
    shape = (discrete_gaussian.LEVELS, 20_000)
    words = generator.integers(0, 2**32, shape, np.uint32)
    further = generator.integers(0, 2**64, (*shape, 2), np.uint64)
    table = discrete_gaussian.table_of()
    tied = generator.random(shape) < 0.1
    index = words & np.uint32(2**15 - 1)
    words[tied] = (index | (table.packed[index] >> 15 << 15))[tied]
    # Where the first 64 bits tie as well, and where the others do.
    rest = table.rest[index]
    for share, parts in ((0.3, slice(0, 1)), (0.05, slice(0, 2))):
        same = tied & (generator.random(shape) < share)
        further[same, parts] = rest[same, parts]
    found, ties = _numbers(words, further)
    assert ties > 5000
    np.testing.assert_array_equal(found, discrete_gaussian.numbers(words, further, table))


def test_draws_are_discrete_gaussian_of_the_unit_and_no_other_scale():
    values = noise.SecretNoise().draw(100_001).numpy()
    assert values.shape == (100_001,) and values.dtype == np.int64
    _assert_normal_at_no_other_scale(values, discrete_gaussian.UNIT)


def test_a_silo_s_sum_is_a_function_of_noisy_whole_steps_whatever_its_low_bits(monkeypatch):
    source = noise.SecretNoise()
    generator = np.random.default_rng(0)
    drawn, steps = generator.integers(-1000, 1000, (2, 50))
    monkeypatch.setattr(source, "draw", lambda size: tf.constant(drawn[:size]))
    released = []
    for _ in range(2):
        total = np.float32(1e-7 * (steps + generator.uniform(-0.49, 0.49, 50)))
        parts = source.added_to([tf.constant(total[:30].reshape(5, 6)), total[30:]], 1e-7)
        released.append(np.concatenate([part.numpy().ravel() for part in parts]))
    assert released[0].tobytes() == released[1].tobytes()
    np.testing.assert_allclose(released[0] / 1e-7, steps + drawn, atol=1e-3)


def test_draws_of_one_graph_and_of_a_loop_share_nothing():
    source = noise.SecretNoise()

    @tf.function
    def draw():
        looped = tf.map_fn(lambda _: source.draw(5000), tf.range(2), tf.int64)
        return source.draw(5000), source.draw(5000), looped[0], looped[1]

    tf.random.set_seed(1)
    first = draw()
    tf.random.set_seed(1)
    _assert_nothing_shared(*(d.numpy() for d in (*first, *draw())))


@pytest.mark.parametrize("word", range(3))
@pytest.mark.parametrize("bit", [0, 31, 32, 63])
def test_every_bit_of_the_secret_matters_even_where_the_public_part_is_the_same(
    monkeypatch, word, bit
):
    public = tf.constant([5, 2**63 - 1, -7], tf.int64)
    monkeypatch.setattr(tf.raw_ops, "NonDeterministicInts", lambda **_: public)
    source = noise.SecretNoise()
    before, again = (source._words([5000], tf.uint32).numpy() for _ in range(2))
    assert np.array_equal(before, again)
    changed = (source._secret[word] % 2**64) ^ (1 << bit)
    source._secret[word] = changed - 2**64 * (changed >= 2**63)
    after = source._words([5000], tf.uint32).numpy()
    if word == 1 and bit == 0:
        # The counter's lowest bit: the same stream, four words further on or back.
        pairs = ((before[4:], after[:-4]), (before[:-4], after[4:]))
        assert any(np.array_equal(one, other) for one, other in pairs)
    else:
        _assert_nothing_shared(before.astype(np.float64), after.astype(np.float64))


def test_a_secret_has_192_bits_and_is_drawn_anew(secrets):
    for _ in range(64):
        noise.SecretNoise()
    words = [word for secret in secrets for word in secret]
    assert len(set(words)) == 3 * 64
    for bit in range(64):
        ones = sum((word % 2**64) >> bit & 1 for word in words)
        assert 40 < ones < 152


def test_the_feed_hands_over_the_noise_of_the_adaptive_count_at_the_accounted_scale():
    plan = _plan("adaptive")
    feed = noise.NoiseFeed(plan, 1)
    drawn = [feed.into(_State(collections.OrderedDict())).aggregator["noise"] for _ in range(2000)]
    width = 0.5 * plan.mechanism.build_count_noise().width
    _assert_normal_at_no_other_scale(width * np.array(drawn)[:, 1], 1.0)


@pytest.mark.parametrize(
    "plan", [None, _plan("example"), _plan("gaussian", 0.0)], ids=["none", "silos", "noiseless"]
)
def test_the_feed_hands_nothing_over_where_a_plan_has_no_noise_over_clients(plan):
    state = object()
    assert noise.NoiseFeed(plan, 3).into(state) is state


@pytest.mark.parametrize("name", _FLAGS)
def test_rounds_and_processes_share_nothing_whatever_the_seed(
    worker, unshared_trial, wide_model, name
):
    draws = []
    for _ in range(2):
        tf.random.set_seed(1)
        run = _trial(unshared_trial, wide_model, name)
        for _ in range(2):
            tf.random.set_seed(1)
            draws.append(_moved(run, name))
    if name == "tree":
        # A tree's second round takes back part of the noise of the first. The sum of both is
        # 2/3 (node + left/2 + right/2), and the first is the left leaf.
        found = np.corrcoef(draws[0], draws[0] + draws[1])[0, 1]
        assert found == pytest.approx(6**-0.5, abs=0.07)
        draws = [draws[0::2], draws[1::2]]
    else:
        draws = [draws]
    half = len(draws[0][0]) // 2  # The two layers are of one shape.
    for alike in draws:
        _assert_nothing_shared(*(d[:half] for d in alike), *(d[half:] for d in alike))


@pytest.mark.parametrize("name", _FLAGS)
def test_a_process_that_is_started_twice_has_new_noise(worker, trial, wide_model, name):
    first, second = (_moved(_trial(trial, wide_model, name), name) for _ in range(2))
    _assert_nothing_shared(first, second)


def test_clients_of_a_round_share_nothing(worker, trial, wide_model):
    run = _trial(trial, wide_model, "example")
    one, two = _moved(run, "example"), _moved(run, "example", clients=2)
    # A mean of equal noise would be as large as that of one.
    assert two.std() == pytest.approx(one.std() / 2**0.5, rel=0.05)


def _graphs(run):
    return b"".join(
        tff.framework.serialize_computation(c).SerializeToString()
        for c in (run._process._initialize, run._process._next)
    )


def test_a_silo_draws_no_other_random_numbers_and_its_secret_stays_in_the_graph(
    worker, unshared_trial, wide_model, secrets
):
    run = _trial(unshared_trial, wide_model, "example")
    assert len(secrets) == 1
    _moved(run, "example")
    graphs = _graphs(run)
    # Those with a kernel that is seeded, by the user or by TensorFlow.
    for seeded in (b"RandomStandardNormal", b"RandomUniform", b"TruncatedNormal"):
        assert graphs.count(seeded) == graphs.count(b"Stateless" + seeded)
    assert b"StatelessRandomUniformFullIntV2" in graphs
    held = b"".join(np.asarray(leaf).tobytes() for leaf in tf.nest.flatten(run.state))
    # The search finds what is there.
    assert b"".join((word % 2**64).to_bytes(8, "little") for word in secrets[0]) in graphs
    assert not any(form in held for form in _forms(secrets[0]))


@pytest.mark.parametrize("name", _CLIENTS)
def test_the_graphs_of_client_level_noise_draw_none(
    worker, unshared_trial, wide_model, secrets, name
):
    run = _trial(unshared_trial, wide_model, name)
    assert not secrets
    assert b"Random" not in _graphs(run)


def _run(path, name, **flags):
    return federated.run(
        federated.FederatedConfig(
            **{
                "dataset": "digits",
                "num_clients": 8,
                "clients_per_round": 8,
                "model": "logistic",
                "rounds": 2,
                "batch_size": 50,
                "output_dir": str(path),
                **_FLAGS[name],
                **flags,
            }
        )
    )


class _Stopped(Exception):
    pass


@pytest.fixture
def handed(monkeypatch):
    """Collects the noise that rounds are handed."""
    collected = []
    into = noise.NoiseFeed.into

    def collect(self, state):
        state = into(self, state)
        if self._sources:
            collected.append(state.aggregator["noise"])
        return state

    monkeypatch.setattr(noise.NoiseFeed, "into", collect)
    return collected


def _kept_aggregators(run):
    """Yields (name, value) of what the checkpoints keep of the aggregation."""
    for path in run.checkpoints_path.glob("round_*/variables/variables.index"):
        checkpoint = tf.train.load_checkpoint(str(path.with_suffix("")))
        for name in checkpoint.get_variable_to_shape_map():
            if "/aggregator/" in name:
                yield name.split("/aggregator/")[1].split("/")[0], checkpoint.get_tensor(name)


@pytest.mark.parametrize("name", _FLAGS)
def test_a_run_directory_holds_no_secret_and_no_noise_and_a_resumed_run_draws_other_noise(
    tmp_path, monkeypatch, secrets, handed, name
):
    ends = []
    play = trainer._Session._round

    def keep(self, state, round_number):
        tf.random.set_seed(1)
        after, metrics = play(self, state, round_number)
        weights = [np.ravel(w) for w in after.global_model_weights.trainable]
        ends.append((round_number, np.concatenate(weights)))
        return after, metrics

    def stop(self, state, done):
        if done == 2:
            raise _Stopped
        save(self, state, done)

    save = Checkpoints.save
    monkeypatch.setattr(trainer._Session, "_round", keep)
    monkeypatch.setattr(Checkpoints, "save", stop)
    with pytest.raises(_Stopped):
        _run(tmp_path / "run", name)
    monkeypatch.setattr(Checkpoints, "save", save)
    used = len(secrets)
    run = _run(tmp_path / "run", name, resume=True)
    if name == "example":
        # The second span built everything anew.
        assert len(secrets) == 2 * used > 0
        assert len({word for secret in secrets for word in secret}) == 6 * used
    else:
        assert not secrets
        assert len(handed) == 3
    # All clients take part, so that the round that ran twice differs by its noise alone; under
    # example-level privacy by its batches as well.
    assert [n for n, _ in ends] == [0, 1, 1]
    (_, start), (_, first), (_, second) = ends
    alike = np.corrcoef(first - start, second - start)[0, 1]
    assert np.linalg.norm(first - second) > 1e-3
    assert alike < 0.99
    held = [path.read_bytes() for path in run.path.rglob("*") if path.is_file()]
    assert any(path.is_file() for path in run.checkpoints_path.rglob("*"))
    for secret in secrets:
        for form in _forms(secret):
            assert not any(form in content for content in held)
    if name != "example":
        kept = list(_kept_aggregators(run))
        assert {name for name, _ in kept} == {"clip_norm", "noise"}
        assert all(np.size(value) == (name == "clip_norm") for name, value in kept)
