import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models

SHAPES = {"char_lstm": ((12,), {"input_dtype": "int32", "label_shape": (12,)})}


@pytest.mark.parametrize("name", models.NAMES)
def test_named_model_loads_with_plain_keras(name, tmp_path):
    shape, kwargs = SHAPES.get(name, ((14, 14, 1), {}))
    model = models.build(name, shape, 10, **kwargs)
    models.save(model, tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    batch = np.ones((3, *shape), kwargs.get("input_dtype", "float32"))
    np.testing.assert_array_equal(loaded(batch), model(batch))
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_saved_model_loads_in_a_process_without_tfpriv(tmp_path):
    models.save(models.build("2nn", (8, 8, 1), 10, seed=1), tmp_path / "model.keras")
    code = (
        "import sys, tensorflow as tf; "
        "print(tf.keras.models.load_model('model.keras').count_params(), 'tfpriv' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["55210", "False"]


def test_compile_settings_stay_with_the_model_and_out_of_the_file(tmp_path):
    def own_loss(labels, outputs):
        return tf.reduce_mean(outputs)

    model = models.build("logistic", (6,), 3)
    model.compile("adam", own_loss)
    model.fit(np.zeros((4, 6)), np.zeros((4, 3)), verbose=0)
    models.save(model, tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer is None
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    assert model.get_compile_config()["optimizer"] == "adam"


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_text("old")
    model = models.build("logistic", (6,), 3)

    def save(file, **kwargs):
        file.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", save)
    with pytest.raises(OSError, match="disk full"):
        models.save(model, path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
