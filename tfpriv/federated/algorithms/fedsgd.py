"""FedSGD (McMahan et al. 2017, section 2): each client's full gradient, a step of the server."""

from tfpriv.federated import local_training
from tfpriv.federated.algorithms.base import Algorithm, ClientInput, ClientOutput, Setup


class FedSgd(Algorithm):
    """The gradient of the mean loss over all of a client's examples."""

    in_order = True

    def __init__(self, setup: Setup) -> None:
        """Takes the model."""
        self._model = setup.model

    def train(self, given: ClientInput) -> ClientOutput:
        """See `Algorithm.train`."""
        gradient, sums = local_training.full_gradient(
            self._model, given.start, given.frozen, given.batches
        )
        return ClientOutput(gradient, sums)


build = FedSgd
