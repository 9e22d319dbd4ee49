"""Whole central runs on small data, and what they refuse."""

import json
import pathlib
import re
import shutil
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tfpriv import central, datasets, runs
from tfpriv.central import pca, trainer
from tfpriv.central.checkpoints import Checkpoints
from tfpriv.central.config import CentralConfig
from tfpriv.errors import UserError

SMALL = {
    "dataset": "digits",
    "model": "logistic",
    "expected_batch_size": 64,
    "epochs": 2,
    "learning_rate": 0.5,
}
PRIVATE = {**SMALL, "noise_multiplier": 1.0}
OWN = """
import numpy as np, tensorflow as tf
from tfpriv.datasets import Dataset

def huge():
    features = np.ones((40, 3), np.float32)
    features[17] = 3e38
    labels = np.arange(40, dtype=np.int32) % 2
    return Dataset(name="huge", task="classification", num_classes=2, train_features=features,
                   train_labels=labels, test_features=features[:5], test_labels=labels[:5])

def batch_norm(shape, classes):
    return tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.BatchNormalization(),
                                tf.keras.layers.Flatten(), tf.keras.layers.Dense(classes)])

def decayed(shape, classes):
    return tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(
        classes, kernel_regularizer="l2")])

class Keeps(tf.keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.kept = tf.Variable(0.0, trainable=False)

    def call(self, inputs):
        self.kept.assign(tf.reduce_sum(inputs))
        return inputs

def keeps(shape, classes):
    return tf.keras.Sequential([tf.keras.layers.Flatten(), Keeps(), tf.keras.layers.Dense(classes)])

class MixesMany(tf.keras.layers.Layer):
    def call(self, inputs):
        share = tf.cast(tf.shape(inputs)[0] > 30, tf.float32)
        return inputs - share * tf.reduce_mean(inputs, axis=0)

def mixes_many(shape, classes):
    return tf.keras.Sequential([tf.keras.layers.Flatten(), MixesMany(),
                                tf.keras.layers.Dense(classes)])

class Twice(tf.keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs

def twice(shape, classes):
    return tf.keras.Sequential([tf.keras.layers.Flatten(), Twice(), tf.keras.layers.Dense(classes)])
"""


@pytest.fixture(name="own")
def _own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def _run(path, **settings):
    return central.run(CentralConfig(output_dir=str(path), **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"mechanism": "dpsgd"},
        {"clipping": "adaptive", "target_epsilon": 3.0, "noise_multiplier": None},
        {"mechanism": "tree"},
        {"mechanism": "banded", "bands": 4},
        {"mechanism": "banded", "noise_multiplier": None, "target_epsilon": 8.0},
        {"mechanism": "banded", "factorization": "inverse_sqrt"},
        {"mechanism": "banded", "bands": 4, "separation": 5},
        {"sampler": "shuffled"},
        {"optimizer": "adam", "learning_rate": 0.01, "schedule": "cosine"},
        {"optimizer": "adagrad"},
        {"optimizer": "momentum", "accumulate_steps": 3},
        {"model": "mlp"},
        {"mechanism": "none", "noise_multiplier": None},
        {"noise_multiplier": 0.0},
    ],
    ids=str,
)
def test_run_leaves_a_whole_run_directory(settings, tmp_path):
    run = _run(tmp_path / "run", **{**PRIVATE, **settings})
    summary = run.summary
    assert {
        "test_accuracy", "test_loss", "epsilon", "epsilon_rdp", "delta", "noise_multiplier",
        "mechanism", "sampler", "steps", "examples_per_second", "peak_memory_mb", "wall_seconds",
        "model_parameters", "model_path",
    } <= set(summary)  # fmt: skip
    assert 0 < summary["test_accuracy"] <= 1
    tf.keras.models.load_model(run.model_path)
    is_private = bool(summary["noise_multiplier"])
    assert run.privacy["private"] == is_private
    assert (summary["epsilon"] is not None) == is_private
    assert ("not private" in (run.path / "privacy.txt").read_text()) != is_private
    columns = run.read_metrics()
    assert columns["step"][-1] == summary["steps"]
    if is_private:
        assert columns["epsilon"][-1] == summary["epsilon"] == run.privacy["epsilon"]
        assert run.privacy["unit"] == "example"


def test_target_epsilon_is_kept_and_used_up(tmp_path):
    run = _run(tmp_path / "run", **{**SMALL, "target_epsilon": 2.0})
    assert 1.98 < run.summary["epsilon"] <= 2.0


def test_regression_reports_its_error_in_the_labels_unit(tmp_path):
    settings = {"dataset": "diabetes", "model": "mlp", "learning_rate": 0.1, "epochs": 20}
    run = _run(tmp_path / "run", **{**PRIVATE, **settings})
    assert 40 < run.summary["test_rmse"] < 90


def test_training_without_noise_learns(tmp_path):
    run = _run(tmp_path / "run", **{**PRIVATE, "noise_multiplier": 0.0, "epochs": 10})
    assert run.summary["test_accuracy"] > 0.85


def _plan(**settings):
    config = CentralConfig(**settings).complete()
    return trainer.build_plan(config, 1437)


def test_accumulating_takes_the_same_steps(tmp_path):
    weights = []
    for parts in (1, 3):
        run = _run(
            tmp_path / str(parts),
            **{**PRIVATE, "noise_multiplier": 0.0, "accumulate_steps": parts},
        )
        weights.append(tf.keras.models.load_model(run.model_path).get_weights())
    for one, three in zip(*weights, strict=True):
        np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-5)


def test_sum_is_divided_by_the_expected_batch_size(tmp_path):
    """A step's move is the clipped sum over the expected size, whoever took part."""
    run = _run(
        tmp_path / "run",
        **{**PRIVATE, "noise_multiplier": 0.0, "clip_norm": 1e-3, "epochs": 1, "seed": 5},
    )
    plan, steps = _plan(**{**PRIVATE, "noise_multiplier": 0.0, "epochs": 1})
    taken = sum(len(plan.participants(step, 5, 0)) for step in range(steps))
    from tfpriv import models

    start = models.build("logistic", (8, 8, 1), 10, seed=5).get_weights()
    end = tf.keras.models.load_model(run.model_path).get_weights()
    moved = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(start, end, strict=True)))
    assert 0.1 * 0.5 * 1e-3 * taken / 64 < moved <= 0.5 * 1e-3 * taken / 64


def test_clip_follows_the_quantile(tmp_path):
    run = _run(
        tmp_path / "run",
        **{**PRIVATE, "clipping": "adaptive", "clip_norm": 100.0, "epochs": 5},
    )
    clips = run.read_metrics()["clip_norm"]
    assert clips[-1] < clips[0] < 100


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("batch_norm", "BatchNormalization"),
        ("decayed", "regularization losses"),
        ("keeps", "AssignVariableOp"),
        ("mixes_many", "depend on the other examples of the batch"),
    ],
)
def test_model_that_no_example_bound_holds_for_is_refused(model, message, own, tmp_path):
    with pytest.raises(UserError, match=message):
        _run(tmp_path / "run", **{**PRIVATE, "model": f"{own}:{model}"})
    assert not (tmp_path / "run").exists()


def test_state_that_moved_is_saved_as_it_was_at_the_start(own, monkeypatch, tmp_path):
    """Should a model get past the check of its state."""
    monkeypatch.setattr(trainer.models, "refuse_moving_state", lambda model: None)
    kept = []
    for epochs in (1, 2):
        settings = {**PRIVATE, "model": f"{own}:keeps", "epochs": epochs}
        run = _run(tmp_path / str(epochs), **settings)
        saved = tf.train.load_checkpoint(tf.train.latest_checkpoint(run.checkpoints_path))
        [name] = [name for name in saved.get_variable_to_shape_map() if "kept" in name]
        kept.append(float(saved.get_tensor(name)))
        with zipfile.ZipFile(run.model_path) as archive:
            archive.extract("model.weights.h5", tmp_path)
        with h5py.File(tmp_path / "model.weights.h5") as weights:
            weights.visititems(
                lambda _, each: (
                    kept.append(float(each[()])) if getattr(each, "shape", 0) == () else None
                )
            )
    # Random examples moved it once, before there were any private ones.
    assert len(kept) == 4
    assert len(set(kept)) == 1


def test_model_of_own_code_is_said_not_to_be_proved(own, tmp_path):
    run = _run(tmp_path / "run", **{**PRIVATE, "model": f"{own}:twice"})
    assert any("not proved to be absent" in item for item in run.privacy["not_covered"])
    run = _run(tmp_path / "plain", **PRIVATE)
    assert not any("not proved to be absent" in item for item in run.privacy["not_covered"])


@pytest.mark.parametrize("model", ["batch_norm", "decayed"])
def test_training_without_privacy_takes_any_model(model, own, tmp_path):
    settings = {**SMALL, "mechanism": "none", "learning_rate": 0.1, "model": f"{own}:{model}"}
    assert _run(tmp_path / "run", **settings).summary["test_accuracy"] > 0.5


def test_example_whose_loss_is_not_finite_is_named_without_privacy(own, tmp_path):
    settings = {**SMALL, "mechanism": "none", "dataset": f"{own}:huge", "expected_batch_size": 40}
    with pytest.raises(UserError, match=r"loss of training example 17 is not finite"):
        _run(tmp_path / "run", **settings)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_divergence_is_an_error(tmp_path):
    with pytest.raises(UserError, match="training diverged"):
        _run(
            tmp_path / "run",
            **{**SMALL, "mechanism": "none", "learning_rate": 1e38, "epochs": 5, "model": "mlp"},
        )


def test_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(UserError, match="5000"):
        _run(tmp_path / "run", **{**PRIVATE, "expected_batch_size": 5000})


def _interrupted(path, settings, monkeypatch, at):
    """Runs until the checkpoint of the epoch `at` is there, and fails in the one after it."""
    take = trainer._Session._take_step

    def failing(session, step):
        if step > at:
            raise KeyboardInterrupt
        take(session, step)

    with monkeypatch.context() as patched:
        patched.setattr(trainer._Session, "_take_step", failing)
        with pytest.raises(KeyboardInterrupt):
            _run(path, **settings)


def test_resumed_run_without_noise_ends_where_the_whole_one_does(tmp_path, monkeypatch):
    settings = {**SMALL, "mechanism": "none", "epochs": 4, "optimizer": "adam"}
    settings["learning_rate"] = 0.01
    whole = _run(tmp_path / "whole", **settings)
    _interrupted(tmp_path / "run", settings, monkeypatch, 60)
    resumed = _run(tmp_path / "run", **settings, resume=True)
    assert resumed.summary["test_loss"] == whole.summary["test_loss"]
    assert resumed.read_metrics() == whole.read_metrics()


@pytest.mark.parametrize(
    ("mechanism", "more"), [("dpsgd", {}), ("tree", {}), ("banded", {"bands": 8})]
)
def test_resumed_private_run_draws_anew_and_counts_what_it_released(
    mechanism, more, tmp_path, monkeypatch
):
    settings = {**PRIVATE, "epochs": 4, "mechanism": mechanism, **more}
    whole = _run(tmp_path / "whole", **settings)
    _interrupted(tmp_path / "run", settings, monkeypatch, 60)
    resumed = _run(tmp_path / "run", **settings, resume=True)
    spans = json.loads((resumed.path / "steps.json").read_text())
    assert len(spans) == 2 and spans[0][1] == spans[1][0]
    assert resumed.summary["steps"] == spans[1][1]
    assert resumed.summary["epsilon"] >= whole.summary["epsilon"]


def test_damaged_checkpoint_and_ledger_are_refused(tmp_path, monkeypatch):
    _interrupted(tmp_path / "run", {**PRIVATE, "epochs": 4}, monkeypatch, 60)
    files = sorted((tmp_path / "run" / "checkpoints").glob("*.data*"))
    whole = files[0].read_bytes()
    for path in files:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        UserError, match=r"step-\d+ is damaged .*; remove .* the one before"
    ) as last:
        _run(tmp_path / "run", **{**PRIVATE, "epochs": 4}, resume=True)
    files[0].write_bytes(whole)
    pattern = re.search(r"remove (\S+) to go on", str(last.value))[1]
    for path in pathlib.Path(pattern).parent.glob(pathlib.Path(pattern).name):
        path.unlink()
    before = int(re.search(r"step-(\d+)", files[0].name)[1])
    run = _run(tmp_path / "run", **{**PRIVATE, "epochs": 4}, resume=True)
    assert json.loads((run.path / "steps.json").read_text())[-1][0] == before


def test_damaged_ledger_is_refused(tmp_path, monkeypatch):
    _interrupted(tmp_path / "run", {**PRIVATE, "epochs": 4}, monkeypatch, 60)
    (tmp_path / "run" / "steps.json").write_text("[[0, ")
    with pytest.raises(UserError, match=r"steps.json is damaged"):
        _run(tmp_path / "run", **{**PRIVATE, "epochs": 4}, resume=True)


@pytest.mark.parametrize("lines", [None, 1, 2])
def test_metrics_that_were_cut_are_not_taken_for_those_of_the_run(lines, tmp_path, monkeypatch):
    settings = {**PRIVATE, "epochs": 4}
    _interrupted(tmp_path / "run", settings, monkeypatch, 60)
    file = tmp_path / "run" / "metrics.csv"
    rows = file.read_text().splitlines(keepends=True)
    assert len(rows) == 3
    file.unlink() if lines is None else file.write_text("".join(rows[:lines]))
    with pytest.raises(
        UserError, match=r"metrics.csv in \S+ has no row of step \d+, which the last"
    ):
        _run(tmp_path / "run", **settings, resume=True)


def test_kill_between_checkpoint_and_row_loses_no_row(tmp_path, monkeypatch):
    settings = {**SMALL, "mechanism": "none", "epochs": 3}
    whole = _run(tmp_path / "whole", **settings)

    def killed(checkpoints, steps_done):
        save(checkpoints, steps_done)
        if steps_done == whole.summary["steps"]:
            raise KeyboardInterrupt

    save = Checkpoints.save
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            _run(tmp_path / "run", **settings)
    resumed = _run(tmp_path / "run", **settings, resume=True)
    assert resumed.read_metrics() == whole.read_metrics()
    assert resumed.summary["test_loss"] == whole.summary["test_loss"]


def test_checkpoint_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.CheckpointManager, "save", full)
    with pytest.raises(UserError, match=r"checkpoint after step \d+ cannot be written .*No space"):
        _run(tmp_path / "run", **PRIVATE)


def test_resume_with_other_flags_is_refused(tmp_path, monkeypatch):
    _interrupted(tmp_path / "run", {**PRIVATE, "epochs": 4}, monkeypatch, 60)
    with pytest.raises(UserError, match=r"was started with --clip_norm=1\.0"):
        _run(tmp_path / "run", **{**PRIVATE, "epochs": 4, "clip_norm": 2.0}, resume=True)


def test_pictures_are_drawn_by_step(tmp_path):
    run = _run(tmp_path / "run", **PRIVATE)
    names = {path.name for path in run.plots_path.glob("*.png")}
    assert {"accuracy.png", "loss.png", "epsilon.png"} <= names
    assert isinstance(run, runs.RunDirectory)


PCA = {**PRIVATE, "features": "dp_pca", "pca_components": 20, "pca_noise_multiplier": 7.0}


def _kept_components(path):
    return np.load(path / "checkpoints" / "principal_components.npy")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model": "mlp", "mechanism": "tree"},
        {"mechanism": "banded", "bands": 4},
        {"target_epsilon": 3.0, "noise_multiplier": None},
        {"mechanism": "none", "noise_multiplier": None, "pca_noise_multiplier": None},
    ],
    ids=str,
)
def test_model_on_principal_components_reads_examples_as_they_are(settings, tmp_path):
    run = _run(tmp_path / "run", **{**PCA, **settings})
    model = tf.keras.models.load_model(run.model_path)
    digits = datasets.load("digits")
    assert model.input_shape == (None, *digits.element_shape)
    np.testing.assert_array_equal(
        model.get_layer("principal_components").get_weights()[0], _kept_components(run.path)
    )
    answers = model.predict(digits.test_features, verbose=0).argmax(axis=1)
    assert np.mean(answers == digits.test_labels) == run.summary["test_accuracy"] > 0.3
    if run.privacy["private"]:
        assert run.privacy["covered"].startswith("the principal components and")
        assert "one release" in (run.path / "privacy.txt").read_text()


def test_principal_components_count_in_epsilon(tmp_path):
    run = _run(tmp_path / "run", **PCA)
    plan, steps = _plan(**PCA)
    without, _ = _plan(**PRIVATE)
    assert run.summary["epsilon"] == plan.epsilon([steps]).value > without.epsilon([steps]).value


def test_resumed_run_reads_its_principal_components(tmp_path, monkeypatch):
    settings = {**PCA, "epochs": 4}
    _interrupted(tmp_path / "run", settings, monkeypatch, 60)
    kept = _kept_components(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.delattr(pca, "private_components")
        resumed = _run(tmp_path / "run", **settings, resume=True)
    np.testing.assert_array_equal(_kept_components(tmp_path / "run"), kept)
    layer = tf.keras.models.load_model(resumed.model_path).get_layer("principal_components")
    np.testing.assert_array_equal(layer.get_weights()[0], kept)


def test_principal_components_that_cannot_be_read_are_not_released_again(tmp_path, monkeypatch):
    settings = {**PCA, "epochs": 4}
    _interrupted(tmp_path / "run", settings, monkeypatch, 60)
    path = tmp_path / "run" / "checkpoints" / "principal_components.npy"
    for damage in (lambda: path.write_bytes(path.read_bytes()[:100]), path.unlink):
        damage()
        with pytest.raises(UserError, match="missing, damaged or of other data"):
            _run(tmp_path / "run", **settings, resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pca_components": 65}, "--pca_components=65 is more than the 64 values"),
        (
            {"target_epsilon": 0.1, "noise_multiplier": None},
            "release before the first step, with a noise multiplier of 7, alone",
        ),
    ],
)
def test_principal_components_that_cannot_be_had_are_refused(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        _run(tmp_path / "run", **{**PCA, **settings})
    assert not (tmp_path / "run").exists()


def test_principal_components_of_tokens_are_refused(tmp_path):
    tokens = np.zeros((8, 5), np.int32)
    text = datasets.Dataset(
        name="text", task="classification", num_classes=2,
        train_features=tokens, train_labels=tokens[:, 0],
        test_features=tokens, test_labels=tokens[:, 0],
    )  # fmt: skip
    with pytest.raises(UserError, match="needs numbers, and these examples are tokens"):
        pca.Components.of_run(CentralConfig(**{**PCA, "pca_components": 2}).complete(), text)


@pytest.mark.parametrize("content", [None, "[]", "[[0, 20]]"])
def test_checkpoint_beyond_the_count_of_steps_is_refused(content, tmp_path, monkeypatch):
    settings = {**PRIVATE, "epochs": 4}
    _interrupted(tmp_path / "run", settings, monkeypatch, 60)
    ledger = tmp_path / "run" / "steps.json"
    ledger.unlink() if content is None else ledger.write_text(content)
    with pytest.raises(UserError, match="epsilon would be too low"):
        _run(tmp_path / "run", **settings, resume=True)


@pytest.mark.parametrize("content", [None, "garbage"])
def test_run_without_the_list_of_its_checkpoints_is_refused(content, tmp_path, monkeypatch):
    settings = {**PRIVATE, "epochs": 4}
    _interrupted(tmp_path / "run", settings, monkeypatch, 60)
    listed = tmp_path / "run" / "checkpoints" / "checkpoint"
    listed.unlink() if content is None else listed.write_text(content)
    with pytest.raises(UserError, match=r"checkpoint, which says .* is damaged or gone"):
        _run(tmp_path / "run", **settings, resume=True)


def test_first_checkpoint_that_was_cut_off_is_none_and_its_steps_count(
    tmp_path, monkeypatch, capsys
):
    settings = {**PRIVATE, "epochs": 4}
    _interrupted(tmp_path / "run", settings, monkeypatch, 30)
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "checkpoint").unlink()
    (index,) = checkpoints.glob("step-*.index")
    (checkpoints / f"{index.stem}_temp").mkdir()
    ran = int(index.stem.removeprefix("step-"))
    run = _run(tmp_path / "run", **settings, resume=True)
    assert f"so the run starts over; the {ran} steps" in capsys.readouterr().err
    steps = run.summary["steps"]
    assert json.loads((run.path / "steps.json").read_text()) == [[0, ran], [0, steps]]
    assert run.privacy["steps"] == ran + steps


def test_run_that_starts_over_says_so_and_that_it_exceeds_its_target(tmp_path, monkeypatch, capsys):
    settings = {**SMALL, "epochs": 4, "target_epsilon": 2.0}
    _interrupted(tmp_path / "run", settings, monkeypatch, 60)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    run = _run(tmp_path / "run", **settings, resume=True)
    errors = capsys.readouterr().err
    assert "has no checkpoint yet, so the run starts over; the 45 steps" in errors
    assert run.summary["epsilon"] > 2.0
    assert "above --target_epsilon=2: the run was interrupted" in errors


VARYING = """
import numpy as np
from tfpriv.datasets import Dataset

ROWS = 1000

def load():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(ROWS, 3)).astype(np.float32)
    labels = np.arange(ROWS, dtype=np.int32) % 2
    return Dataset(name="varying", task="classification", num_classes=2, train_features=features,
                   train_labels=labels, test_features=features[:5], test_labels=labels[:5])
"""


def test_run_that_goes_on_with_other_data_is_refused(tmp_path, monkeypatch):
    own = tmp_path / "varying.py"
    own.write_text(VARYING)
    settings = {**PRIVATE, "dataset": f"{own}:load", "expected_batch_size": 100, "epochs": 4}
    _interrupted(tmp_path / "run", settings, monkeypatch, 20)
    own.write_text(VARYING.replace("ROWS = 1000", "ROWS = 20000"))
    with pytest.raises(UserError, match=r"the data are not those that .*run began with"):
        _run(tmp_path / "run", **settings, resume=True)


def test_run_that_had_ended_keeps_its_timings_when_resumed(tmp_path):
    run = _run(tmp_path / "run", **PRIVATE)
    before = run.summary
    after = _run(tmp_path / "run", **PRIVATE, resume=True).summary
    assert before == after


SMALL_VOCABULARY = """
def small_vocabulary(shape, classes):
    return tf.keras.Sequential([tf.keras.layers.Embedding(10, 4, input_length=3),
                                tf.keras.layers.Flatten(), tf.keras.layers.Dense(classes)])
"""


@pytest.fixture(name="outlier", params=["huge feature", "token beyond the embedding"])
def _outlier(own, request):
    """Settings with example 17 in every batch."""
    settings = {"dataset": f"{own}:huge", "expected_batch_size": 40}
    if request.param == "huge feature":
        return settings
    text = OWN.replace("np.ones((40, 3), np.float32)", "np.ones((40, 3), np.int32)")
    own.write_text(text.replace("features[17] = 3e38", "features[17] = 99") + SMALL_VOCABULARY)
    return {**settings, "model": f"{own}:small_vocabulary"}


@pytest.mark.parametrize("clipping", ["fixed", "adaptive", "per_layer"])
def test_one_example_neither_ends_a_private_run_nor_shows_in_what_it_says(
    outlier, clipping, tmp_path, capfd
):
    run = _run(tmp_path / "run", **{**PRIVATE, **outlier, "clipping": clipping})
    weights = tf.keras.models.load_model(run.model_path).get_weights()
    assert all(np.all(np.isfinite(w)) for w in weights)
    said = "".join(capfd.readouterr())
    assert not re.search(r"finite|example 17|\bnan\b|\binf\b|fail", said)


def test_more_than_all_examples_in_a_batch_are_refused(tmp_path):
    with pytest.raises(UserError, match="--expected_batch_size=9000 is more than the 1437"):
        _run(tmp_path / "run", **{**PRIVATE, "expected_batch_size": 9000})


def test_tokens_beyond_the_embedding_are_said_in_a_sentence_without_privacy(own, tmp_path):
    text = OWN.replace("np.ones((40, 3), np.float32)", "np.ones((40, 3), np.int32)")
    own.write_text(text.replace("features[17] = 3e38", "features[17] = 99") + SMALL_VOCABULARY)
    settings = {"dataset": f"{own}:huge", "model": f"{own}:small_vocabulary"}
    settings["expected_batch_size"] = 40
    with pytest.raises(UserError, match="the model fails on the training examples of step"):
        _run(tmp_path / "run", **{**SMALL, "mechanism": "none", **settings})
