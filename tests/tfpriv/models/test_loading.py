"""Model files from anybody: what is Keras's loads, and nothing runs that a file holds or names."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models, user_code
from tfpriv.errors import UserError

L = tf.keras.layers


def plain_model():
    return tf.keras.Sequential([L.Dense(4, "relu", input_shape=(3,)), L.Dense(2, "gelu")])


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.keras"
    models.save(plain_model(), path)
    return path


def rewritten(path, change):
    """Writes a .keras file anew with another configuration."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_layer(layer):
    def change(config):
        config["config"]["layers"][1] = layer

    return change


@pytest.fixture
def marker(tmp_path):
    """A file that is not there, and must not be after."""
    path = tmp_path / "it_ran"
    yield path
    assert not path.exists()


def payload(marker):
    """A function that makes the file, were it called."""
    return eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")


def test_models_of_keras_layers_load(tmp_path):
    inputs = tf.keras.Input((8, 8, 3))
    x = L.RandomFlip()(inputs)
    x = L.Conv2D(4, 3, kernel_initializer="he_normal", kernel_regularizer="l2")(x)
    x = L.BatchNormalization(beta_initializer=tf.keras.initializers.Constant(0.5))(x)
    x = L.Flatten()(L.MaxPooling2D()(L.ReLU()(x)))
    inner = tf.keras.Sequential([L.Dense(4, "swish", kernel_constraint="max_norm")])
    functional = tf.keras.Model(inputs, [L.Dense(2)(inner(x)), L.Softmax()(x)])
    recurrent = tf.keras.Sequential(
        [L.Embedding(9, 4, input_length=5), L.Bidirectional(L.LSTM(3)), L.Dense(1)]
    )
    compiled = plain_model()
    compiled.compile(tf.keras.optimizers.Adam(1e-3), "mse", metrics=["mae"])
    for number, model in enumerate((plain_model(), functional, recurrent, compiled)):
        path = tmp_path / f"{number}.keras"
        model.save(path)
        again = models.load(path)
        for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_old_format_is_refused_whatever_its_name(tmp_path, marker, name):
    model = tf.keras.Sequential([L.Lambda(payload(marker), input_shape=(3,))])
    marker.unlink(missing_ok=True)  # Building the model called it.
    model.save(tmp_path / "saved.h5", save_format="h5")
    file = (tmp_path / "saved.h5").rename(tmp_path / name)
    with pytest.raises(UserError, match="old HDF5 format"):
        models.load(file)


def test_file_that_is_both_formats_is_refused(tmp_path, saved, marker):
    """A zip archive can follow anything."""
    model = tf.keras.Sequential([L.Lambda(payload(marker), input_shape=(3,))])
    marker.unlink(missing_ok=True)
    model.save(tmp_path / "saved.h5", save_format="h5")
    saved.write_bytes((tmp_path / "saved.h5").read_bytes() + saved.read_bytes())
    with pytest.raises(UserError, match="old HDF5 format"):
        models.load(saved)


def test_lambda_is_refused(tmp_path, marker):
    model = tf.keras.Sequential([L.Lambda(payload(marker), input_shape=(3,))])
    marker.unlink(missing_ok=True)
    model.save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="holds a Lambda"):
        models.load(tmp_path / "model.keras")


def test_folder_is_refused(tmp_path):
    plain_model().save(tmp_path / "folder", save_format="tf")
    with pytest.raises(UserError, match="SavedModel"):
        models.load((tmp_path / "folder").rename(tmp_path / "model.keras"))


def test_function_of_tensorflow_in_a_graph_is_refused(tmp_path):
    inputs = tf.keras.Input((3,))
    model = tf.keras.Model(inputs, tf.nn.relu(inputs))
    model.save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="TFOpLambda"):
        models.load(tmp_path / "model.keras")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            {"module": "os", "class_name": "system", "config": {"command": "touch MARKER"}},
            "system of os",
        ),
        (
            {"module": "subprocess", "class_name": "Popen", "config": {"args": "touch MARKER"}},
            "Popen of subprocess",
        ),
        (
            {"module": "keras.utils", "class_name": "get_file", "config": {}},
            "get_file of keras.utils",
        ),
        (
            {"module": "keras.src.utils.data_utils", "class_name": "OrderedEnqueuer", "config": {}},
            "OrderedEnqueuer of keras.src",
        ),
        (
            {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "x"}},
            "TFSMLayer",
        ),
        ({"module": "somebody.net", "class_name": "Layer", "config": {}}, "Layer of somebody.net"),
        ({"class_name": "__typespec__", "spec_name": "x", "module": "os"}, "__typespec__"),
    ],
)
def test_what_is_not_keras_is_refused(saved, marker, layer, message):
    layer = json.loads(json.dumps(layer).replace("MARKER", str(marker)))
    rewritten(saved, with_layer(layer))
    with pytest.raises(UserError, match=message):
        models.load(saved)


@pytest.mark.parametrize(
    "activation",
    [
        {"module": "builtins", "class_name": "function", "config": "eval"},
        {"module": "os", "class_name": "function", "config": "system"},
        {"class_name": "__lambda__", "config": {"value": "x"}},
    ],
)
def test_function_that_is_not_keras_is_refused(saved, activation):
    def change(config):
        config["config"]["layers"][1]["config"]["activation"] = activation

    rewritten(saved, change)
    with pytest.raises(UserError, match=r"eval of builtins|system of os|holds a __lambda__"):
        models.load(saved)


def test_class_of_a_file_that_the_user_named_loads(tmp_path):
    source = tmp_path / "net.py"
    source.write_text(
        "import tensorflow as tf\n"
        "class Twice(tf.keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
        "def build(input_shape, num_classes):\n"
        "    return tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,)), Twice()])\n"
    )
    model = user_code.load_function(f"{source}:build", "--model")((3,), 2)
    models.save(model, tmp_path / "model.keras")
    (module,) = models.foreign_modules(tmp_path / "model.keras")
    assert module in user_code.loaded()
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(models.load(tmp_path / "model.keras")(x), model(x))


def test_packed_or_misplaced_members_are_refused(saved):
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match="packed"):
        models.load(saved)
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("../assets/x", b"")
    with pytest.raises(UserError, match=r"'\.\./assets/x'"):
        models.load(saved)


@pytest.mark.parametrize("kind", ["external", "soft", "dataset"])
def test_weights_in_other_files_are_refused(saved, tmp_path, kind):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(48))
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        if kind == "external":
            file["there"] = h5py.ExternalLink(str(secret), "/x")
        elif kind == "soft":
            file["there"] = h5py.SoftLink("/elsewhere")
        else:
            file.create_dataset("there", (12,), "f4", external=[(str(secret), 0, 48)])
    members["model.weights.h5"] = weights.getvalue()
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match="there"):
        models.load(saved)


def test_damaged_file_is_named(tmp_path):
    for name, content in (
        ("a.keras", b""),
        ("b.keras", b"PK\x03\x04" + bytes(50)),
        ("c.txt", b"x"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} cannot be loaded as a Keras model"):
            models.load(tmp_path / name)
