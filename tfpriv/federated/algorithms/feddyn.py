"""FedDyn (Acar et al. 2021, Algorithm 1): a regularizer that follows each client's gradient."""

from tfpriv.federated.algorithms.base import Algorithm, ClientOutput, Setup


class FedDyn(Algorithm):
    """Local steps on L_k(w) - <g_k, w> + alpha/2 ||w - w_0||^2, with g_k kept by the client."""

    def __init__(self, setup: Setup, dynamic_strength: float):
        """Takes what clients train with, and alpha, above 0."""
        self._setup = setup
        self._strength = dynamic_strength

    def server_state(self):
        """Returns the first h, zeros."""
        return self._setup.model.zeros()

    def client_state(self):
        """Returns the first g_k, zeros."""
        return self._setup.model.zeros()

    def train(self, start, frozen, batches, rate_factor, server, client):
        """See `Algorithm.train`."""
        strength = self._strength

        def corrected(gradient, weights):
            return tuple(
                g - mine + strength * (w - w0)
                for g, mine, w, w0 in zip(gradient, client, weights, start, strict=True)
            )

        update, sums = self._setup.local_steps(start, frozen, batches, rate_factor, corrected)
        following = tuple(mine + strength * u for mine, u in zip(client, update, strict=True))
        return ClientOutput(update, sums, state=following)

    def server_step(self, state, update, sent):
        """Moves h by the mean update, for those who took part, and corrects the mean by h."""
        factor = self._strength * self._setup.participation
        state = tuple(h + factor * u for h, u in zip(state, update, strict=True))
        return state, tuple(u + h / self._strength for u, h in zip(update, state, strict=True))


build = FedDyn
