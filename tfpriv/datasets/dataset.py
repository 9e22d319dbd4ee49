"""What every loader returns: examples, labels, and where the bytes came from."""

import dataclasses
from collections.abc import Mapping

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
            the user's own), or None where the data has no such thing.
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


def check(dataset: Dataset) -> None:
    """Refuses a data set that cannot be trained on.

    Raises:
        UserError: if arrays have the wrong type, shape or length, if a value is not finite (the
            message names the example), or if a label is out of range.
    """
    name = dataset.name
    if dataset.task not in (CLASSIFICATION, REGRESSION):
        raise UserError(
            f"data set {name}: task is {dataset.task!r}; "
            f"make it {CLASSIFICATION!r} or {REGRESSION!r}."
        )
    fewest = 2 if dataset.task == CLASSIFICATION else 1
    if not isinstance(dataset.num_classes, int | np.integer) or dataset.num_classes < fewest:
        raise UserError(
            f"data set {name}: num_classes is {dataset.num_classes!r}; {dataset.task} needs a "
            f"whole number of at least {fewest}."
        )
    if dataset.task == REGRESSION and dataset.num_classes != 1:
        raise UserError(
            f"data set {name}: num_classes is {dataset.num_classes}; regression has one output, "
            "make it 1."
        )
    if isinstance(dataset.preparation, str):
        raise UserError(
            f"data set {name}: preparation is {dataset.preparation!r}; give a tuple of sentences."
        )
    for part in ("train", "test"):
        _check_part(dataset, part)
    if dataset.test_features.shape[1:] != dataset.element_shape:
        raise UserError(
            f"data set {name}: training examples have shape {dataset.element_shape} but test "
            f"examples {dataset.test_features.shape[1:]}; give both the same shape."
        )
    if dataset.test_features.dtype != dataset.train_features.dtype:
        raise UserError(
            f"data set {name}: train_features are {dataset.train_features.dtype} but "
            f"test_features {dataset.test_features.dtype}; give both the same dtype."
        )
    if dataset.test_labels.shape[1:] != dataset.train_labels.shape[1:]:
        raise UserError(
            f"data set {name}: training labels have shape {dataset.train_labels.shape[1:]} an "
            f"example but test labels {dataset.test_labels.shape[1:]}; give both the same shape."
        )
    _check_clients(dataset)


def _check_part(dataset, part):
    where = f"data set {dataset.name}: {part}"
    features = getattr(dataset, f"{part}_features")
    labels = getattr(dataset, f"{part}_labels")
    for kind, array in (("features", features), ("labels", labels)):
        if not isinstance(array, np.ndarray) or array.ndim < 1:
            raise UserError(f"{where}_{kind} is a {type(array).__name__}; give a numpy array.")
    if len(features) == 0:
        raise UserError(f"{where}_features is empty; give at least one example.")
    if len(features) != len(labels):
        raise UserError(
            f"{where}_features has {len(features)} examples but {part}_labels {len(labels)}; "
            "give one label an example."
        )
    if features.dtype not in (np.float32, np.int32):
        raise UserError(
            f"{where}_features are {features.dtype}; convert them to float32, or to int32 if they "
            "are ids."
        )
    _check_finite(where, "features", features)
    wanted = np.int32 if dataset.task == CLASSIFICATION else np.float32
    if labels.dtype != wanted:
        raise UserError(
            f"{where}_labels are {labels.dtype}; convert them to {np.dtype(wanted).name} for "
            f"{dataset.task}."
        )
    if dataset.task == REGRESSION:
        if labels.ndim != 1:
            raise UserError(f"{where}_labels have shape {labels.shape}; regression needs [n].")
        _check_finite(where, "labels", labels)
        return
    outside = (labels < 0) | (labels >= dataset.num_classes)
    if outside.any():
        index = _first_example(outside)
        raise UserError(
            f"{where}_labels of example {index} hold {labels[outside][0]}; labels must lie in "
            f"0..{dataset.num_classes - 1}, or num_classes must be larger."
        )


def _check_finite(where, kind, array):
    # A sum is not finite if a value is not, and needs no second array of the data's size; it can
    # overflow on finite values too, so only a look at every value decides.
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype.kind != "f" or np.isfinite(np.sum(array)):
            return
    bad = ~np.isfinite(array)
    if bad.any():
        raise UserError(
            f"{where}_{kind} of example {_first_example(bad)} hold {array[bad][0]}; remove or "
            "replace values that are not finite."
        )


def _first_example(mask):
    return int(np.argmax(mask.reshape(len(mask), -1).any(axis=1)))


def _check_clients(dataset):
    clients = dataset.train_clients
    if clients is None:
        return
    where = f"data set {dataset.name}: train_clients"
    if not isinstance(clients, np.ndarray) or clients.dtype != np.int32 or clients.ndim != 1:
        raise UserError(f"{where} must be an int32 array of shape [n], one number an example.")
    if len(clients) != len(dataset.train_features):
        raise UserError(
            f"{where} has {len(clients)} entries for {len(dataset.train_features)} training "
            "examples; give one an example."
        )
    if clients.min() < 0:
        index = int(np.argmax(clients < 0))
        raise UserError(f"{where}[{index}] is {clients[index]}; number clients from 0.")
