"""Training on shares, where nothing is opened before the end."""

import numpy as np
import tensorflow as tf

from tfpriv.secure.protocols import fixed_point
from tfpriv.secure.protocols.protocol import Protocol
from tfpriv.secure.training import backpropagation, objectives, optimizers, overflow
from tfpriv.secure.training.config import SecureTrainingConfig
from tfpriv.secure.training.task import Task

_ANSWER_BATCH = 500


class SharedTraining:
    """Weights, gradients and the optimizer's state are shares; each batch is shared by its owner.

    Everything happens inside `protocols.running`.
    """

    def __init__(
        self, prot: Protocol, task: Task, model: tf.keras.Model, config: SecureTrainingConfig
    ) -> None:
        """Shares the model's weights as they are, which are public.

        Args:
            prot: The protocol.
            task: The examples.
            model: A model as `backpropagation.network_of` takes it.
            config: A complete SecureTrainingConfig.
        """
        self._prot = prot
        self._task = task
        self._network = backpropagation.network_of(model)
        self._optimizer = optimizers.shared(config)
        # Without autograph, which would read tf-encrypted's source for control flow.
        self._train = tf.function(self._train_batch, autograph=False)
        self._train_checked = tf.function(self._train_and_check, autograph=False)
        self._answer = tf.function(self._answer_batch, autograph=False)
        self._checks: dict[str, overflow.Check] = {}
        share = tf.function(lambda x: fixed_point.share(prot, x).bone, autograph=False)
        initial = [tf.convert_to_tensor(weight) for weight in model.trainable_weights]
        self._weights = [share(weight) for weight in initial]
        self._slots = [
            [share(tf.zeros_like(weight)) for _ in range(self._optimizer.slots)]
            for weight in initial
        ]

    def step(self, rows: np.ndarray, number: int, *, check: bool = False) -> None:
        """Trains on a batch of training examples; steps count from 1.

        Args:
            rows: Which examples.
            number: The step.
            check: Whether to look on shares, by one bit a layer and kind of number, if all that is
                summed keeps the bounds within which nothing overflows.

        Raises:
            UserError: Something does not; the layer is named.
        """
        batch = (
            tf.constant(self._task.train_features[rows]),
            tf.constant(self._task.train_labels[rows]),
            tf.constant(number, tf.float64),
            self._weights,
            self._slots,
        )
        if not check:
            self._weights, self._slots = self._train(*batch)
            return
        self._weights, self._slots, bits = self._train_checked(*batch)
        self._checks["training"].refuse(bits, f"at step {number}")

    @property
    def graph(self) -> tf.Graph:
        """The graph of a step, after the first."""
        traced = self._train._list_all_concrete_functions()
        return (traced or self._train_checked._list_all_concrete_functions())[0].graph

    def weights(self) -> list[np.ndarray]:
        """Returns the weights, revealed to the client."""
        reveal = tf.function(
            lambda x: fixed_point.reveal(self._prot, self._prot.from_bone(x)), autograph=False
        )
        return [reveal(weight).numpy().astype(np.float32) for weight in self._weights]

    def answers(self, features: np.ndarray) -> np.ndarray:
        """Returns the outputs for examples, revealed to the client; the weights stay shares.

        Raises:
            UserError: What a layer gives overflows; it is named.
        """
        parts = []
        size = min(_ANSWER_BATCH, len(features))
        for start in range(0, len(features), size):
            batch = features[start : start + size]
            padded = np.pad(batch, [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1))
            outputs, bits = self._answer(tf.constant(padded), self._weights)
            self._checks["answers"].refuse(bits, "in the evaluation")
            parts.append(outputs.numpy()[: len(batch)])
        return np.concatenate(parts)

    def _train_batch(self, features, labels, number, weights, slots, check=None):
        prot = self._prot
        weights = [prot.from_bone(weight) for weight in weights]
        weights_of_layers = backpropagation.by_layer(self._network, weights)
        x, y = fixed_point.share(prot, features), fixed_point.share(prot, labels)
        outputs, caches = backpropagation.forward(prot, self._network, weights_of_layers, x, check)
        d_y = objectives.gradient(prot, self._task.objective, outputs, y)
        gradients = backpropagation.gradients(
            prot, self._network, weights_of_layers, caches, d_y, check
        )
        owners = [i for i, layer in enumerate(self._network) for _ in range(layer.num_weights)]
        new_weights, new_slots = [], []
        for layer, weight, bones, gradient in zip(owners, weights, slots, gradients, strict=True):
            read = [prot.from_bone(bone) for bone in bones]
            with tf.name_scope("optimizer"):
                weight, changed = self._optimizer.apply(prot, weight, read, gradient, number)
            if check:
                check.state(layer, changed[0], self._optimizer.largest_slot)
                if len(weight.shape) > 1:
                    check.weights(layer, weight)
            new_weights.append(weight.bone)
            new_slots.append([slot.bone for slot in changed])
        return new_weights, new_slots

    def _train_and_check(self, features, labels, number, weights, slots):
        self._checks["training"] = check = overflow.Check(self._prot, self._network)
        new_weights, new_slots = self._train_batch(features, labels, number, weights, slots, check)
        return new_weights, new_slots, check.bits

    def _answer_batch(self, features, weights):
        prot = self._prot
        self._checks["answers"] = check = overflow.Check(prot, self._network)
        weights_of_layers = backpropagation.by_layer(
            self._network, [prot.from_bone(w) for w in weights]
        )
        x = fixed_point.share(prot, features)
        outputs, _ = backpropagation.forward(prot, self._network, weights_of_layers, x, check)
        return fixed_point.reveal(prot, outputs), check.bits
