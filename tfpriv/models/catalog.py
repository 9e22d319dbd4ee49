"""Builds a model by its name, or by a function of the user's own."""

import contextlib
import importlib
import inspect
import random
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from tfpriv import user_code
from tfpriv.errors import UserError
from tfpriv.models.messages import first_line

if TYPE_CHECKING:
    import tensorflow as tf

# Name -> (module, function). The modules import TensorFlow, so they are imported when needed.
_BUILDERS = {
    "logistic": ("dense", "logistic"),
    "2nn": ("dense", "two_nn"),
    "mlp": ("dense", "mlp"),
    "mlp_abadi": ("dense", "mlp_abadi"),
    "cnn_mcmahan": ("convolutional", "cnn_mcmahan"),
    "cnn_tutorial": ("convolutional", "cnn_tutorial"),
    "cnn_tanh": ("convolutional", "cnn_tanh"),
    "char_lstm": ("recurrent", "char_lstm"),
}

NAMES = tuple(_BUILDERS)

# The fewest pixels a side that leave one pixel before the first dense layer.
_SMALLEST_SIDE = {"cnn_mcmahan": 4, "cnn_tutorial": 13, "cnn_tanh": 13}


def build(
    name: str,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    task: str = "classification",
    input_dtype: DTypeLike = "float32",
    label_shape: Sequence[int] = (),
    seed: int | None = None,
) -> "tf.keras.Model":
    """Returns a built Keras model with fresh weights.

    Args:
        name: One of `NAMES`, or `package.module:function` or `path/to/file.py:function`, a function
            that takes the input shape and the number of classes and returns a `tf.keras.Model`.
        input_shape: The shape of one example, without the batch: `(28, 28, 1)` for MNIST.
        num_classes: The number of classes; 1 for regression.
        task: "classification" or "regression".
        input_dtype: The examples' dtype. Integers are text tokens.
        label_shape: The shape of one label: `()`, or `(80,)` for a label at each of 80 positions.
        seed: Decides the initial weights, 0 to 2**32 - 1; None draws them afresh. It reaches
            user's functions too, as Python's, NumPy's and TensorFlow's global generators are seeded
            with it while the model is built. Afterwards they go on from where Python's generator
            stood before, so nothing that is drawn later depends on `seed`.

    Raises:
        UserError: if there is no such model, it does not suit the data, the user's function fails
            or returns something other than a Keras model, or the model cannot read such a batch.
    """
    input_shape, label_shape = tuple(input_shape), tuple(label_shape)
    _check_outputs(task, num_classes)
    builder = _find_builder(name, input_shape, input_dtype, label_shape)
    inspection = importlib.import_module("tfpriv.models.inspection")
    with _seeded(seed):
        model = _call(builder, name, input_shape, num_classes)
        inspection.check_type(model, f"--model={name} returned")
        # A subclassed model makes its weights at its first call, which the seed must reach.
        inspection.predict(model, inspection.random_batch(input_shape, input_dtype, 2))
    if isinstance(builder, _Given):
        model.set_weights(builder.weights)
    return model


def name_of(model: object) -> str:
    """Returns the name of a model as configs hold it.

    Args:
        model: A name as `build` takes it; a function that takes the input shape and the number of
            classes and returns a Keras model; or a built Keras model, whose layers and weights are
            then where training starts.

    Raises:
        UserError: It is none of these.
    """
    if isinstance(model, str):
        return model
    if hasattr(model, "get_weights") and hasattr(model, "from_config"):
        return user_code.give(_Given(model), getattr(model, "name", "") or type(model).__name__)
    if callable(model):
        return user_code.give(model)
    raise UserError(
        f"model is {model!r}; give one of {', '.join(NAMES)}, a function (input shape, number of "
        "classes) -> Keras model, a built Keras model, or path/to/file.py:function."
    )


class _Given:
    """Makes a built model anew, of whatever shape it was."""

    def __init__(self, model) -> None:
        self._config, self._class = model.get_config(), type(model)
        self.weights = model.get_weights()

    def __call__(self, input_shape, num_classes):
        del input_shape, num_classes
        return self._class.from_config(self._config)


def rebuild(
    name: str, input_shape: Sequence[int], num_classes: int, *, input_dtype: DTypeLike = "float32"
) -> "tf.keras.Model":
    """Returns the model that `build` returns, made anew inside the graph that is being traced.

    Unlike `build` it seeds nothing, as a seeded graph would repeat its noise, and calls nothing: a
    model that makes its weights at its first call has none yet. Arguments that `build` has refused
    are not checked again.
    """
    input_shape = tuple(input_shape)
    return _find_builder(name, input_shape, input_dtype, None)(input_shape, num_classes)


def _find_builder(name, input_shape, input_dtype, label_shape):
    if user_code.is_user_code(name):
        return user_code.load_function(name, "--model")
    if name not in _BUILDERS:
        raise UserError(
            f"--model={name} is not known; choose one of {', '.join(NAMES)}, or name a function of "
            "your own as module:function or path/to/file.py:function."
        )
    if label_shape is not None:
        _check_suits(name, input_shape, input_dtype, label_shape)
    module, function = _BUILDERS[name]
    return getattr(importlib.import_module(f"tfpriv.models.{module}"), function)


def _check_outputs(task, num_classes):
    if task not in ("classification", "regression"):
        raise ValueError(f"task is {task!r}; it must be 'classification' or 'regression'")
    if task == "regression" and num_classes != 1:
        raise UserError(
            f"Regression has one output, and num_classes is {num_classes}; give data with one "
            "number an example."
        )
    if task == "classification" and num_classes < 2:
        raise UserError(
            f"Classification needs at least 2 classes, and the data have {num_classes}; give data "
            "with more classes, or use a regression data set."
        )


def _suits(name, input_shape, tokens, label_shape):
    if name == "char_lstm":
        return tokens and len(input_shape) == 1 and label_shape == input_shape
    if tokens or label_shape:
        return False
    side = _SMALLEST_SIDE.get(name)
    return side is None or (len(input_shape) == 3 and min(input_shape[:2]) >= side)


def _check_suits(name, input_shape, input_dtype, label_shape):
    tokens = np.issubdtype(np.dtype(input_dtype), np.integer)
    if _suits(name, input_shape, tokens, label_shape):
        return
    if name == "char_lstm":
        wants = "text: a row of integer tokens with a label at each position"
    elif name in _SMALLEST_SIDE:
        side = _SMALLEST_SIDE[name]
        wants = f"images of shape [height, width, channels] of at least {side} x {side} pixels"
    else:
        wants = "numbers with one label an example"
    examples = "integer tokens" if tokens else "numbers"
    labels = f"labels of shape {list(label_shape)}" if label_shape else "one label each"
    others = [other for other in NAMES if _suits(other, input_shape, tokens, label_shape)]
    remedy = (
        f"use --model={' or --model='.join(others)}"
        if others
        else "bring a model of your own with --model=path/to/file.py:function"
    )
    raise UserError(
        f"--model={name} reads {wants}, and these examples are {examples} of shape "
        f"{list(input_shape)} with {labels}; {remedy}."
    )


@contextlib.contextmanager
def _seeded(seed):
    if seed is None:
        yield
        return
    if not 0 <= seed < 2**32:
        raise UserError(f"The seed is {seed}; give one from 0 to {2**32 - 1}.")
    import tensorflow as tf

    # TensorFlow and Keras cannot give back the state of their generators. Left seeded with `seed`,
    # they would repeat the same noise after every build; so they go on from a fresh seed.
    onward = random.getrandbits(32)
    state = random.getstate()
    tf.keras.utils.set_random_seed(int(seed))
    try:
        yield
    finally:
        tf.keras.utils.set_random_seed(onward)
        random.setstate(state)


def _call(builder, name, input_shape, num_classes):
    try:
        inspect.signature(builder).bind(input_shape, num_classes)
    except TypeError as error:
        raise UserError(
            f"--model={name} cannot be called with the input shape and the number of classes "
            f"({error}); make it a function of these two arguments."
        ) from error
    except ValueError:
        pass  # Some callables written in C have no signature to look at; the call will tell.
    try:
        return builder(input_shape, num_classes)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        line = traceback.extract_tb(error.__traceback__)[1:2]
        where = f" at line {line[0].lineno} of {line[0].filename}" if line else ""
        raise UserError(
            f"--model={name} failed for input shape {input_shape} and {num_classes} classes "
            f"({first_line(error)}){where}; correct the function."
        ) from error
