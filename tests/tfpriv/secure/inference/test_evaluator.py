"""Secure evaluation from a config to a run directory, and what it refuses."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models, runs, secure
from tfpriv.errors import UserError
from tfpriv.secure import InferenceConfig
from tfpriv.secure.inference import evaluator, network, ranges

KEYS = {
    "plaintext_accuracy",
    "secure_accuracy",
    "agreement",
    "max_abs_error",
    "graph_seconds",
    "seconds_per_batch",
    "examples_per_second",
    "bytes_sent",
    "bytes_sent_client",
    "bytes_sent_server0",
    "bytes_sent_server1",
    "bytes_sent_server2",
    "rounds_of_communication",
    "protocol",
    "precision",
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A network that knows the digits of scikit-learn somewhat."""
    from tfpriv import datasets

    digits = datasets.load("digits")
    model = models.build("2nn", digits.element_shape, 10, seed=0)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(digits.train_features, digits.train_labels, epochs=2, verbose=0)
    path = tmp_path_factory.mktemp("model") / "model.keras"
    models.save(model, path)
    return path


def infer(model, output_dir, **settings):
    settings = {"dataset": "digits", "num_examples": 50, "batch_size": 16} | settings
    return secure.infer(InferenceConfig(model=str(model), output_dir=str(output_dir), **settings))


@pytest.mark.parametrize("protocol", ["aby3", "securenn"])
def test_a_models_answers_on_shares_are_its_answers(model_file, tmp_path, protocol):
    run = infer(model_file, tmp_path / "run", protocol=protocol)
    summary = json.loads((run.path / "summary.json").read_text())
    assert set(summary) >= KEYS
    assert summary["agreement"] == 1.0
    assert summary["secure_accuracy"] > 0.5
    assert summary["max_abs_error"] <= summary["max_abs_error_bound"] < 0.01
    assert summary["failure_probability"] == 0
    assert "disagreement" not in summary
    sent = [summary[f"bytes_sent_{name}"] for name in ("client", "server0", "server1", "server2")]
    assert sum(sent) == summary["bytes_sent"] and min(sent) > 0
    assert len(run.read_metrics()["batch"]) == 4  # 50 examples by 16
    assert (run.plots_path / "secure_inference.png").stat().st_size > 10_000


def test_answers_that_disagree_are_told_with_the_layer(model_file, tmp_path, monkeypatch):
    """A ReLU that is wrong on shares, and right in plaintext."""
    from tfpriv.secure.layers import activation

    def wrong(self, protocol, x, *rest):
        return x.with_shares(x.shares - x.shares)

    monkeypatch.setattr(activation.ReLU, "compute", wrong)
    summary = infer(model_file, tmp_path / "run").summary
    assert "of the decisions are the same, and 99.5% should" in summary["disagreement"]
    first_relu = next(
        stage.name
        for stage in network.from_keras(tf.keras.models.load_model(model_file)).stages
        if stage.kind == "relu"
    )
    assert f"part first at {first_relu}." in summary["disagreement"]


def test_an_input_bound_makes_grids_that_no_example_decides(model_file, tmp_path):
    summary = infer(model_file, tmp_path / "run", input_bound=1.0, check_overflow=True).summary
    assert summary["agreement"] == 1.0
    assert "--input_bound" in summary["revealed"] and "3 bits a batch" in summary["revealed"]
    with pytest.raises(UserError, match=r"within 0.5"):
        infer(model_file, tmp_path / "other", input_bound=0.5)
    assert not (tmp_path / "other").exists()


def test_the_accuracy_in_the_clear_is_keras_own(model_file, tmp_path):
    from tfpriv import datasets

    digits = datasets.load("digits")
    model = tf.keras.models.load_model(model_file)
    answers = model.predict(digits.test_features[:50], verbose=0).argmax(1)
    summary = infer(model_file, tmp_path / "run").summary
    assert summary["plaintext_accuracy"] == np.mean(answers == digits.test_labels[:50])


def test_regression_gets_an_error_in_the_datas_units(tmp_path):
    model = models.build("mlp", (10,), 1, task="regression", seed=0)
    models.save(model, tmp_path / "model.keras")
    summary = infer(tmp_path / "model.keras", tmp_path / "run", dataset="diabetes").summary
    assert summary["secure_rmse"] == pytest.approx(summary["plaintext_rmse"], rel=1e-3)
    assert summary["plaintext_rmse"] > 10
    assert "agreement" not in summary


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_any_number_of_examples_fits_a_batch(aby3, local_parties, count):
    model = tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(2,))])
    net = network.from_keras(model)
    x = np.random.default_rng(0).random((count, 2))
    _, bounds = ranges.measure(net, x)
    secure_model = evaluator.SecureModel(net, bounds, aby3, local_parties, batch_size=4)
    outputs = [secure_model.predict(x[i : i + 4]) for i in range(0, count, 4)]
    np.testing.assert_allclose(np.concatenate(outputs), model(x).numpy(), atol=1e-3)


def test_a_run_directory_gives_its_model_and_its_data(model_file, tmp_path):
    with runs.RunDirectory.create(
        tmp_path / "trained", {"dataset": "digits"}, program="federated"
    ) as trained:
        trained.model_path.write_bytes(model_file.read_bytes())
    run = infer(trained.path, tmp_path / "run", dataset=None)
    assert run.summary["num_examples"] == 50


def test_by_default_there_are_as_many_examples_as_there_are(model_file, tmp_path):
    run = infer(model_file, tmp_path / "run", num_examples=None, batch_size=200)
    assert run.summary["num_examples"] == 360


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": "spdz"}, "--protocol=spdz is not known"),
        ({"softmax": "guess"}, "--softmax=guess"),
        ({"batch_size": 0}, "--batch_size=0 is too small"),
        ({"num_examples": -1}, "--num_examples=-1 is too small"),
        ({"num_examples": 10**6}, "more than the 360 test examples of digits"),
        ({"dataset": None}, "--dataset is missing"),
        ({"dataset": "diabetes"}, r"examples of shape .* \(10,\)"),
        ({"players": ""}, "--players is empty"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_left(model_file, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        infer(model_file, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_missing_or_damaged_model_is_refused(model_file, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        infer(tmp_path / "nothing.keras", tmp_path / "run")
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(model_file.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded as a Keras model"):
        infer(damaged, tmp_path / "run")
    with runs.RunDirectory.create(tmp_path / "unfinished", {"dataset": "digits"}, program="x"):
        pass
    with pytest.raises(UserError, match="run that has ended"):
        infer(tmp_path / "unfinished", tmp_path / "run", dataset=None)
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_finite_are_refused_before_anything_is_shared(
    model_file, tmp_path, monkeypatch
):
    model = tf.keras.models.load_model(model_file)
    model.layers[-1].bias.assign([np.inf] * 10)
    models.save(model, tmp_path / "large.keras")
    monkeypatch.setattr(evaluator, "SecureModel", None)  # nothing gets as far
    with pytest.raises(UserError, match=r"weight inf.*finite numbers only"):
        infer(tmp_path / "large.keras", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_of_text_is_refused_by_its_layer(tmp_path):
    model = models.build("char_lstm", (80,), 86, input_dtype="int32", label_shape=(80,), seed=0)
    models.save(model, tmp_path / "text.keras")
    with pytest.raises(UserError, match="Embedding"):
        secure.check_model(model)


def test_the_answer_is_put_together_at_the_client_only(aby3, local_parties):
    """No operation of a server reads a third share: two of three are all it ever has."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(2,))])
    net = network.from_keras(model)
    bounds = ranges.from_input_bound(net, 1.0)
    secure_model = evaluator.SecureModel(net, bounds, aby3, local_parties, batch_size=4)
    (output,) = secure_model._predict.graph.outputs
    assert output.op.device in ("", local_parties.devices["client"])
    summed = [op for op in secure_model._predict.graph.get_operations() if "reconstruct" in op.name]
    assert summed
    assert {op.device for op in summed} == {local_parties.devices["client"]}


def test_example_that_is_not_finite_is_named():
    model = tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(2,))])
    net = network.from_keras(model)
    with pytest.raises(UserError, match="example 1 of them: the examples have the value nan"):
        ranges.measure(net, np.array([[0.0, 1.0], [np.nan, 0.0]]))
