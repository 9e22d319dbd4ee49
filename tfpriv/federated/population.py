"""The clients of a run and what each of them trains on in a round."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from tfpriv.datasets import Partition
from tfpriv.draws import Origin
from tfpriv.federated import batches, canaries
from tfpriv.federated.config import FederatedConfig
from tfpriv.federated.silos import Silos
from tfpriv.privacy import PoissonSampler, PrivacyPlan, Sampler

# Batches of one gradient over all of a client's examples bound memory, not the result.
_FULL_GRADIENT_BATCH = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Population:
    """Draws the clients of a round and their batches, as functions of the round.

    Attributes:
        config: A complete config.
        partition: Who has which examples.
        sampler: Who takes part.
        origin: What draws come from that privacy rests on: a secret key, or a number.
        plan: The privacy plan over clients, if they are the unit.
        silos: The privacy plans of the clients' own examples, if those are the unit.
        absent: The canaries that are left out of the rounds they are drawn for, as numbers from 0.
            Canaries come behind the partition's clients.
        in_order: Whether clients take their examples once and in order; see `Algorithm`.
    """

    config: FederatedConfig
    partition: Partition
    sampler: Sampler
    origin: Origin
    plan: PrivacyPlan | None = None
    silos: Silos | None = None
    absent: Sequence[int] = ()
    in_order: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to show the user on the privacy plan; of silos, on that of the largest."""
        if self.silos is not None:
            return self.silos.plans[max(self.silos.plans)].warnings
        return () if self.plan is None else self.plan.warnings

    def drawn(self, round_number: int, segment: int = 0) -> np.ndarray:
        """Returns the clients that a round draws, with the canaries that `absent` leaves out.

        Which silos take part is public, as each has an epsilon for the rounds that it took part in.
        """
        if self.plan is None:
            return self.sampler.sample(round_number, self.config.seed)
        return self.plan.participants(round_number, self.origin, segment)

    def cohort(self, round_number: int, segment: int = 0) -> np.ndarray:
        """Returns the clients of a round, ascending; under Poisson sampling maybe none.

        Args:
            round_number: The round, counted from 0.
            segment: How often the run was interrupted before; see `PrivacyPlan.participants`.
        """
        drawn = self.drawn(round_number, segment)
        if not len(self.absent):
            return drawn
        return np.setdiff1d(drawn, self.partition.num_clients + np.asarray(self.absent))

    def batches(self, client: int, round_number: int, segment: int = 0) -> np.ndarray:
        """Returns a client's batches in a round; see `tfpriv.federated.batches`."""
        if client >= self.partition.num_clients:
            return canaries.batches_of(client - self.partition.num_clients)
        rows = self.partition.client(client)
        config = self.config
        if self.in_order:
            return batches.in_order(rows, batch_size=_FULL_GRADIENT_BATCH)
        draw = {"round_number": round_number, "client": int(client)}
        if self.silos is not None:
            size = len(rows)
            sampler = self.silos.plans[size].sampler
            assert isinstance(sampler, PoissonSampler)
            return batches.poisson(
                rows,
                sampling_probability=sampler.sampling_probability,
                steps=self.silos.steps[size],
                segment=segment,
                seed=self.origin,
                **draw,
            )
        assert config.client_epochs is not None, "an algorithm with local training has epochs"
        return batches.epochs(
            rows,
            batch_size=config.batch_size,
            num_epochs=config.client_epochs,
            seed=config.seed,
            **draw,
        )

    def rounds_taken(self, spans: Iterable[tuple[int, int]]) -> np.ndarray:
        """Returns [num_clients] how many of the rounds in `spans` each client took part in."""
        taken = np.zeros(self.partition.num_clients, np.int64)
        for first, end in spans:
            for round_number in range(first, end):
                taken[self.cohort(round_number)] += 1
        return taken
