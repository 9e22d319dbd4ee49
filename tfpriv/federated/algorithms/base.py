"""What a federated algorithm is: the work of a client, and what the server keeps beside the model.

A round goes thus. The server sends the model's weights and the algorithm's `server_state` to the
clients of the round; each runs `train`. The updates become one by the run's aggregator, and what
clients send beside them is averaged with the same weights. Then the server runs `server_step`, and
its optimizer applies the result as if it were a gradient.

Everything here is traced by TensorFlow once and runs in TFF's workers.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfpriv.federated import local_training
from tfpriv.federated.local_model import LocalModel, Sums, Weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What an algorithm is built from.

    Attributes:
        model: What clients train: its `gradient` and `read` are what `train` needs.
        optimizer: The client optimizer, at its first learning rate; None for an algorithm without
            local training.
        client_optimizer: Its name, as the config has it.
        learning_rate: That rate, which `rate_factor` of `train` multiplies.
        participation: The expected fraction of the clients in a round, in (0, 1].
    """

    model: LocalModel
    optimizer: tff.learning.optimizers.Optimizer | None
    client_optimizer: str | None
    learning_rate: float | None
    participation: float

    @property
    def local_optimizer(self) -> tff.learning.optimizers.Optimizer:
        """The client optimizer of a run that has one.

        Raises:
            ValueError: if it has none.
        """
        if self.optimizer is None:
            raise ValueError("an algorithm without local training has no client optimizer.")
        return self.optimizer

    def local_steps(
        self,
        given: "ClientInput",
        corrected: Callable[[Weights, Weights], Weights] | None = None,
    ) -> tuple[Weights, Sums]:
        """Takes a step on each batch with the client optimizer, which starts anew.

        Args:
            given: What the client was given.
            corrected: (gradient, weights) -> the gradient to step by; None for the gradient as it
                is.

        Returns:
            Start less end, and the sums of loss and right answers.
        """
        model, optimizer = self.model, self.local_optimizer

        def step(weights, state, batch):
            gradient, sums = model.gradient(weights, given.frozen, *model.read(batch))
            if corrected is not None:
                gradient = corrected(gradient, weights)
            state, weights = optimizer.next(state, weights, gradient)
            return weights, state, sums

        state = local_training.initial_optimizer_state(optimizer, given.start)
        state = local_training.at_rate(state, given.rate_factor)
        end, sums = local_training.loop(step, given.start, state, given.batches)
        return local_training.difference(given.start, end), sums


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientInput:
    """What a client is given in a round.

    Attributes:
        start: The trainable weights that the round starts from.
        frozen: The others.
        batches: [number of batches, width] int32, the numbers of examples, -1 for none; see
            `tfpriv.federated.local_training.loop`.
        rate_factor: What the client learning rate is multiplied by in this round.
        server: The server's state, a structure of tensors like `Algorithm.server_state`.
        client: The client's own state, a structure of tensors like `Algorithm.client_state`.
    """

    start: Weights
    frozen: Weights
    batches: tf.Tensor
    rate_factor: tf.Tensor
    server: Any
    client: Any


@dataclasses.dataclass(frozen=True)
class ClientOutput:
    """What a client returns from a round.

    Attributes:
        update: Tensors like the trainable weights; their mean is what the server takes for a
            gradient. Start less end, as a rule.
        sums: The sums of loss and right answers over the examples of the round; zeros if unknown.
        sent: A structure of float32 tensors whose mean goes to `server_step`; () for none.
        state: The client's next state, of the structure of `client_state`.
    """

    update: Weights
    sums: Sums
    sent: Any = ()
    state: Any = ()


class Algorithm(abc.ABC):
    """A federated algorithm.

    One that sends something beside its updates, or keeps a state for each client, is for runs
    without privacy: the noise covers updates alone.

    Attributes:
        in_order: Whether a client's batches are its examples once and in order, in large batches;
            else they are `client_epochs` shuffled passes in batches of `batch_size`.
    """

    in_order = False

    def server_state(self) -> Any:
        """Returns the first state of the server, a structure of tensors; () for none."""
        return ()

    def client_state(self) -> Any:
        """Returns the first state of each client, a structure of tensors; () for none."""
        return ()

    @property
    def has_client_states(self) -> bool:
        """Whether clients keep states of their own from round to round."""
        return bool(tf.nest.flatten(self.client_state()))

    @abc.abstractmethod
    def train(self, given: ClientInput) -> ClientOutput:
        """Returns what a client does in a round, from what it was given."""

    def server_step(self, state: Any, update: Weights, sent: Any) -> tuple[Any, Weights]:
        """Returns the server's next state, and what its optimizer takes for a gradient.

        A round in which nobody's update counts leaves the state as it is, and skips this step.

        Args:
            state: The server's state.
            update: The aggregate of the clients' updates.
            sent: The mean of what they sent beside them.
        """
        del sent
        return state, update
