"""SCAFFOLD (Karimireddy et al. 2020, Algorithm 1): control variates against client drift."""

import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.federated.algorithms.base import Algorithm, ClientInput, ClientOutput, Setup
from tfpriv.federated.local_model import Weights


class Scaffold(Algorithm):
    """Local steps by g - c_i + c, for control variates c_i of the client and c of the server.

    After its steps a client's control variate is the mean of the gradients that it stepped by
    before they were corrected (option II). A client that takes no step keeps its own.
    """

    def __init__(self, setup: Setup) -> None:
        """Takes what clients train with.

        Raises:
            UserError: if the client optimizer is not SGD, of which alone the steps tell gradients.
        """
        if setup.client_optimizer != "sgd":
            raise UserError(
                f"--client_optimizer={setup.client_optimizer} does not go with scaffold, which "
                "reads the mean gradient off a client's steps; use --client_optimizer=sgd."
            )
        self._setup = setup

    def server_state(self) -> Weights:
        """Returns the first c, zeros."""
        return self._setup.model.zeros()

    def client_state(self) -> Weights:
        """Returns the first c_i, zeros."""
        return self._setup.model.zeros()

    def train(self, given: ClientInput) -> ClientOutput:
        """See `Algorithm.train`."""

        def corrected(gradient, weights):
            return tuple(
                g - variate + server_variate
                for g, variate, server_variate in zip(
                    gradient, given.client, given.server, strict=True
                )
            )

        update, sums = self._setup.local_steps(given, corrected)
        count = tf.cast(tf.shape(given.batches)[0], tf.float32)
        taken = count * self._setup.learning_rate * given.rate_factor
        moved = tuple(
            tf.where(taken > 0, tf.math.divide_no_nan(u, taken) - server_variate, tf.zeros_like(u))
            for u, server_variate in zip(update, given.server, strict=True)
        )
        following = tuple(variate + m for variate, m in zip(given.client, moved, strict=True))
        return ClientOutput(update, sums, sent=moved, state=following)

    def server_step(
        self, state: Weights, update: Weights, sent: Weights
    ) -> tuple[Weights, Weights]:
        """Moves c by the mean of the clients' changes, for those who took part."""
        part = self._setup.participation
        return tuple(c + part * s for c, s in zip(state, sent, strict=True)), update


build = Scaffold
