"""Privacy of each example inside its client: one privacy plan a silo."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfpriv.errors import UserError
from tfpriv.federated.config import FederatedConfig
from tfpriv.privacy import Gaussian, PoissonSampler, PrivacyPlan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Silos:
    """The plans of clients that each run DP-SGD on their own examples.

    Silos of one size have one plan. Each counts the rounds that it took part in.

    Attributes:
        sizes: [num_clients] the number of examples of each.
        plans: By size, the plan of a silo.
        steps: By size, the number of local steps in a round.
    """

    sizes: np.ndarray
    plans: dict[int, PrivacyPlan]
    steps: dict[int, int]

    def worst(self, rounds_taken: Sequence[int] | np.ndarray) -> tuple[PrivacyPlan, list[int], int]:
        """Returns plan, segments and index of the silo with the largest epsilon.

        Args:
            rounds_taken: [num_clients] the rounds that each silo took part in.
        """
        most: dict[int, tuple[int, int]] = {}
        for client, (size, taken) in enumerate(zip(self.sizes, rounds_taken, strict=True)):
            if taken > most.get(int(size), (-1, 0))[0]:
                most[int(size)] = (int(taken), client)

        def spent(size):
            taken, _ = most[size]
            if not self.plans[size].is_private:
                return 0.0
            return self.plans[size].epsilon([taken * self.steps[size]]).value

        size = max(most, key=spent)
        taken, client = most[size]
        return self.plans[size], [taken * self.steps[size]], client


def build_silos(config: FederatedConfig, sizes: np.ndarray) -> Silos:
    """Returns the plans of all silos, with one noise multiplier that is enough for each.

    With a target epsilon the noise is calibrated for a silo that takes part in every round, and
    for the size that spends most.

    Args:
        config: A complete config with privacy unit example.
        sizes: [num_clients] the number of examples of each client.

    Raises:
        UserError: if a client has no examples.
    """
    if not sizes.min():
        raise UserError(
            f"client {int(sizes.argmin())} has no examples to protect; use fewer --num_clients or "
            "another --partition with --privacy_unit=example."
        )
    assert config.clip_norm and config.client_epochs, "the config is complete"
    mechanism = Gaussian(clip_norm=config.clip_norm, noise_multiplier=config.noise_multiplier)
    plans, steps = {}, {}
    for size in map(int, np.unique(sizes)):
        plans[size] = PrivacyPlan(
            unit="example",
            sampler=PoissonSampler(population=size, expected_size=min(config.batch_size, size)),
            mechanism=mechanism,
            delta=config.delta,
        )
        steps[size] = config.client_epochs * -(-size // config.batch_size)
    if config.target_epsilon is not None:
        noise_multiplier = max(
            plan.calibrate(config.target_epsilon, config.rounds * steps[size]).noise_multiplier
            for size, plan in plans.items()
        )
        mechanism = dataclasses.replace(mechanism, noise_multiplier=noise_multiplier)
        plans = {
            size: dataclasses.replace(plan, mechanism=mechanism) for size, plan in plans.items()
        }
    return Silos(sizes=sizes, plans=plans, steps=steps)
