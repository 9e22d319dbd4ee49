"""Mime-lite (Karimireddy et al. 2021, Algorithm 1): clients step with the server's momentum."""

from typing import Any

from tfpriv.federated import local_training
from tfpriv.federated.algorithms.base import Algorithm, ClientInput, ClientOutput, Setup
from tfpriv.federated.local_model import Weights


class MimeLite(Algorithm):
    """The base optimizer's state is the server's.

    Clients step with it and leave it as it is; the server moves it on by the mean of the clients'
    full gradients at the round's weights.
    """

    def __init__(self, setup: Setup) -> None:
        """Takes the model and the base optimizer."""
        self._model = setup.model
        self._optimizer = setup.local_optimizer

    def server_state(self) -> Any:
        """Returns the base optimizer's first state."""
        return local_training.initial_optimizer_state(self._optimizer, self._zeros())

    def train(self, given: ClientInput) -> ClientOutput:
        """See `Algorithm.train`."""
        state = local_training.at_rate(given.server, given.rate_factor)

        def step(weights, unused, batch):
            gradient, sums = self._model.gradient(weights, given.frozen, *self._model.read(batch))
            _, weights = self._optimizer.next(state, weights, gradient)
            return weights, unused, sums

        end, sums = local_training.loop(step, given.start, (), given.batches)
        # Epochs repeat the examples alike, so the mean over all of them is that over one.
        gradient, _ = local_training.full_gradient(
            self._model, given.start, given.frozen, given.batches
        )
        return ClientOutput(local_training.difference(given.start, end), sums, sent=gradient)

    def server_step(self, state: Any, update: Weights, sent: Weights) -> tuple[Any, Weights]:
        """Moves the optimizer's state on by the mean gradient."""
        state, _ = self._optimizer.next(state, self._zeros(), tuple(sent))
        return state, update

    def _zeros(self):
        return self._model.zeros()


build = MimeLite
