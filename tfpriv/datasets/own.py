"""A user's own data: a Dataset, or training and test data in a form that others have."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfpriv import user_code
from tfpriv.datasets.dataset import (
    CLASSIFICATION,
    REGRESSION,
    UNKNOWN_PREPARATION,
    Dataset,
    as_int32,
)
from tfpriv.errors import UserError

_LABEL_KEYS = ("label", "labels", "y")
_BATCH = 1024
_FORMS = (
    "a pair (features, labels) of arrays, a pandas.DataFrame with a column label, a "
    "tf.data.Dataset or a tff.simulation.datasets.ClientData"
)


def name_of(dataset: object) -> str:
    """Returns the name of a data set as configs hold it.

    Args:
        dataset: A name as `datasets.load` takes it; a Dataset; a pair (train, test) of what
            `from_parts` or `from_client_data` takes; or a function that returns one of these.

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
        f"dataset is a {type(dataset).__name__}; give a name, a Dataset, a pair (train, test) of "
        "(features, labels), DataFrames or tf.data.Datasets, or a function that returns one."
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
    except (Exception, SystemExit) as error:
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
    if isinstance(result, tuple | list) and len(result) == 2:
        return from_parts(name, *result)
    raise UserError(
        f"--dataset={name} returned a {type(result).__name__}; return a tfpriv.datasets.Dataset, "
        f"or a pair (train, test), each {_FORMS}."
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


def from_parts(name: str, train: Any, test: Any) -> Dataset:
    """Makes a Dataset of training and test data.

    Integer labels make a classification over 0..their largest, real ones a regression. Features of
    integers wider than a byte stay ids (int32); others become float32 with their values.

    Args:
        name: The data set's name, also for messages.
        train: A pair of arrays, features [n, ...] and labels [n] or [n, 1]; a pandas DataFrame of
            numbers, whose column label, labels or y is the label; or a tf.data.Dataset of pairs
            (features, label), single or in batches, or of mappings with such a label.
        test: Likewise.

    Raises:
        UserError: It is something else, or they are not numbers.
    """
    train_features, train_labels = _arrays_of(name, "train", train)
    test_features, test_labels = _arrays_of(name, "test", test)
    return _of_arrays(
        name,
        _features(name, train_features),
        _labels(name, train_labels),
        None,
        _features(name, test_features),
        _labels(name, test_labels),
    )


def _arrays_of(name, part, given):
    if isinstance(given, tuple | list) and len(given) == 2:
        return tuple(map(np.asarray, given))
    if hasattr(given, "columns") and hasattr(given, "to_numpy"):
        return _of_frame(name, part, given)
    if hasattr(given, "element_spec") and hasattr(given, "as_numpy_iterator"):
        return _of_tf_dataset(name, part, given)
    raise UserError(
        f"--dataset={name}: its {part} data are a {type(given).__name__}; make both {_FORMS}."
    )


def _of_frame(name, part, frame):
    labels = [column for column in frame.columns if column in _LABEL_KEYS]
    others = frame.drop(columns=labels)
    wrong = [
        f"{column} ({dtype})" for column, dtype in others.dtypes.items() if dtype.kind not in "iubf"
    ]
    problems = []
    if len(labels) != 1:
        problems.append(f"{len(labels)} columns named {' or '.join(_LABEL_KEYS)}: name one label")
    if wrong:
        problems.append(f"columns that are no numbers: encode or drop {', '.join(wrong)}")
    missing = [str(column) for column in frame.columns if frame[column].isna().any()]
    if missing:
        problems.append(f"missing values: fill or drop them in {', '.join(missing)}")
    if problems:
        raise UserError(f"--dataset={name}: its {part} DataFrame has {'; and '.join(problems)}.")
    # Columns of whole numbers are amounts in a table, not ids.
    return others.to_numpy(np.float32), frame[labels[0]].to_numpy()


def _of_tf_dataset(name, part, dataset):
    try:
        if not _is_batched(dataset.element_spec):
            dataset = dataset.batch(_BATCH)
        pairs = [_split(name, element) for element in dataset.as_numpy_iterator()]
        features, labels = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"--dataset={name}: its {part} tf.data.Dataset cannot be read ({type(error).__name__}: "
            f"{error}); its examples must be pairs (features, label), all of one shape."
        ) from error
    return features, labels


def _is_batched(spec):
    """Says whether elements are batches: features and label begin with the same axis."""
    shapes = [tuple(part.shape) for part in (spec.values() if hasattr(spec, "values") else spec)]
    if not all(shapes):
        return False
    first = {shape[0] for shape in shapes}
    # A text with a label at each position has equal lengths too, but as many axes.
    return len(first) == 1 and (None in first or len({len(shape) for shape in shapes}) > 1)


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
        f"--dataset={name}: its examples are {form}; map them to pairs (features, "
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
    fitted = as_int32(array)
    if fitted.dtype != np.int32:
        raise UserError(
            f"--dataset={name}: its {kind} reach from {array.min()} to {array.max()}, beyond "
            "int32; renumber them from 0."
        )
    return fitted
