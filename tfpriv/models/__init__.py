"""Keras models: built by name or by a user's function, inspected, evaluated and saved.

Importing this package does not import TensorFlow, so that a program can list the names of the
models in its help; the first use of anything else does.
"""

import importlib

from tfpriv.models.catalog import NAMES, build, name_of, rebuild

_HOMES = {
    "FrozenState": "frozen_state",
    "UNPROVED_MIXING": "mixing",
    "ModelInfo": "inspection",
    "Objective": "objective",
    "evaluate": "evaluation",
    "foreign_modules": "loading",
    "inspect": "inspection",
    "is_unproved": "mixing",
    "load": "loading",
    "notes_on_baseline": "evaluation",
    "random_direction": "directions",
    "refuse_example_mixing": "mixing",
    "refuse_moving_state": "restrictions",
    "refuse_regularization": "restrictions",
    "save": "saving",
    "weights_moved": "probing",
}

__all__ = ["NAMES", "build", "name_of", "rebuild", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
