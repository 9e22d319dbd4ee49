"""What a secure run trains: the examples as numbers, the network, and how answers are judged."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfpriv import datasets, models
from tfpriv.errors import UserError
from tfpriv.secure.training import backpropagation, networks, objectives
from tfpriv.secure.training.config import SecureTrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Examples and labels as a network on shares takes them.

    Attributes:
        train_features: [n, ...] float32.
        train_labels: [n, outputs] float32: one-hot rows, 0 or 1, or numbers.
        test_features: [m, ...] float32.
        test_labels: [m, outputs] float32.
        objective: One of the constants of `objectives`.
        label_scale: What one unit of a regression label is worth.
    """

    train_features: np.ndarray
    train_labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray
    objective: str
    label_scale: float = 1.0

    @property
    def classifies(self) -> bool:
        """Whether answers are right or wrong."""
        return self.objective != objectives.SQUARED

    def decisions(self, outputs: np.ndarray) -> np.ndarray:
        """Returns the class that each row of outputs, or of labels less a half, stands for."""
        if self.objective == objectives.SIGMOID:
            return (outputs[:, 0] > 0).astype(np.int64)
        return np.argmax(outputs, axis=1)

    def judge(self, outputs: np.ndarray) -> float:
        """Returns the accuracy on the test set in [0, 1], or the RMSE in the label's own unit."""
        if not self.classifies:
            errors = outputs - self.test_labels
            return float(np.sqrt(np.mean(np.square(errors)))) * self.label_scale
        right = self.decisions(self.test_labels - 0.5)
        return float(np.mean(self.decisions(outputs) == right))


def build(config: SecureTrainingConfig, dataset: datasets.Dataset) -> tuple[Task, tf.keras.Model]:
    """Returns the task and the model with its initial weights.

    Args:
        config: A complete SecureTrainingConfig.
        dataset: What to train on.

    Raises:
        UserError: if the model cannot be trained on shares, or not on such data.
    """
    if dataset.train_features.dtype != np.float32 or dataset.train_labels.ndim != 1:
        raise UserError(
            f"--dataset={config.dataset} is text, and secure training takes numbers with one label "
            "an example; choose mnist, fashion_mnist, digits, breast_cancer, diabetes, adult or "
            "location30."
        )
    if config.batch_size > len(dataset.train_features):
        raise UserError(
            f"--batch_size={config.batch_size} is more than the {len(dataset.train_features)} "
            "training examples; choose a smaller one."
        )
    encode, objective, num_outputs = _labels(config, dataset)
    task = Task(
        train_features=dataset.train_features,
        train_labels=encode(dataset.train_labels),
        test_features=dataset.test_features,
        test_labels=encode(dataset.test_labels),
        objective=objective,
        label_scale=dataset.label_scale,
    )
    if config.network:
        model = networks.build(config.network, dataset.element_shape, num_outputs, config.seed)
    else:
        assert isinstance(config.model, str), "the config is complete"
        arguments = (dataset.element_shape, dataset.num_classes)
        model = models.build(config.model, *arguments, task=dataset.task, seed=config.seed)
        info = models.inspect(model, *arguments, task=dataset.task)
        if not info.from_logits:
            raise UserError(
                f"--model={config.model} ends in probabilities; secure training takes logits, "
                "leave the softmax out."
            )
    # Refuses what has no form on shares before anything is shared.
    backpropagation.network_of(model)
    if objective == objectives.SOFTMAX and model.output_shape[-1] == 1:
        # Two classes by one logit.
        task = dataclasses.replace(
            task,
            objective=objectives.SIGMOID,
            train_labels=task.train_labels[:, 1:],
            test_labels=task.test_labels[:, 1:],
        )
    return task, model


def refuse_out_of_range(
    task: Task, model: tf.keras.Model, bound: float, *, is_private: bool
) -> None:
    """Refuses numbers that fixed point cannot hold, before anything is shared.

    Args:
        task: The examples.
        model: The initial weights.
        bound: What every number must stay below in magnitude (see `fixed_point.largest_value`).
        is_private: Whether training examples are protected. Then the client cuts off what is out of
            range (see `PrivateTraining`), and no refusal may tell that an example is there.

    Raises:
        UserError: if a number is not finite or too large; the message names the example.
    """
    names = ["test_features", "test_labels"]
    if not is_private:
        names = ["train_features", "train_labels", *names]
    for name in names:
        array = getattr(task, name)
        good = np.abs(array) < bound  # False for NaN, too.
        if not good.all():
            example = int(np.argmin(good.reshape(len(good), -1).all(axis=1)))
            raise UserError(
                f"{name} of example {example} hold {array[~good][0]}, and numbers on shares must "
                f"be below {bound:g} in magnitude; scale the data, for example to [0, 1]."
            )
    refuse_large_weights([weight.numpy() for weight in model.trainable_weights], bound, "initial")


def refuse_large_weights(weights: list[np.ndarray], bound: float, which: str) -> None:
    """Refuses weights that fixed point cannot hold: training has diverged."""
    for weight in weights:
        if not np.all(np.abs(weight) < bound):
            raise UserError(
                f"the {which} weights are not below {bound:g} in magnitude, beyond which numbers "
                "on shares overflow; lower --learning_rate."
            )


def _labels(config, dataset):
    if dataset.task == datasets.REGRESSION:
        if config.network:
            raise UserError(
                f"--network={config.network} classifies, and --dataset={config.dataset} is a "
                "regression; choose --model=mlp or a model of your own."
            )
        return lambda labels: labels[:, None].astype(np.float32), objectives.SQUARED, 1
    classes = dataset.num_classes
    if config.network == "logistic":
        # tf-encrypted's benchmark has digits 0 to 4 against 5 to 9.
        return (
            lambda labels: (labels[:, None] >= classes // 2).astype(np.float32),
            objectives.SIGMOID,
            1,
        )
    return lambda labels: np.eye(classes, dtype=np.float32)[labels], objectives.SOFTMAX, classes
