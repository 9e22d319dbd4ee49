"""What every loader returns: examples, labels, and where the bytes came from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfpriv.errors import UserError

CLASSIFICATION = "classification"
REGRESSION = "regression"

UNKNOWN_PREPARATION = "how the data set was prepared before it was loaded"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set in memory, split into training and test examples.

    Attributes:
        name: The name that it was loaded by.
        task: "classification" or "regression".
        num_classes: Number of classes; for regression 1, the width of the output.
        train_features: [n, ...] float32, or int32 where features are ids (text).
        train_labels: [n] int32 in [0, num_classes); [n, length] int32 when every position of an
            example has a label (text); [n] float32 for regression.
        test_features: As train_features, [m, ...].
        test_labels: As train_labels, [m] or [m, length].
        train_clients: [n] int32, the natural client of each training example (writer, role, or
            the user's own, of whom names will do), or None where the data has no such thing.
        label_scale: Regression labels are (original - label_offset) / label_scale, so an RMSE
            times label_scale is in the original unit.
        label_offset: See label_scale; in the original unit.
        provenance: For each file its "sha256" and "source" ("cache", "address", "package" or
            "user"); fit for JSON.
        preparation: What went into the training examples and comes from several of them at once,
            such as a column's mean, in words: no epsilon covers it, and the privacy statement lists
            it. Empty if each example was prepared by itself, with constants chosen without a look
            at the examples. Where it is left out, the statement says that it is not known.
    """

    name: str
    task: str
    num_classes: int
    train_features: np.ndarray
    train_labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray
    train_clients: np.ndarray | None = None
    label_scale: float = 1.0
    label_offset: float = 0.0
    provenance: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    preparation: tuple[str, ...] = (UNKNOWN_PREPARATION,)

    @property
    def element_shape(self) -> tuple[int, ...]:
        """The shape of one example's features."""
        return self.train_features.shape[1:]

    @property
    def baseline(self) -> dict[str, float]:
        """What the best constant answer reaches on the test set, for comparison.

        For classification `baseline_accuracy`, of the most frequent class, in [0, 1]; for
        regression `baseline_rmse`, of the mean, in the label's own unit.
        """
        labels = self.test_labels
        if self.task == REGRESSION:
            return {"baseline_rmse": float(np.std(labels.astype(np.float64))) * self.label_scale}
        return {"baseline_accuracy": float(np.bincount(labels.ravel()).max() / labels.size)}


def prepared(dataset: Dataset) -> Dataset:
    """Returns a data set whose arrays have the types that training takes, where nothing is lost.

    Features become float32, or int32 if they are integers wider than a byte; labels int32, or
    float32 for regression. One-hot rows become class numbers, labels [n, 1] become [n], and the
    names of clients numbers, in the order of the names. What does not fit stays, for `check`.
    """
    changed: dict[str, Any] = {}
    for part in ("train", "test"):
        features, labels = f"{part}_features", f"{part}_labels"
        changed[features] = _features(getattr(dataset, features))
        changed[labels] = _labels(getattr(dataset, labels), dataset)
    clients = dataset.train_clients
    if isinstance(clients, np.ndarray) and clients.ndim == 1 and clients.dtype != np.int32:
        if clients.dtype.kind in "iu":
            clients = as_int32(clients)
        elif clients.dtype.kind in "OSUb":
            clients = np.unique(clients.astype(str), return_inverse=True)[1].astype(np.int32)
        changed["train_clients"] = clients
    return dataclasses.replace(dataset, **changed)


def _features(array):
    if not isinstance(array, np.ndarray) or array.dtype in (np.float32, np.int32):
        return array
    if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
        return as_int32(array)
    if array.dtype.kind in "iubf":
        with np.errstate(over="ignore"):  # What is beyond float32 is refused as infinite.
            return array.astype(np.float32)
    return array


def _labels(array, dataset):
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iubf":
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if dataset.task == REGRESSION:
        return array.astype(np.float32)
    is_one_hot = (
        array.ndim == 2
        and array.shape[1] == dataset.num_classes
        and bool(np.all((array == 0) | (array == 1)))
        and bool(np.all(array.sum(axis=1) == 1))
    )
    if is_one_hot:
        return np.argmax(array, axis=1).astype(np.int32)
    if array.dtype.kind == "f":
        if not np.all(np.isfinite(array)) or np.any(array != np.round(array)):
            return array
        array = array.astype(np.int64) if np.all(np.abs(array) < 2**62) else array
    return as_int32(array) if array.dtype.kind in "iub" else array


def as_int32(array: np.ndarray) -> np.ndarray:
    """Returns integers as int32 if all of them fit, else as they are."""
    limits = np.iinfo(np.int32)
    if (
        array.size
        and array.dtype != bool
        and (array.min() < limits.min or array.max() > limits.max)
    ):
        return array
    return array.astype(np.int32)


def check(dataset: Dataset) -> None:
    """Refuses a data set that cannot be trained on.

    Raises:
        UserError: if arrays have the wrong type, shape or length, if a value is not finite (the
            message names the example), or if a label is out of range: all that is wrong, at once.
    """
    problems = [*_problems_of_fields(dataset)]
    parts = {part: [*_problems_of_part(dataset, part)] for part in ("train", "test")}
    for part_problems in parts.values():
        problems += part_problems
    if not any(parts.values()):
        problems += _problems_between(dataset)
    problems += _problems_of_clients(dataset)
    if not problems:
        return
    if len(problems) > 1:
        problems = [f"({number}) {problem}" for number, problem in enumerate(problems, 1)]
    raise UserError(f"data set {dataset.name}: {'; '.join(problems)}.")


def _problems_of_fields(dataset):
    if dataset.task not in (CLASSIFICATION, REGRESSION):
        yield f"task is {dataset.task!r}; make it {CLASSIFICATION!r} or {REGRESSION!r}"
        return
    fewest = 2 if dataset.task == CLASSIFICATION else 1
    if not isinstance(dataset.num_classes, int | np.integer) or dataset.num_classes < fewest:
        yield (
            f"num_classes is {dataset.num_classes!r}; {dataset.task} needs a whole number of at "
            f"least {fewest}"
        )
    elif dataset.task == REGRESSION and dataset.num_classes != 1:
        yield f"num_classes is {dataset.num_classes}; regression has one output, make it 1"
    if isinstance(dataset.preparation, str):
        yield f"preparation is {dataset.preparation!r}; give a tuple of sentences"


def _problems_of_part(dataset, part):
    features = getattr(dataset, f"{part}_features")
    labels = getattr(dataset, f"{part}_labels")
    arrays = {"features": features, "labels": labels}
    wrong = {k: a for k, a in arrays.items() if not isinstance(a, np.ndarray) or a.ndim < 1}
    for kind, array in wrong.items():
        yield f"{part}_{kind} is a {type(array).__name__}; give a numpy array"
    if "features" not in wrong:
        yield from _problems_of_features(part, features)
    if "labels" not in wrong:
        yield from _problems_of_labels(part, labels, dataset)
    if not wrong and len(features) != len(labels):
        yield (
            f"{part}_features has {len(features)} examples but {part}_labels {len(labels)}; give "
            "one label an example"
        )


def _problems_of_features(part, features):
    if len(features) == 0:
        yield f"{part}_features is empty; give at least one example"
    if features.dtype not in (np.float32, np.int32):
        yield (
            f"{part}_features are {features.dtype}; convert them to float32, or to int32 if they "
            "are ids"
        )
    else:
        yield from _not_finite(part, "features", features)


def _problems_of_labels(part, labels, dataset):
    wanted = np.dtype(np.int32 if dataset.task == CLASSIFICATION else np.float32)
    if labels.dtype != wanted:
        yield (
            f"{part}_labels are {labels.dtype}; convert them to {wanted.name} for {dataset.task}"
        )
        return
    if dataset.task == REGRESSION:
        if labels.ndim != 1:
            yield f"{part}_labels have shape {labels.shape}; regression needs [n]"
        yield from _not_finite(part, "labels", labels)
        return
    outside = (labels < 0) | (labels >= dataset.num_classes)
    if outside.any():
        yield (
            f"{part}_labels of example {_first_example(outside)} hold {labels[outside][0]}; labels "
            f"must lie in 0..{dataset.num_classes - 1}, or num_classes must be larger"
        )


def _not_finite(part, kind, array):
    # A sum is not finite if a value is not, and needs no second array of the data's size; it can
    # overflow on finite values too, so only a look at every value decides.
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype.kind != "f" or np.isfinite(np.sum(array)):
            return
    bad = ~np.isfinite(array)
    if bad.any():
        yield (
            f"{part}_{kind} of example {_first_example(bad)} hold {array[bad][0]}; remove or "
            "replace values that are not finite"
        )


def _first_example(mask):
    return int(np.argmax(mask.reshape(len(mask), -1).any(axis=1)))


def _problems_between(dataset):
    """Yields what does not fit together in training and test data that are right by themselves."""
    if dataset.test_features.shape[1:] != dataset.element_shape:
        yield (
            f"training examples have shape {dataset.element_shape} but test examples "
            f"{dataset.test_features.shape[1:]}; give both the same shape"
        )
    if dataset.test_features.dtype != dataset.train_features.dtype:
        yield (
            f"train_features are {dataset.train_features.dtype} but test_features "
            f"{dataset.test_features.dtype}; give both the same dtype"
        )
    if dataset.test_labels.shape[1:] != dataset.train_labels.shape[1:]:
        yield (
            f"training labels have shape {dataset.train_labels.shape[1:]} an example but test "
            f"labels {dataset.test_labels.shape[1:]}; give both the same shape"
        )


def _problems_of_clients(dataset):
    clients = dataset.train_clients
    if clients is None:
        return
    if not isinstance(clients, np.ndarray) or clients.dtype != np.int32 or clients.ndim != 1:
        yield "train_clients must be an int32 array of shape [n], or one of names, one an example"
        return
    examples = dataset.train_features
    if isinstance(examples, np.ndarray) and examples.ndim and len(clients) != len(examples):
        yield (
            f"train_clients has {len(clients)} entries for {len(examples)} training examples; give "
            "one an example"
        )
    if len(clients) and clients.min() < 0:
        index = int(np.argmax(clients < 0))
        yield f"train_clients[{index}] is {clients[index]}; number clients from 0"
