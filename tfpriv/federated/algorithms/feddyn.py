"""FedDyn (Acar et al. 2021, Algorithm 1): a regularizer that follows each client's gradient."""

from typing import Any

from tfpriv.federated.algorithms.base import Algorithm, ClientInput, ClientOutput, Setup
from tfpriv.federated.local_model import Weights


class FedDyn(Algorithm):
    """Local steps on L_k(w) - <g_k, w> + alpha/2 ||w - w_0||^2, with g_k kept by the client."""

    def __init__(self, setup: Setup, dynamic_strength: float) -> None:
        """Takes what clients train with, and alpha, above 0."""
        self._setup = setup
        self._strength = dynamic_strength

    def server_state(self) -> Weights:
        """Returns the first h, zeros."""
        return self._setup.model.zeros()

    def client_state(self) -> Weights:
        """Returns the first g_k, zeros."""
        return self._setup.model.zeros()

    def train(self, given: ClientInput) -> ClientOutput:
        """See `Algorithm.train`."""
        strength = self._strength

        def corrected(gradient, weights):
            return tuple(
                g - client_gradient + strength * (w - w0)
                for g, client_gradient, w, w0 in zip(
                    gradient, given.client, weights, given.start, strict=True
                )
            )

        update, sums = self._setup.local_steps(given, corrected)
        following = tuple(
            client_gradient + strength * u
            for client_gradient, u in zip(given.client, update, strict=True)
        )
        return ClientOutput(update, sums, state=following)

    def server_step(self, state: Weights, update: Weights, sent: Any) -> tuple[Weights, Weights]:
        """Moves h by the mean update, for those who took part, and corrects the mean by h."""
        factor = self._strength * self._setup.participation
        state = tuple(h + factor * u for h, u in zip(state, update, strict=True))
        return state, tuple(u + h / self._strength for u, h in zip(update, state, strict=True))


build = FedDyn
