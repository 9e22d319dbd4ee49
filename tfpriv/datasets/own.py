"""A user's own data: a function that returns a Dataset or a pair of TFF's ClientData."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfpriv import user_code
from tfpriv.datasets.dataset import CLASSIFICATION, REGRESSION, UNKNOWN_PREPARATION, Dataset
from tfpriv.errors import UserError

_LABEL_KEYS = ("label", "labels", "y")
_BATCH = 1024


def name_of(dataset: object) -> str:
    """Returns the name of a data set as configs hold it.

    Args:
        dataset: A name as `datasets.load` takes it; a Dataset; a pair (train, test) of pairs
            (features, labels) of arrays, as `tf.keras.datasets` return them, or of ClientData; or
            a function that returns a Dataset or such a pair.

    Raises:
        UserError: It is none of these.
    """
    if isinstance(dataset, str):
        return dataset
    if isinstance(dataset, Dataset):
        return user_code.give(_Given(dataset), dataset.name)
    if isinstance(dataset, tuple | list):
        return user_code.give(_Given(dataset), "arrays")
    if callable(dataset):
        return user_code.give(dataset)
    raise UserError(
        f"dataset is a {type(dataset).__name__}; give a name, a Dataset, arrays as ((features, "
        "labels), (features, labels)) of training and test, or a function that returns one."
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Given:
    """Returns what was given."""

    dataset: object

    def __call__(self):
        return self.dataset


def load(name: str) -> Dataset:
    """Returns what the function `name` returns as a Dataset, not yet checked.

    Args:
        name: `module:function` or `path/to/file.py:function`; see tfpriv.datasets.load.

    Raises:
        UserError: if the function cannot be had, fails, or returns something else.
    """
    function = user_code.load_function(name, "--dataset")
    try:
        result = function()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"--dataset={name} failed ({type(error).__name__}: {error}); call the function in "
            "Python to see where."
        ) from error
    if isinstance(result, Dataset):
        return dataclasses.replace(
            result, name=name, provenance=result.provenance or {name: {"source": "user"}}
        )
    if isinstance(result, tuple | list) and len(result) == 2 and all(map(_is_client_data, result)):
        return from_client_data(name, *result)
    if isinstance(result, tuple | list) and len(result) == 2 and all(map(_is_pair, result)):
        return from_arrays(name, *result)
    raise UserError(
        f"--dataset={name} returned a {type(result).__name__}; return a tfpriv.datasets.Dataset, "
        "or a pair (train, test) of tff.simulation.datasets.ClientData."
    )


def from_client_data(name: str, train: Any, test: Any) -> Dataset:
    """Gathers a pair of TFF's ClientData into one Dataset.

    The clients of `train` become train_clients, numbered in the order of client_ids. Integer
    labels make a classification over 0..their largest, real ones a regression. Features of
    integers wider than a byte stay ids (int32); bytes, booleans and reals become float32 with
    their values as they are.

    Args:
        name: The data set's name, also for messages.
        train: An object with `client_ids` and `create_tf_dataset_for_client(id)`. Its elements are
            single examples: pairs (features, label), or mappings of two entries of which one is
            named label, labels or y.
        test: Likewise; its clients are put together.

    Raises:
        UserError: if elements have another form, no fixed shape, or are not numbers.
    """
    train_features, train_labels, clients = _gather(name, "train", train)
    test_features, test_labels, _ = _gather(name, "test", test)
    return _of_arrays(name, train_features, train_labels, clients, test_features, test_labels)


def _of_arrays(name, train_features, train_labels, clients, test_features, test_labels):
    label_type: type[np.generic]
    if train_labels.dtype.kind in "iub":
        task = CLASSIFICATION
        num_classes = max(2, 1 + max(int(train_labels.max()), int(test_labels.max())))
        label_type = np.int32
    else:
        task, num_classes, label_type = REGRESSION, 1, np.float32
    return Dataset(
        name=name,
        task=task,
        num_classes=num_classes,
        train_features=train_features,
        train_labels=train_labels.astype(label_type),
        test_features=test_features,
        test_labels=test_labels.astype(label_type),
        train_clients=clients,
        provenance={name: {"source": "user"}},
        preparation=(
            UNKNOWN_PREPARATION,
            "the number of classes and the types of the numbers, which are read from the examples",
        ),
    )


def from_arrays(name: str, train: Sequence, test: Sequence) -> Dataset:
    """Makes a Dataset of pairs (features, labels) of arrays.

    Integer labels make a classification over 0..their largest, real ones a regression. Features of
    integers wider than a byte stay ids (int32); others become float32 with their values.

    Args:
        name: The data set's name, also for messages.
        train: Features [n, ...] and labels [n] or [n, 1].
        test: Likewise.

    Raises:
        UserError: They are not numbers.
    """
    train, test = (tuple(map(np.asarray, part)) for part in (train, test))
    return _of_arrays(
        name,
        _features(name, train[0]),
        _labels(name, train[1]),
        None,
        _features(name, test[0]),
        _labels(name, test[1]),
    )


def _is_pair(value):
    return isinstance(value, tuple | list) and len(value) == 2


def _is_client_data(value):
    return hasattr(value, "client_ids") and hasattr(value, "create_tf_dataset_for_client")


def _gather(name, part, client_data):
    features, labels, sizes = [], [], []
    for client in client_data.client_ids:
        size = 0
        for element in _batches(name, part, client, client_data):
            x, y = _split(name, element)
            features.append(x)
            labels.append(y)
            size += len(y)
        sizes.append(size)
    if not features:
        raise UserError(f"--dataset={name}: its {part} ClientData has no examples; give some.")
    try:
        all_features, all_labels = np.concatenate(features), np.concatenate(labels)
    except ValueError as error:
        raise UserError(
            f"--dataset={name}: examples of its {part} ClientData differ in shape ({error}); pad "
            "or crop them to one shape."
        ) from error
    clients = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return _features(name, all_features), _labels(name, all_labels), clients


def _batches(name, part, client, client_data) -> Iterator[Any]:
    try:
        yield from (
            client_data.create_tf_dataset_for_client(client).batch(_BATCH).as_numpy_iterator()
        )
    except Exception as error:
        raise UserError(
            f"--dataset={name}: client {client!r} of its {part} ClientData cannot be read "
            f"({type(error).__name__}: {error}); its examples must be single, all of one shape."
        ) from error


def _split(name, element):
    if isinstance(element, tuple | list) and len(element) == 2:
        return np.asarray(element[0]), np.asarray(element[1])
    if isinstance(element, Mapping) and len(element) == 2:
        keys = [key for key in _LABEL_KEYS if key in element]
        if len(keys) == 1:
            (other,) = element.keys() - keys
            return np.asarray(element[other]), np.asarray(element[keys[0]])
    form = (
        f"a mapping with {', '.join(map(repr, element))}"
        if isinstance(element, Mapping)
        else f"a {type(element).__name__}"
    )
    raise UserError(
        f"--dataset={name}: its ClientData's examples are {form}; map them to pairs (features, "
        "label), or to mappings of two entries of which one is named label."
    )


def _features(name, array):
    if array.dtype.kind not in "iubf":
        raise UserError(
            f"--dataset={name}: its features are {array.dtype}, not numbers; convert them, for "
            "example text to character ids."
        )
    if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
        return _fit_int32(name, "features", array)
    return array.astype(np.float32)


def _labels(name, array):
    if array.dtype.kind not in "iubf":
        raise UserError(
            f"--dataset={name}: its labels are {array.dtype}, not numbers; convert them to class "
            "numbers from 0, or to real numbers for regression."
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    return _fit_int32(name, "labels", array) if array.dtype.kind in "iu" else array


def _fit_int32(name, kind, array):
    limits = np.iinfo(np.int32)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise UserError(
            f"--dataset={name}: its {kind} reach from {array.min()} to {array.max()}, beyond "
            "int32; renumber them from 0."
        )
    return array.astype(np.int32)
