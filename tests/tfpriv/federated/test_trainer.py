"""Tests of tfpriv.federated.trainer: whole runs, in this process, on digits."""

import json
import math

import numpy as np
import psutil
import pytest
import tensorflow as tf

from tfpriv import federated, privacy
from tfpriv.errors import UserError
from tfpriv.federated import algorithms, trainer
from tfpriv.federated.checkpoints import Checkpoints

_SMALL = {
    "dataset": "digits",
    "num_clients": 8,
    "clients_per_round": 3,
    "model": "logistic",
    "rounds": 2,
    "batch_size": 50,
}
_CLIENT = {"privacy_unit": "client", "noise_multiplier": 1.0, "delta": 1e-3}
_EXAMPLE = {"privacy_unit": "example", "noise_multiplier": 1.0}
_ALGORITHMS = algorithms.NAMES
_PRIVATE = {
    "gaussian": _CLIENT,
    # Its noise is limited by that on the count, 0.05 of the clients a round.
    "adaptive": {**_CLIENT, "mechanism": "adaptive", "noise_multiplier": 0.2},
    "tree": {**_CLIENT, "mechanism": "tree"},
    "banded": {**_CLIENT, "mechanism": "banded", "bands": 2, "clients_per_round": 2},
    "example": _EXAMPLE,
}
# No client in nearly every round.
_EMPTY = {"sampler": "poisson", "clients_per_round": 1e-6}


def _run(path, **flags):
    return federated.run(federated.FederatedConfig(**{**_SMALL, "output_dir": str(path), **flags}))


def _refusal(path, **flags) -> str:
    with pytest.raises(UserError) as refused:
        _run(path, **flags)
    assert not path.exists(), "a refused run left a directory"
    return str(refused.value)


def _worker_of_this_process():
    return [c for c in psutil.Process().children() if "worker_binary" in c.name()]


def _assert_finished(run):
    summary = run.summary
    assert 0 <= summary["test_accuracy"] <= 1
    assert math.isfinite(summary["test_loss"])
    assert summary["rounds"] == 2
    assert summary["num_clients"] == 8
    assert summary["model_parameters"] == 650
    assert summary["seconds_per_round"] > 0
    assert tf.keras.models.load_model(summary["model_path"]).count_params() == 650
    names = {path.name for path in run.files()}
    for name in ("config.json", "metrics.csv", "privacy.json", "privacy.txt"):
        assert name in names
    # It shows exact numbers of examples.
    assert ("partition.png" in names) != run.privacy["private"]
    assert {"accuracy.png", "loss.png"} <= names
    assert not _worker_of_this_process()


@pytest.mark.parametrize("algorithm", _ALGORITHMS)
def test_every_algorithm_trains_to_a_finished_directory(tmp_path, algorithm):
    run = _run(tmp_path / "run", algorithm=algorithm)
    _assert_finished(run)
    assert run.summary["epsilon"] is None
    assert run.privacy["private"] is False
    assert "not private" in (run.path / "privacy.txt").read_text()
    columns = run.read_metrics()
    assert columns["round"] == [1, 2]
    assert columns["clients"] == [3, 3]
    assert all(math.isfinite(loss) for loss in columns["train_loss"])


@pytest.mark.parametrize("name", _PRIVATE)
def test_every_mechanism_trains_and_states_its_epsilon(tmp_path, name):
    run = _run(tmp_path / "run", **_PRIVATE[name])
    _assert_finished(run)
    assert 0 < run.summary["epsilon"] <= run.summary["epsilon_rdp"] * 1.001
    assert run.summary["noise_multiplier"] == _PRIVATE[name]["noise_multiplier"]
    columns = run.read_metrics()
    # How many took part, and their losses, are private.
    assert not {"clients", "train_loss", "train_accuracy"} & set(columns)
    assert columns["epsilon"][0] <= columns["epsilon"][1]
    assert run.summary["epsilon"] == pytest.approx(columns["epsilon"][1])
    plots = {path.name for path in run.plots_path.iterdir()}
    assert "epsilon.png" in plots
    assert ("clip_norm" in columns) == (name == "adaptive")


@pytest.mark.parametrize("name", ["none", "gaussian", "example"])
def test_runs_in_which_nobody_takes_part_go_through(tmp_path, name):
    flags = {**_PRIVATE.get(name, {}), **_EMPTY}
    if name == "gaussian":
        flags["delta"] = 1e-9  # A larger one than the probability to take part covers everything.
    run = _run(tmp_path / "run", **flags)
    assert run.summary["rounds"] == 2
    columns = run.read_metrics()
    if name == "none":
        assert columns["clients"] == [0, 0]
    if name == "gaussian":
        assert run.summary["epsilon"] > 0
        assert run.privacy["rounds"] == 2
        assert columns["test_loss"][0] != columns["test_loss"][1], "an empty round added no noise"
    else:
        assert columns["test_loss"][0] == columns["test_loss"][1]


def test_zero_noise_is_clipped_but_never_called_private(tmp_path):
    run = _run(tmp_path / "run", **{**_CLIENT, "noise_multiplier": 0.0})
    assert run.summary["epsilon"] is None
    assert "not private" in (run.path / "privacy.txt").read_text()
    assert "inf" not in (run.path / "summary.json").read_text()


def test_a_target_epsilon_is_kept_and_nearly_spent(tmp_path):
    run = _run(tmp_path / "run", privacy_unit="client", target_epsilon=3.0, delta=1e-3, rounds=2)
    assert 2.9 < run.summary["epsilon"] <= 3.0


def test_the_same_seed_has_other_noise_in_another_run(tmp_path):
    # Everybody takes part in each round, so that nothing but the noise can differ.
    flags = {**_CLIENT, "clients_per_round": 8, "rounds": 1}
    first, second = (_run(tmp_path / str(i), **flags).summary["test_loss"] for i in range(2))
    assert abs(first - second) > 1e-3


class _Stopped(Exception):
    pass


@pytest.fixture
def stop_before_saving(monkeypatch):
    """Ends a run when it is about to save its state after so many rounds."""

    def arm(rounds_done):
        save = Checkpoints.save

        def stop(self, state, done):
            if done == rounds_done:
                raise _Stopped
            save(self, state, done)

        monkeypatch.setattr(Checkpoints, "save", stop)

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["gaussian", "tree", "example"])
def test_an_exception_leaves_no_worker_and_the_lost_round_is_paid_for_twice(
    tmp_path, name, stop_before_saving, monkeypatch
):
    flags = {**_PRIVATE[name], "rounds": 3, "clients_per_round": 2, "sampler": None}
    if name == "example":
        flags["clients_per_round"] = 8
    stop_before_saving(2)
    with pytest.raises(_Stopped):
        _run(tmp_path / "run", **flags)
    assert not _worker_of_this_process()
    monkeypatch.undo()
    initial = []
    with_weights = trainer.process.with_weights
    monkeypatch.setattr(
        trainer.process,
        "with_weights",
        lambda state, *weights: initial.append(state) or with_weights(state, *weights),
    )
    begun = []
    play = trainer._Session._round
    monkeypatch.setattr(
        trainer._Session,
        "_round",
        lambda self, state, n: begun.append((n, state)) or play(self, state, n),
    )
    run = _run(tmp_path / "run", **flags, resume=True)
    assert [n for n, _ in begun] == [1, 2]
    assert run.read_metrics()["round"] == [1, 2, 3]
    assert json.loads((run.path / "rounds.json").read_text()) == [[0, 2], [1, 3]]
    assert run.privacy["rounds"] == 4
    columns = run.read_metrics()
    assert columns["epsilon"][0] < columns["epsilon"][1] < columns["epsilon"][2]
    if name == "gaussian":
        sampler = privacy.PoissonSampler(population=8, expected_size=2)
        mechanism = privacy.Gaussian(clip_norm=1.0, noise_multiplier=1.0)
        plan = privacy.PrivacyPlan(unit="client", sampler=sampler, mechanism=mechanism, delta=1e-3)
        assert run.summary["epsilon"] == pytest.approx(plan.epsilon([4]).value)
    if name == "tree":
        # Its noise must not be used twice: the resumed run has a tree of its own.
        for found, fresh in zip(
            tf.nest.flatten(begun[0][1].aggregator),
            tf.nest.flatten(initial[0].aggregator),
            strict=True,
        ):
            assert np.array_equal(found, fresh)


@pytest.mark.parametrize("algorithm", ["scaffold", "feddyn"])
def test_clients_have_their_states_after_a_resume(
    tmp_path, algorithm, stop_before_saving, monkeypatch
):
    """The run goes on as if it had not been cut off, from a checkpoint three rounds back."""
    flags = {"algorithm": algorithm, "rounds": 7, "clients_per_round": 3, "checkpoint_every": 2}
    whole = _run(tmp_path / "whole", **flags)
    stop_before_saving(6)
    with pytest.raises(_Stopped):
        _run(tmp_path / "run", **flags)
    monkeypatch.undo()
    run = _run(tmp_path / "run", **flags, resume=True)
    columns = run.read_metrics(), whole.read_metrics()
    for name in ("test_loss", "train_loss"):
        assert columns[0][name] == columns[1][name]


def test_a_run_that_is_done_can_be_resumed_to_the_same_end(tmp_path):
    before = _run(tmp_path / "run").summary
    after = _run(tmp_path / "run", resume=True).summary
    for name in ("test_accuracy", "test_loss", "rounds"):
        assert before[name] == after[name]


def test_kill_between_checkpoint_and_row_loses_no_row(tmp_path, monkeypatch):
    whole = _run(tmp_path / "whole")
    save, rounds = Checkpoints.save, whole.summary["rounds"]

    def killed(checkpoints, state, done):
        save(checkpoints, state, done)
        if done == rounds:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            _run(tmp_path / "run")
    resumed = _run(tmp_path / "run", resume=True)
    assert resumed.summary["rounds"] == rounds
    assert resumed.read_metrics() == whole.read_metrics()


def test_resuming_refuses_other_flags_and_damage(tmp_path):
    path = tmp_path / "run"
    run = _run(path, **_CLIENT)

    def refusal(**flags):
        with pytest.raises(UserError) as refused:
            _run(path, **{**_CLIENT, "resume": True, **flags})
        return str(refused.value)

    message = refusal(batch_size=7, seed=3)
    assert "batch_size" in message
    assert "seed" in message
    assert "holds a run already" in refusal(resume=False)

    rounds = (path / "rounds.json").read_text()
    for damage in ("[[0, ", "[1, 2]"):
        (path / "rounds.json").write_text(damage)
        assert "rounds.json is damaged" in refusal()
    (path / "rounds.json").write_text(rounds)

    newest = max(run.checkpoints_path.iterdir(), key=lambda p: int(p.name.split("_")[1]))
    for file in newest.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    message = refusal()
    assert "the last checkpoint in" in message
    assert "remove the newest folder" in message
    assert not _worker_of_this_process()


def _model_file(tmp_path, body) -> str:
    path = tmp_path / "own.py"
    path.write_text("import tensorflow as tf\nlayers = tf.keras.layers\n" + body)
    return f"{path}:build"


def _sequential(*layers) -> str:
    inside = ", ".join(("layers.Input(shape)", "layers.Flatten()", *layers))
    return f"def build(shape, n):\n  return tf.keras.Sequential([{inside}])\n"


_NORMALIZED = _sequential("layers.BatchNormalization()", "layers.Dense(n)")


@pytest.mark.parametrize(
    ("body", "flags", "says"),
    [
        (_NORMALIZED, {}, "moving averages federated training does not carry"),
        (_NORMALIZED, _EXAMPLE, "GroupNormalization"),
        (_sequential("layers.Dense(n + 1)"), {}, "11"),
        ("def build(shape, n):\n  return 3\n", {}, "int"),
        ("def build(shape):\n  return None\n", {}, "two arguments"),
        ("def other(shape, n):\n  return None\n", {}, "has no function 'build'"),
    ],
    ids=["normalized", "normalized_example", "width", "no_model", "arguments", "name"],
)
def test_a_model_that_cannot_work_is_refused(tmp_path, body, flags, says):
    message = _refusal(tmp_path / "run", model=_model_file(tmp_path, body), **flags)
    assert says in message


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"model": "no/such/file.py:build"}, "there is no file no/such/file.py"),
        ({"model": "perceptron"}, "--model=perceptron is not known"),
        ({"dataset": "imagenet"}, "--dataset=imagenet is not known"),
        ({"clients_per_round": 9}, "9 of a population of 8 cannot be sampled"),
        ({"server_schedule": "step"}, "--server_schedule=step is not known"),
        ({"client_schedule": "exponential:2"}, "--client_schedule=exponential:2"),
        ({**_CLIENT, "clients_per_round": 3, "mechanism": "adaptive"}, "noise multiplier"),
        ({**_EXAMPLE, "num_clients": 1500, "partition": "dirichlet:0.01"}, "no examples"),
        ({"partition": "writers"}, "writers"),
        ({"num_clients": 0}, "--num_clients=0"),
        ({"resume": True}, "there is no run in"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_what_cannot_work_is_refused_before_anything_is_written(tmp_path, flags, says):
    assert says in _refusal(tmp_path / "run", **flags)


def test_an_own_model_with_dropout_trains_and_its_compile_settings_are_named(tmp_path, capfd):
    body = _sequential("layers.Dropout(0.5)", "layers.Dense(n, activation='softmax')")
    body = body.replace("return ", "model = ") + "  model.compile('adam', 'mse')\n  return model\n"
    run = _run(tmp_path / "run", model=_model_file(tmp_path, body))
    assert run.summary["rounds"] == 2
    assert "note: " in capfd.readouterr().err


def test_a_run_that_diverges_says_so(tmp_path):
    with pytest.raises(UserError, match=r"training diverged: .*lower --client_learning_rate"):
        _run(tmp_path / "run", server_learning_rate=3e38, client_learning_rate=50.0)
    assert not _worker_of_this_process()


def test_a_target_accuracy_ends_the_run_early(tmp_path):
    run = _run(tmp_path / "run", target_accuracy=0.05, rounds=50)
    assert run.summary["rounds"] == 1
    assert 0 <= run.summary["rounds_to_target"] <= 1


def test_a_regression_reports_its_error_in_the_data_s_unit(tmp_path):
    run = _run(tmp_path / "run", dataset="diabetes", model="mlp", eval_every=2)
    assert 30 < run.summary["test_rmse"] < 300
    assert run.read_metrics()["test_rmse"][0] is None


def test_release_of_training_metrics_is_named_in_the_statement(tmp_path):
    run = _run(tmp_path / "run", **_CLIENT, release_train_metrics=True, clients_per_round=8)
    assert "train_loss" in run.read_metrics()
    assert "training metrics" in (run.path / "privacy.txt").read_text()


_NORMALIZED_FIRST = """
import tensorflow as tf

def build(input_shape, num_classes):
    return tf.keras.Sequential([
        tf.keras.layers.InputLayer(input_shape),
        tf.keras.layers.Flatten(),
        tf.keras.layers.LayerNormalization(),
        tf.keras.layers.Dense(num_classes),
    ])
"""


def test_layer_normalization_before_all_trained_layers_leaves_the_worker_alive(tmp_path):
    # Keras' fused kernel corrupted the worker's memory within a few rounds.
    (tmp_path / "model.py").write_text(_NORMALIZED_FIRST)
    model = f"{tmp_path / 'model.py'}:build"
    run = _run(tmp_path / "run", model=model, rounds=40, eval_every=40, batch_size=20)
    assert run.summary["rounds"] == 40


def test_training_that_is_not_finite_is_said(tmp_path, capfd):
    run = _run(tmp_path / "run", client_learning_rate=1e30)
    assert "the updates of 3 clients were not finite and were left out" in capfd.readouterr().err
    assert math.isfinite(run.summary["test_loss"])


def test_regression_reports_no_accuracy(tmp_path):
    run = _run(tmp_path / "run", dataset="diabetes", model="mlp")
    assert run.summary["test_rmse"] > 0
    assert not [name for name in run.read_metrics() if "accuracy" in name]
