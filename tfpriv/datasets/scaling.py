"""Brings the columns of a table to a common size: by public constants, or by their statistics."""

import numpy as np

from tfpriv.errors import UserError

PUBLIC = "public"
STANDARDIZED = "standardized"
NAMES = (PUBLIC, STANDARDIZED)
"""How load() can scale a table."""

LARGEST = 3.0
"""Columns that are scaled by public constants are clipped to [-LARGEST, LARGEST]."""


def default(*, is_private: bool) -> str:
    """Returns the scaling of a run that names none.

    A private run takes public constants, since a mean and a standard deviation of the training
    examples would be released without noise, beside the epsilon.
    """
    return PUBLIC if is_private else STANDARDIZED


def check(scaling: str) -> None:
    """Refuses a scaling that is not one of NAMES.

    Raises:
        UserError: if it is not.
    """
    if scaling not in NAMES:
        raise UserError(f"--scaling={scaling} is not known; choose one of {', '.join(NAMES)}.")


def scale_columns(
    train: np.ndarray, test: np.ndarray, constants: np.ndarray, scaling: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scales the columns of a table.

    Args:
        train: [n, columns] numbers.
        test: [m, columns] numbers, treated as the training rows are.
        constants: [columns, 2] float64, for each column a typical value and a spread above 0,
            chosen without a look at the rows. Read by "public" only.
        scaling: "public" for (x - typical) / spread, clipped to [-LARGEST, LARGEST], so that a row
            is scaled by itself; "standardized" for `standardize`.

    Returns:
        Both as float32.
    """
    if scaling == STANDARDIZED:
        return standardize(train, test)
    typical, spread = np.asarray(constants).T
    return tuple(
        np.clip((part - typical) / spread, -LARGEST, LARGEST).astype(np.float32)
        for part in (train, test)
    )


def standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shifts and scales columns to mean 0 and standard deviation 1 over the training rows.

    Args:
        train: [n, columns] numbers.
        test: [m, columns] numbers, treated with the training rows' statistics.

    Returns:
        Both as float32. A column that is constant over the training rows is only shifted.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return tuple(((part - mean) / deviation).astype(np.float32) for part in (train, test))


def preparation(scaling: str, scaled: str = "columns") -> tuple[str, ...]:
    """Returns what the scaling adds to Dataset.preparation.

    Args:
        scaling: One of NAMES.
        scaled: What was scaled, in words.
    """
    if scaling == PUBLIC:
        return ()
    return (
        f"the means and standard deviations of the {scaled}, which come from the training examples "
        "without noise",
    )
