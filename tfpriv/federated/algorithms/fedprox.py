"""FedProx (Li et al. 2020, Algorithm 2): local steps that are drawn back to the round's weights."""

from tfpriv.federated.algorithms.base import Algorithm, ClientInput, ClientOutput, Setup


class FedProx(Algorithm):
    """FedAvg with mu/2 times the squared distance from the round's weights in the loss."""

    def __init__(self, setup: Setup, proximal_strength: float) -> None:
        """Takes what clients train with, and mu (equation 2), at least 0."""
        self._setup = setup
        self._strength = proximal_strength

    def train(self, given: ClientInput) -> ClientOutput:
        """See `Algorithm.train`."""

        def corrected(gradient, weights):
            return tuple(
                g + self._strength * (w - w0)
                for g, w, w0 in zip(gradient, weights, given.start, strict=True)
            )

        return ClientOutput(*self._setup.local_steps(given, corrected))


build = FedProx
