"""Opens model files that may come from anybody: none of them runs code.

Keras's own safe mode covers lambdas in its newest format. Here a file is looked into before Keras
sees it: the format is told by the first bytes, and every class and function that it names must be
one of Keras's layers and the like, or come from a file that the user named.
"""

import io
import json
import os
import pathlib
import sys
import zipfile

import h5py
import tensorflow as tf

from tfpriv import user_code
from tfpriv.errors import UserError

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_LARGEST_CONFIG = 64 * 2**20

# Where Keras's objects that only compute have their home.
_ROOMS = (
    "keras",
    "keras.activations",
    "keras.constraints",
    "keras.initializers",
    "keras.layers",
    "keras.losses",
    "keras.metrics",
    "keras.mixed_precision",
    "keras.models",
    "keras.optimizers",
    "keras.optimizers.legacy",
    "keras.optimizers.schedules",
    "keras.regularizers",
)
_MODELS = {"Sequential", "Functional", "Model"}
# Values, which Keras writes as if they were objects.
_VALUES = {"__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__"}
# Layers that hold code, name functions of TensorFlow, or load something else.
_HOLD_CODE = {
    *("Lambda", "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod"),
    *("InstanceProperty", "TensorFlowOpLayer", "TFSMLayer"),
}


def load(path: str | os.PathLike) -> tf.keras.Model:
    """Loads a model without running code that the file holds or names.

    Args:
        path: A .keras file. Classes of the user's own are found if `user_code` has loaded them.

    Raises:
        UserError: It is no such file, is damaged, or names or holds code; nothing of it has run.
    """
    path = pathlib.Path(path)
    try:
        own_classes = _check(path)
        return tf.keras.models.load_model(path, own_classes, compile=False, safe_mode=True)
    except UserError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} cannot be loaded as a Keras model ({reason}); give a .keras file that "
            "tf.keras.models.load_model reads."
        ) from error


def foreign_modules(path: str | os.PathLike) -> set[str]:
    """Returns the modules, other than Keras's, whose classes or functions a model file names."""
    try:
        with zipfile.ZipFile(path) as archive:
            named = _named(json.loads(_member(archive, _CONFIG)))
            return {module for module, _ in named if module not in (None, "builtins", *_ROOMS)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return set()  # `load` says what is wrong with it.


def _check(path):
    """Returns the classes and functions of the user's own that a file names, by name."""
    if path.is_dir():
        raise UserError(
            f"{path} is a folder, and a SavedModel can hold any operation, those that write files "
            "among them; load it yourself, and save it as model.save('model.keras')."
        )
    with path.open("rb") as file:
        first = file.read(len(_HDF5))
    if first == _HDF5:
        raise UserError(
            f"{path} is a model in the old HDF5 format, which can hold Python code; load it "
            "yourself, and save it as model.save('model.keras')."
        )
    if not first.startswith(_ZIP) or path.suffix != ".keras":
        raise UserError(
            f"{path} cannot be loaded as a Keras model (it is not in the format of a .keras file, "
            "or has another name); give one that model.save('model.keras') wrote."
        )
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            parts = pathlib.PurePosixPath(member.filename).parts
            if ".." in parts or member.filename.startswith(("/", "\\")):
                raise UserError(f"{path} holds the file {member.filename!r}; do not use it.")
            # As Keras writes them. What is not packed cannot be larger than the file.
            if member.compress_type != zipfile.ZIP_STORED:
                raise UserError(
                    f"{path} holds {member.filename!r} packed, as Keras never writes it; do not "
                    "use it, or load it yourself and save it again."
                )
        named = list(_named(json.loads(_member(archive, _CONFIG))))
        for module, name in named:
            _refuse_code(path, module, name)
        _refuse_links(path, archive)
    return {
        name: vars(sys.modules[module])[name]
        for module, name in named
        if module in user_code.loaded()
    }


def _member(archive, name):
    with archive.open(name) as file:
        content = file.read(_LARGEST_CONFIG + 1)
    if len(content) > _LARGEST_CONFIG:
        raise ValueError(f"{name} is larger than {_LARGEST_CONFIG} bytes")
    return content


def _named(config):
    """Yields (module or None, name) of all that a model's configuration has made."""
    if isinstance(config, list):
        for part in config:
            yield from _named(part)
    elif isinstance(config, dict):
        if "class_name" in config:
            name = config["class_name"]
            module = config.get("module")
            if name == "function":
                yield module, str(config.get("config"))
            elif name not in _VALUES:
                yield module, str(name)
        for part in config.values():
            yield from _named(part)


def _refuse_code(path, module, name):
    if name in _HOLD_CODE or name.startswith("__"):
        raise UserError(
            f"{path} holds a {name}, which is code or names a function to be run; use layers of "
            "Keras or of your own instead."
        )
    if module is None:
        return  # Keras looks it up among its own, and what is registered in this process.
    if module in _ROOMS:
        return
    if module.startswith("keras.src.engine.") and name in _MODELS:
        return
    if module == "builtins" and any(
        hasattr(getattr(tf.keras, room), name)
        for room in ("activations", "initializers", "losses", "metrics")
    ):
        return
    if module in user_code.loaded() and name in vars(sys.modules[module]):
        return
    raise UserError(
        f"{path} names {name} of {module}, which is not Keras's and not from a file that your "
        "flags name; such a class or function could be any code."
    )


def _refuse_links(path, archive):
    """Refuses weights that lie in other files, which would be read in their place."""
    with archive.open(_WEIGHTS) as file, h5py.File(io.BytesIO(file.read()), "r") as weights:

        def follow(group):
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise UserError(f"{path} has a link at {name} in its weights; do not use it.")
                item = group[name]
                if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                    raise UserError(f"{path} keeps {name} in another file; do not use it.")
                if isinstance(item, h5py.Group):
                    follow(item)

        follow(weights)
