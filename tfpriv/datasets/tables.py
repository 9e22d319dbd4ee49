"""What data sets of rows and columns have in common."""

import numpy as np

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0


def split(labels: np.ndarray, *, stratify: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns which examples are for training and which for testing, 80 to 20.

    Args:
        labels: [n], one an example.
        stratify: Whether both parts have the same proportions of classes. Which examples are for
            training then depends on all labels; a privacy guarantee is about one example more or
            less among those for training, as they are split.

    Returns:
        The numbers of the training and of the test examples; always the same ones.
    """
    from sklearn import model_selection

    return model_selection.train_test_split(
        np.arange(len(labels)),
        test_size=_TEST_FRACTION,
        random_state=_SPLIT_SEED,
        stratify=labels if stratify else None,
    )
