"""Random secrets to plant in text, for an audit of what a model memorizes.

Carlini et al. 2019 (arXiv 1802.08232), section 4: a secret is a fixed format with a random part.
Here a format is an example of the data set in the middle of which a few tokens are random, so that
the data's own way of beginning, ending and padding stays.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfpriv.datasets.dataset import CLASSIFICATION, Dataset
from tfpriv.errors import UserError

REPETITIONS = (1, 4, 16)
"""How often secrets are planted."""

LENGTH = 8
"""Random tokens in a secret."""

REFERENCES = 1000
"""How many sequences that were not planted a secret is ranked among."""

_PADDING = 0

# Streams drawn from one seed for different purposes must not collide.
_SECRETS_STREAM = 0x5EC2
_REFERENCES_STREAM = 0x2EFE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Secrets:
    """A format, and the sequences that fill it in.

    Attributes:
        example: The row of the test set that the format was taken from.
        window: [length + 1] int32, its tokens: an example's features and the last of its labels.
        start: Where in the window the random part begins, at least 1.
        tokens: int32, what the random part's tokens are drawn from, uniformly.
        planted: By the number of repetitions, the random parts, int32 [n, LENGTH].
    """

    example: int
    window: np.ndarray
    start: int
    tokens: np.ndarray
    planted: Mapping[int, np.ndarray]

    def record(self) -> dict:
        """Returns what identifies the secrets, fit for JSON."""
        return {
            "test_example": self.example,
            "start": self.start,
            "planted": {str(times): parts.tolist() for times, parts in self.planted.items()},
        }

    def windows(self, parts: np.ndarray) -> np.ndarray:
        """Returns the format with each of some random parts in it, int32 [n, length + 1].

        All but the last column are the features of examples, all but the first their labels.
        """
        filled = np.tile(self.window, (len(parts), 1))
        filled[:, self.start : self.start + LENGTH] = parts
        return filled

    def references(self, count: int, seed: int) -> np.ndarray:
        """Returns other random parts of the same distribution, int32 [count, LENGTH].

        Args:
            count: How many, at most REFERENCES.
            seed: Decides which.
        """
        taken = np.concatenate(list(self.planted.values()))
        return _draw(self.tokens, count, np.random.default_rng((seed, _REFERENCES_STREAM)), taken)


def draw(dataset: Dataset, count: int, seed: int) -> Secrets:
    """Draws secrets for a data set of text.

    The format and the tokens come from the test set, as what is planted must not depend on the
    training examples that a guarantee is about.

    Args:
        dataset: Text: int32 tokens, and at each position the next token as its label.
        count: How many secrets for each number of repetitions.
        seed: Decides the format and the secrets; public.

    Raises:
        UserError: if the data are not text, or there is no place for so many secrets.
    """
    for part in ("train", "test"):
        _check_text(dataset, part, count)
    size, rows = len(dataset.train_features), count * sum(REPETITIONS)
    if rows > size:
        raise UserError(
            f"--audit_secrets={count} would plant {rows} examples beside the {size} training "
            "examples, more than there are; plant fewer."
        )
    windows = np.concatenate([dataset.test_features, dataset.test_labels[:, -1:]], axis=1)
    generator = np.random.default_rng((seed, _SECRETS_STREAM))
    example, start = _format(dataset, windows, generator)
    tokens = np.setdiff1d(windows, [_PADDING]).astype(np.int32)
    # Twice as many as are drawn, so that drawing different ones ends soon.
    if len(tokens) ** LENGTH < 2 * (count * len(REPETITIONS) + REFERENCES):
        raise UserError(
            f"--audit_secrets={count} needs text of more different tokens than the {len(tokens)} "
            f"in the test examples of {dataset.name}; leave it out."
        )
    parts = _draw(tokens, count * len(REPETITIONS), generator)
    planted = dict(zip(REPETITIONS, np.split(parts, len(REPETITIONS)), strict=True))
    return Secrets(
        example=example, window=windows[example], start=start, tokens=tokens, planted=planted
    )


def plant(dataset: Dataset, secrets: Secrets) -> Dataset:
    """Returns the data set with each secret, as often as it is to be repeated, after the others.

    The natural clients are left out, as the secrets have none.
    """
    windows = np.concatenate(
        [np.repeat(secrets.windows(part), n, axis=0) for n, part in secrets.planted.items()]
    )
    return dataclasses.replace(
        dataset,
        train_features=np.concatenate([dataset.train_features, windows[:, :-1]]),
        train_labels=np.concatenate([dataset.train_labels, windows[:, 1:]]),
        train_clients=None,
    )


def _check_text(dataset, part, count):
    features, labels = getattr(dataset, f"{part}_features"), getattr(dataset, f"{part}_labels")
    if (
        dataset.task != CLASSIFICATION
        or features.dtype != np.int32
        or features.ndim != 2
        or labels.shape != features.shape
    ):
        raise UserError(
            f"--audit_secrets={count} needs text, int32 tokens with a label at each position, "
            f"which {dataset.name} is not; leave it out."
        )
    if not np.array_equal(labels[:, :-1], features[:, 1:]):
        raise UserError(
            f"--audit_secrets={count} needs text whose labels are the next tokens, which those of "
            f"{dataset.name} are not; leave it out."
        )


def _format(dataset, windows, generator):
    """Returns a random one of the longest examples, and where its middle begins."""
    is_token = windows != _PADDING
    width = windows.shape[1]
    first = np.argmax(is_token, axis=1)
    end = np.where(is_token.any(axis=1), width - np.argmax(is_token[:, ::-1], axis=1), 0)
    lengths = end - first
    if lengths.max() <= LENGTH:
        raise UserError(
            f"the test examples of {dataset.name} have {lengths.max()} tokens at most, too few for "
            f"a secret, which needs {LENGTH + 1}; leave --audit_secrets out."
        )
    example = int(generator.choice(np.flatnonzero(lengths == lengths.max())))
    middle = int(first[example] + (lengths[example] - LENGTH) // 2)
    return example, max(1, middle)


def _draw(tokens, count, generator, taken=()):
    """Returns different sequences of tokens, none of them among `taken`."""
    seen = {tuple(part) for part in np.asarray(taken).tolist()}
    sequences: list[np.ndarray] = []
    while len(sequences) < count:
        part = generator.choice(tokens, LENGTH)
        if tuple(part.tolist()) not in seen:
            seen.add(tuple(part.tolist()))
            sequences.append(part)
    return np.array(sequences, np.int32).reshape(count, LENGTH)
