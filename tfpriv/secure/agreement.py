"""Whether answers on shares are those in plaintext, and what to say if they are not."""

import numpy as np

# Of decisions, the least part that must be the same.
LEAST = 0.995
# What a layer's results can differ by, of the largest, before they are said to part.
_VISIBLE = 2.0**-10


def is_too_low(agreement: float | None, error: float, bound: float) -> bool:
    """Says whether a result on shares disagrees with the same in plaintext.

    Args:
        agreement: The part of decisions that are the same, in [0, 1]; None for a regression.
        error: The largest difference of an output.
        bound: What it can be by rounding.
    """
    few = agreement is not None and agreement < LEAST
    return few or not error <= bound


def part(plain: np.ndarray, secure: np.ndarray, bound: float) -> bool:
    """Says whether a layer's results on shares are visibly others than those in plaintext."""
    error = np.abs(plain - secure).max()
    return not (error <= bound and error <= _VISIBLE * np.abs(plain).max())


def sentence(agreement: float | None, error: float, bound: float, layer: str | None) -> str:
    """Returns what to tell the user."""
    what = f"outputs differ by up to {error:.3g}, and rounding alone explains {bound:.3g}"
    if agreement is not None and agreement < LEAST:
        what = f"{100 * agreement:.2f}% of the decisions are the same, and {100 * LEAST:g}% should"
    where = f"; the two part first at {layer}" if layer else ""
    return f"the answers on shares are not those in plaintext: {what}{where}."


def of_trainings(agreement: float, metric: str) -> str:
    """Returns what to tell the user of two trainings that came to different ends.

    Args:
        agreement: The part of decisions that are the same; of a regression, how near both errors
            are.
        metric: "accuracy" or "rmse".
    """
    what = (
        "of the decisions are the same" if metric == "accuracy" else "is how near both errors are"
    )
    return (
        f"training on shares did not come to what it comes to in plaintext: {100 * agreement:.2f}% "
        f"{what}, and {100 * LEAST:g}% should; fixed point rounds what floating point keeps: lower "
        "--learning_rate, scale the features, or train for fewer steps before comparing."
    )
