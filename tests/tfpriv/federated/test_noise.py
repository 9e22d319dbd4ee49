"""Tests of tfpriv.federated.noise, and that all noise of federated runs is drawn by it."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from scipy import stats

from tfpriv import federated, privacy
from tfpriv.federated import aggregation, noise, trainer
from tfpriv.federated.checkpoints import Checkpoints

_CLIP = 0.5
_NOISE = 1.5
_EXPECTED = 40
_NO_EXAMPLE = [[-1]]
_CLIENT = {"privacy_unit": "client", "noise_multiplier": 1.0, "delta": 1e-3}
_FLAGS = {
    "gaussian": _CLIENT,
    "adaptive": {**_CLIENT, "mechanism": "adaptive", "noise_multiplier": 0.2},
    "tree": {**_CLIENT, "mechanism": "tree"},
    "example": {"privacy_unit": "example", "noise_multiplier": 1.0},
}


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
    """Collects the secrets of all noise that is made."""
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


def test_draws_are_standard_normal_and_no_other_scale():
    values = noise.SecretNoise().draw([100, 1001]).numpy()
    assert values.shape == (100, 1001) and values.dtype == np.float32
    _assert_normal_at_no_other_scale(values.ravel(), 1.0)


def test_tail_of_the_draws_goes_on_where_23_bits_would_end():
    words = np.random.default_rng(0).integers(0, 2**32, (3, 100_000), np.uint32)
    words[0] %= 2**9
    first, second = np.split(noise.box_muller(words).numpy().astype(np.float64), 2)
    # The squared radius beyond one of 46 ln 2 is exponential.
    beyond = first**2 + second**2 - 46 * np.log(2)
    assert stats.kstest(beyond, "expon", args=(0, 2)).pvalue > 1e-4
    assert np.sqrt(first**2 + second**2).max() > 6.5


def test_draws_of_one_graph_and_of_a_loop_share_nothing():
    source = noise.SecretNoise()

    @tf.function
    def draw():
        looped = tf.map_fn(lambda _: source.draw([5000]), tf.range(2), tf.float32)
        return source.draw([5000]), source.draw([5000]), looped[0], looped[1]

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
    before, again = (source.draw([5000]).numpy() for _ in range(2))
    assert np.array_equal(before, again)
    changed = (source._secret[word] % 2**64) ^ (1 << bit)
    source._secret[word] = changed - 2**64 * (changed >= 2**63)
    after = source.draw([5000]).numpy()
    if word == 1 and bit == 0:
        # The counter's lowest bit: the same stream, four words further on or back.
        before, after = before[:2500], after[:2500]
        pairs = ((before[4:], after[:-4]), (before[:-4], after[4:]))
        assert any(np.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in pairs)
    else:
        _assert_nothing_shared(before, after)


def test_a_secret_has_192_bits_and_is_drawn_anew(secrets):
    for _ in range(64):
        noise.SecretNoise()
    words = [word for secret in secrets for word in secret]
    assert len(set(words)) == 3 * 64
    for bit in range(64):
        ones = sum((word % 2**64) >> bit & 1 for word in words)
        assert 40 < ones < 152


def test_the_query_keeps_tfps_state_and_event():
    query = noise.GaussianSumQuery(2.0, 3.0)
    state = query.initial_global_state()
    total = (tf.zeros([70, 70]), tf.ones([5000]))
    (first, second), after, event = query.get_noised_result(total, state)
    assert after == state
    assert float(event.noise_multiplier) == 1.5
    first, second = first.numpy().ravel(), second.numpy() - 1.0
    for values in (first, second):
        _assert_normal_at_no_other_scale(values, 3.0)
    _assert_nothing_shared(first, second[:4900])


def test_the_noise_of_the_adaptive_clips_count_has_the_accounted_scale():
    query = aggregation._sum_query(_plan("adaptive"), tff.types.to_type([(np.float32, [1])]))
    state = query.initial_global_state()
    nobody = query.initial_sample_state((tf.zeros([1]),))

    @tf.function
    def clips():
        return tf.map_fn(
            lambda _: query.get_noised_result(nobody, state)[1].sum_state.l2_norm_clip,
            tf.range(2000),
            tf.float32,
        )

    # C <- C exp(-eta (b + noise / expected - gamma)); nobody's count, moved by half, gives b = 1/2.
    found = -np.log(clips().numpy() / _CLIP) / 0.2 * _EXPECTED
    _assert_normal_at_no_other_scale(found, 1.0)


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


@pytest.mark.parametrize("name", _FLAGS)
def test_no_other_random_numbers_are_drawn_and_the_secret_stays_in_the_graph(
    worker, unshared_trial, wide_model, secrets, name
):
    run = _trial(unshared_trial, wide_model, name)
    assert len(secrets) == (2 if name == "adaptive" else 1)
    _moved(run, name)
    graphs = b"".join(
        tff.framework.serialize_computation(c).SerializeToString()
        for c in (run._process.initialize, run._process.next)
    )
    # Those with a kernel that is seeded, by the user or by TensorFlow.
    for seeded in (b"RandomStandardNormal", b"RandomUniform", b"TruncatedNormal"):
        assert graphs.count(seeded) == graphs.count(b"Stateless" + seeded)
    assert b"StatelessRandomUniformFullIntV2" in graphs
    held = b"".join(np.asarray(leaf).tobytes() for leaf in tf.nest.flatten(run.state))
    for secret in secrets:
        # The search finds what is there.
        assert b"".join((word % 2**64).to_bytes(8, "little") for word in secret) in graphs
        assert not any(form in held for form in _forms(secret))


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


@pytest.mark.parametrize("name", _FLAGS)
def test_a_run_directory_holds_no_secret_and_a_resumed_run_draws_other_noise(
    tmp_path, monkeypatch, secrets, name
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
    # The second stretch built everything anew.
    assert len(secrets) == 2 * used > 0
    assert len({word for secret in secrets for word in secret}) == 6 * used
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
