"""FedAvg (McMahan et al. 2017, Algorithm 1): clients take local steps, the server their mean."""

from tfpriv.federated.algorithms.base import Algorithm, ClientInput, ClientOutput, Setup


class FedAvg(Algorithm):
    """Local steps from the round's weights."""

    def __init__(self, setup: Setup) -> None:
        """Takes what clients train with."""
        self._setup = setup

    def train(self, given: ClientInput) -> ClientOutput:
        """See `Algorithm.train`; ClientUpdate of the paper."""
        return ClientOutput(*self._setup.local_steps(given))


build = FedAvg
