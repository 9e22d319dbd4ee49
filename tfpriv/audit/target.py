"""The run under audit: its model, its members and others, and what it claims."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tfpriv import datasets, models, runs, user_code
from tfpriv.audit.claims import Claim
from tfpriv.audit.config import FEWEST_EXAMPLES
from tfpriv.errors import UserError

_BATCH = 1000
_SHARES_STREAM = 0x7A26


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """Examples as the model reads them.

    Attributes:
        features: [n, ...].
        labels: [n] or [n, length].
    """

    features: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, rows) -> "Examples":
        return Examples(features=self.features[rows], labels=self.labels[rows])


class Target:
    """A finished run, opened to be attacked.

    Attributes:
        run: Its directory.
        flags: Its flags.
        dataset: Its data set, with its features, whole.
        recorded: What members.json holds.
    """

    def __init__(self, path: str, data_dir: str | None = None, *, trust_code: bool = False) -> None:
        """Opens a run.

        Args:
            path: The run directory.
            data_dir: The folder of the data; by default the run's.
            trust_code: Whether code may run that only the run's config.json names.

        Raises:
            UserError: if there is no such run, it has not ended, it was altered, it is not of a
                training program, the data are not what it was trained on, or it names code that
                is not trusted.
        """
        self.run = runs.RunDirectory.open(path)
        config = self.run.config
        self.program = config["program"]
        if self.program not in ("central", "federated"):
            raise UserError(
                f"{self.run.path} is a run of the program {self.program}, which trains no model; "
                "give a run of central or federated."
            )
        self.recorded = runs.seal.read_members(self.run)
        runs.seal.check(self.run)
        self.flags = config["flags"]
        self._trusts_code = trust_code
        self.allow_code(self.flags["dataset"])
        folder = data_dir or self.flags["data_dir"]
        dataset = datasets.load(self.flags["dataset"], folder, scaling=self.flags["scaling"])
        if not runs.seal.is_data(self.run, self.recorded, datasets.rows.fingerprint(dataset)):
            raise UserError(
                f"the data set {self.flags['dataset']} is not what {self.run.path} was trained on; "
                "restore the data, or train again."
            )
        features = datasets.features.read_by_model(self.flags)
        self.dataset = datasets.with_features(dataset, features, folder)

    @property
    def _privacy(self):
        privacy = self.run.privacy
        assert privacy is not None, "a sealed run has a privacy statement"
        return privacy

    @property
    def epsilon(self) -> float | None:
        """The epsilon that the run accounts for; None if it claims no privacy."""
        return self._privacy["epsilon"]

    @property
    def delta(self) -> float:
        """The delta of the claim; 0 without one."""
        # A run that clips without noise names a delta and claims nothing.
        return 0.0 if self.epsilon is None else self._privacy.get("delta") or 0.0

    @functools.cached_property
    def claim(self) -> Claim | None:
        """What the run accounts for, to be held against an attack; None if it claims no privacy.

        Raises:
            UserError: if its statement cannot be read.
        """
        try:
            return Claim.of(self._privacy)
        except ValueError as error:
            raise UserError(
                f"the privacy statement of {self.run.path} is damaged: {error}"
            ) from error

    @property
    def is_random(self) -> bool:
        """Whether a draw decided which examples of the training set took part."""
        return self.flags.get("train_fraction", 1.0) < 1

    @functools.cached_property
    def model(self) -> tf.keras.Model:
        """The trained model.

        Raises:
            UserError: if it is damaged, or names or holds code that is not trusted.
        """
        name = self.flags["model"]
        if user_code.is_user_code(name) and models.foreign_modules(self.run.model_path):
            self.allow_code(name)
            user_code.load_function(name, "--model")
        return models.load(self.run.model_path)

    def allow_code(self, name: str) -> None:
        """Refuses code that only config.json names by a UserError, unless it is trusted."""
        if user_code.is_user_code(name):
            where = f"config.json of {self.run.path}"
            user_code.allow(name, is_trusted=self._trusts_code, where=where)

    @functools.cached_property
    def objective(self) -> models.Objective:
        """What the model's outputs mean."""
        dataset = self.dataset
        info = models.inspect(
            self.model,
            dataset.element_shape,
            dataset.num_classes,
            task=dataset.task,
            input_dtype=dataset.train_features.dtype.name,
            label_shape=dataset.train_labels.shape[1:],
        )
        return models.Objective(task=dataset.task, from_logits=info.from_logits)

    @functools.cached_property
    def member_rows(self) -> np.ndarray:
        """Rows of the training set that took part for certain: without canaries, ascending."""
        return np.delete(self._taken, np.array(self.recorded.get("canaries", ()), np.int64))

    def with_canaries(self) -> datasets.Dataset:
        """Returns the training set that the run drew from, its canaries in place.

        Raises:
            UserError: if its canaries are not those that its seed plants.
        """
        planted, rows = datasets.canaries.plant(
            datasets.rows.take_rows(self.dataset, self._taken),
            self.flags["audit_canaries"],
            self.flags["audit_canary_kind"],
            self.flags["seed"],
        )
        if rows.tolist() != self.recorded["canaries"]:
            raise UserError(f"{self.run.path} was altered: its canaries are not its seed's.")
        return planted

    @functools.cached_property
    def _taken(self):
        taken = None
        if self.is_random and "coins_sha256" in self.recorded:
            taken = runs.coins.read_taken(self.run.path, self.recorded["coins_sha256"])
        if taken is not None:
            return np.flatnonzero(taken)
        # Without privacy the seed decided it.
        fraction = self.flags.get("train_fraction", 1.0)
        return datasets.rows.subset_rows(
            len(self.dataset.train_labels), fraction, self.flags["seed"]
        )

    def split(
        self, most: int, seed: int, fewest: int = FEWEST_EXAMPLES
    ) -> tuple[Examples, Examples, Examples]:
        """Returns members under attack, as many non-members, and the members not under attack.

        Non-members are training examples that a draw left out, or else test examples.

        Args:
            most: The largest number of each of the first two.
            seed: Decides which.
            fewest: The least number of each.

        Raises:
            UserError: if there are fewer members or non-members.
        """
        dataset = self.dataset
        whole = Examples(features=dataset.train_features, labels=dataset.train_labels)
        non_members = Examples(features=dataset.test_features, labels=dataset.test_labels)
        if self.is_random:
            non_members = whole[np.delete(np.arange(len(whole)), self._taken)]
        count = min(most, len(self.member_rows), len(non_members))
        if count < fewest:
            remedy = (
                "train with another --train_fraction"
                if self.is_random
                else "train on a data set with more examples"
            )
            raise UserError(
                f"{self.run.path} has {len(self.member_rows)} members to attack and "
                f"{len(non_members)} non-members, and the attack needs at least {fewest} of each; "
                f"{remedy}."
            )
        generator = np.random.default_rng((seed, _SHARES_STREAM))
        chosen = np.sort(generator.choice(self.member_rows, count, replace=False))
        outside = np.sort(generator.choice(len(non_members), count, replace=False))
        return whole[chosen], non_members[outside], whole[np.setdiff1d(self.member_rows, chosen)]

    def outputs(self, examples: Examples) -> np.ndarray:
        """Returns the model's outputs for examples, [n, ...] float32."""
        return outputs(self.model, examples.features)

    def losses(self, examples: Examples) -> np.ndarray:
        """Returns the loss of each example, [n] float64."""
        return losses(self.model, self.objective, examples)


def outputs(model: tf.keras.Model, features: np.ndarray) -> np.ndarray:
    """Returns a model's outputs, batch by batch."""
    call = tf.function(functools.partial(model, training=False), reduce_retracing=True)
    return np.concatenate(
        [
            call(tf.constant(features[i : i + _BATCH])).numpy()
            for i in range(0, len(features), _BATCH)
        ]
    )


def losses(model: tf.keras.Model, objective: models.Objective, examples: Examples) -> np.ndarray:
    """Returns the loss of each example, [n] float64."""
    answers = outputs(model, examples.features)
    return np.concatenate(
        [
            objective.loss(examples.labels[i : i + _BATCH], answers[i : i + _BATCH]).numpy()
            for i in range(0, len(examples), _BATCH)
        ]
    ).astype(np.float64)


def log_odds(objective: models.Objective, labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Returns log(p / (1 - p)) of the right class, [n] float64; for text the mean over positions.

    Carlini et al. 2022 (arXiv 2112.03570), section IV-C, whose distribution over models is close to
    a normal one. Computed from logits without the cancellation in 1 - p.
    """
    logits = np.asarray(objective.of_classes(answers), np.float64)
    if not objective.from_logits:
        logits = np.log(np.maximum(logits, 1e-30))
    flat = logits.reshape(-1, logits.shape[-1])
    right = labels.reshape(-1).astype(np.int64)
    rows = np.arange(len(flat))
    label_logs = flat[rows, right]
    flat = flat.copy()
    flat[rows, right] = -np.inf
    top = flat.max(axis=1)
    rest = top + np.log(np.exp(flat - top[:, None]).sum(axis=1))
    return (label_logs - rest).reshape(len(labels), -1).mean(axis=1)
