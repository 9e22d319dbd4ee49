"""Training on shares, where nothing is opened before the end."""

import numpy as np
import tensorflow as tf

from tfpriv.secure import backpropagation, fixed_point, layers, objectives, optimizers
from tfpriv.secure.training_task import Task

_ANSWER_BATCH = 500


class SharedTraining:
    """Weights, gradients and the optimizer's state are shares; each batch is shared by its owner.

    Everything happens inside `protocols.running`.
    """

    def __init__(self, prot, task: Task, model: tf.keras.Model, config):
        """Shares the model's weights as they are, which are public.

        Args:
            prot: The protocol.
            task: The examples.
            model: A model as `layers.from_keras` takes it.
            config: A complete SecureTrainingConfig.
        """
        self._prot = prot
        self._task = task
        self._network = layers.from_keras(model)
        self._optimizer = optimizers.shared(config)
        # Without autograph, which would read tf-encrypted's source for control flow.
        self._train = tf.function(self._train_batch, autograph=False)
        self._answer = tf.function(self._answer_batch, autograph=False)
        share = tf.function(lambda x: fixed_point.share(prot, x).bone, autograph=False)
        initial = [tf.convert_to_tensor(weight) for weight in model.trainable_weights]
        self._weights = [share(weight) for weight in initial]
        self._slots = [
            [share(tf.zeros_like(weight)) for _ in range(self._optimizer.slots)]
            for weight in initial
        ]

    def step(self, rows: np.ndarray, number: int) -> None:
        """Trains on a batch of training examples; steps count from 1."""
        self._weights, self._slots = self._train(
            tf.constant(self._task.train_features[rows]),
            tf.constant(self._task.train_labels[rows]),
            tf.constant(number, tf.float64),
            self._weights,
            self._slots,
        )

    @property
    def graph(self):
        """The graph of a step, after the first."""
        return self._train._list_all_concrete_functions()[0].graph

    def weights(self) -> list[np.ndarray]:
        """Returns the weights, revealed to the client."""
        reveal = tf.function(
            lambda x: fixed_point.reveal(self._prot, self._prot.from_bone(x)), autograph=False
        )
        return [reveal(weight).numpy().astype(np.float32) for weight in self._weights]

    def answers(self, features: np.ndarray) -> np.ndarray:
        """Returns the outputs for examples, revealed to the client; the weights stay shares."""
        parts = []
        size = min(_ANSWER_BATCH, len(features))
        for start in range(0, len(features), size):
            batch = features[start : start + size]
            padded = np.pad(batch, [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1))
            outputs = self._answer(tf.constant(padded), self._weights)
            parts.append(outputs.numpy()[: len(batch)])
        return np.concatenate(parts)

    def _train_batch(self, features, labels, number, weights, slots):
        prot = self._prot
        weights = [prot.from_bone(weight) for weight in weights]
        own = backpropagation.by_layer(self._network, weights)
        x, y = fixed_point.share(prot, features), fixed_point.share(prot, labels)
        outputs, caches = backpropagation.forward(prot, self._network, own, x)
        d_y = objectives.gradient(prot, self._task.objective, outputs, y)
        gradients = backpropagation.gradients(prot, self._network, own, caches, d_y)
        new_weights, new_slots = [], []
        for weight, bones, gradient in zip(weights, slots, gradients, strict=True):
            read = [prot.from_bone(bone) for bone in bones]
            with tf.name_scope("optimizer"):
                weight, changed = self._optimizer.apply(prot, weight, read, gradient, number)
            new_weights.append(weight.bone)
            new_slots.append([slot.bone for slot in changed])
        return new_weights, new_slots

    def _answer_batch(self, features, weights):
        prot = self._prot
        own = backpropagation.by_layer(self._network, [prot.from_bone(w) for w in weights])
        x = fixed_point.share(prot, features)
        outputs, _ = backpropagation.forward(prot, self._network, own, x)
        return fixed_point.reveal(prot, outputs)
