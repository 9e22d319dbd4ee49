"""Whole runs of a few steps on shares, next to the same steps in plaintext."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import datasets, models, secure
from tfpriv.errors import UserError
from tfpriv.secure.parties import connection
from tfpriv.secure.protocols import fixed_point, running
from tfpriv.secure.training import private as private_training
from tfpriv.secure.training import task as training_task
from tfpriv.secure.training.config import SecureTrainingConfig
from tfpriv.secure.training.shared import SharedTraining

DATA = """
import numpy as np
from tfpriv.datasets import Dataset

def build(poison=0.0, task="classification"):
    generator = np.random.default_rng(0)
    x = generator.random((96, 4, 4, 1), np.float32)
    y = (x[:, :2].sum((1, 2, 3)) > x[:, 2:].sum((1, 2, 3))).astype(np.int32)
    x[5, 0, 0, 0] += poison
    return Dataset(name="toy", task=task, num_classes=2, train_features=x[:64],
                   train_labels=y[:64], test_features=x[64:], test_labels=y[64:])

def large():
    return build(1e6)

def not_a_number():
    return build(float("nan"))

def convolutional(input_shape, num_classes):
    import tensorflow as tf
    k = tf.keras.layers
    return tf.keras.Sequential([k.InputLayer(input_shape), k.Conv2D(2, 3, activation="relu"),
                                k.Flatten(), k.Dense(num_classes)])

def normalizing(input_shape, num_classes):
    import tensorflow as tf
    k = tf.keras.layers
    return tf.keras.Sequential([k.InputLayer(input_shape), k.BatchNormalization(name="norm"),
                                k.Flatten(), k.Dense(num_classes)])
"""


@pytest.fixture(name="toy", scope="module")
def _toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.py"
    path.write_text(DATA)
    return str(path)


def config(toy, folder, **flags):
    settings = {
        "dataset": f"{toy}:build",
        "model": "mlp",
        "batch_size": 16,
        "epochs": 3,
        "learning_rate": 0.5,
        "eval_every": 4,
        "output_dir": str(folder / "run"),
    }
    return SecureTrainingConfig(**{**settings, **flags})


def test_run_on_shares_ends_where_the_run_in_the_clear_ends(toy, tmp_path):
    run = secure.train(config(toy, tmp_path))
    summary = run.summary
    assert summary["steps"] == 12
    assert summary["secure_accuracy"] == pytest.approx(summary["plaintext_accuracy"], abs=0.04)
    assert summary["agreement"] > 0.95
    assert summary["max_abs_error"] < 0.05
    assert summary["seconds_per_batch"] > 0 and summary["graph_seconds"] > 0
    assert "final weights" in summary["revealed"] and summary["epsilon"] is None
    assert "not private" in (run.path / "privacy.txt").read_text()
    model = tf.keras.models.load_model(run.model_path)
    data = datasets.load(f"{toy}:build")
    answers = np.argmax(model(data.test_features), axis=1)
    assert np.mean(answers == data.test_labels) == pytest.approx(summary["secure_accuracy"])
    assert {path.name for path in run.plots_path.iterdir()} == {
        "accuracy.png",
        "seconds_per_batch.png",
    }
    columns = run.read_metrics()
    assert columns["step"] == [4, 8, 12]
    assert not any("secure" in name for name in columns)


def test_predictions_as_outcome_leave_no_weights_behind(toy, tmp_path):
    run = secure.train(
        config(toy, tmp_path, outcome="predictions", epochs=1, model=f"{toy}:convolutional")
    )
    summary = run.summary
    assert not run.model_path.exists()
    assert "outputs for the test examples" in summary["revealed"]
    assert summary["agreement"] > 0.95 and summary["max_abs_error"] < 0.05


def test_training_opens_nothing_before_the_end(toy, tmp_path):
    """No tensor of a step's graph lies at the client but the shares that it deals."""
    settings = config(toy, tmp_path).complete()
    task, model = training_task.build(settings, datasets.load(settings.dataset))
    them = connection.local()
    with running.protocol("aby3", them) as prot:
        shared = SharedTraining(prot, task, model, settings)
        shared.step(np.arange(16), 1)
        graph = shared.graph
    assert them.separate
    client = them.devices["client"]
    servers = set(them.devices.values()) - {client}
    received = [
        op.name
        for op in graph.get_operations()
        if op.device == client and any(tensor.op.device in servers for tensor in op.inputs)
    ]
    assert received == []


def test_private_run_calibrates_its_noise_and_says_so(toy, tmp_path):
    run = secure.train(
        config(toy, tmp_path, model="logistic", target_epsilon=3.0, delta=1e-3, epochs=1)
    )
    summary = run.summary
    assert 2.5 < summary["epsilon"] <= 3.0
    assert summary["noise_multiplier"] > 0.5 and summary["privacy_unit"] == "example"
    statement = json.loads((run.path / "privacy.json").read_text())
    assert statement["private"] and statement["sampler"] == "poisson"
    assert statement["population"] == 64 and statement["steps"] == 4
    text = (run.path / "privacy.txt").read_text()
    assert "two servers that collude" in text.replace("\n", " ").replace("  ", " ")
    assert "noised sum" in summary["revealed"]
    assert run.model_path.exists()


def test_noised_sum_is_the_clipped_sum_and_noise_of_the_planned_size(toy, tmp_path):
    settings = config(toy, tmp_path, model="logistic", noise_multiplier=2.0, clip_norm=0.5)
    settings = settings.complete()
    task, model = training_task.build(settings, datasets.load(settings.dataset))
    plan = private_training.build_plan(settings, task, 4)
    with running.protocol("aby3", connection.local()) as prot:
        private = private_training.PrivateTraining(prot, task, model, settings, plan, 4)
        rows = np.arange(16)
        pad = [(0, private.capacity - 16)]
        x = np.pad(task.train_features[rows], pad + [(0, 0)] * 3)
        y = np.pad(task.train_labels[rows], [*pad, (0, 0)])
        taken = np.pad(np.ones((16, 1), np.float32), [*pad, (0, 0)])
        arguments = [tf.constant(a) for a in (x, y, taken)]
        arguments.append([tf.constant(w) for w in model.get_weights()])

        def clipped(*arguments):
            sums = private.clipped_sums(*arguments)
            return [fixed_point.reveal(prot, fixed_point.raw(prot, s)) for s in sums]

        exact = [s.numpy() * 2.0**-32 for s in tf.function(clipped, autograph=False)(*arguments)]
        noised = tf.function(private.noised_sums, autograph=False)
        draws = [noised(*arguments) for _ in range(40)]
    errors = np.concatenate(
        [(s.numpy() - e).ravel() for draw in draws for s, e in zip(draw, exact, strict=True)]
    )
    # What must remain to each party is 2 x 0.5; the whole has half as much variance again.
    assert np.std(errors) == pytest.approx(np.sqrt(1.5), rel=0.08)
    assert abs(np.mean(errors)) < 0.15
    assert len(np.unique(errors)) == len(errors)


def test_sample_that_does_not_fit_ends_the_run_and_is_not_cut(toy, tmp_path):
    settings = config(toy, tmp_path, model="logistic", noise_multiplier=1.0, batch_size=2)
    settings = settings.complete()
    task, model = training_task.build(settings, datasets.load(settings.dataset))
    plan = private_training.build_plan(settings, task, 4)
    with running.protocol("aby3", connection.local()) as prot:
        private = private_training.PrivateTraining(prot, task, model, settings, plan, 4)
        assert 2 < private.capacity < 64
        with pytest.raises(UserError, match="a Poisson sample has 60 examples"):
            private.step(np.arange(60), 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"dataset": "large"}, "example 5 hold 1000000"),
        ({"dataset": "not_a_number"}, "example 5 hold nan"),
        ({"model": "normalizing"}, "layer norm of the model is a BatchNormalization"),
        ({"model": None, "network": "B"}, "--network=B reads images of shape"),
        ({"batch_size": 65}, "--batch_size=65 is more than the 64 training examples"),
    ],
)
def test_what_cannot_work_is_refused_before_a_directory_is_made(toy, tmp_path, flags, message):
    if flags.get("dataset"):
        flags = {"dataset": f"{toy}:{flags['dataset']}"}
    if flags.get("model"):
        flags = {**flags, "model": f"{toy}:{flags['model']}"}
    with pytest.raises(UserError, match=message):
        secure.train(config(toy, tmp_path, **flags))
    assert not pathlib.Path(tmp_path / "run").exists()


def test_weights_that_overflow_end_the_run(toy, tmp_path):
    with pytest.raises(UserError, match=r"Dense layer . are beyond what fixed point holds"):
        secure.train(config(toy, tmp_path, model="logistic", learning_rate=1e4, epochs=4))


def test_model_on_shares_starts_from_the_weights_that_it_is_given(toy, tmp_path):
    settings = config(toy, tmp_path, seed=3).complete()
    dataset = datasets.load(settings.dataset)
    task, model = training_task.build(settings, dataset)
    again = models.build("mlp", dataset.element_shape, 2, seed=3)
    with running.protocol("aby3", connection.local()) as prot:
        weights = SharedTraining(prot, task, model, settings).weights()
    for mine, right in zip(weights, again.get_weights(), strict=True):
        assert np.max(np.abs(mine - right)) <= 2.0**-17
