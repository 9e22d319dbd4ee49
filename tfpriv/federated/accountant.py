"""What a run has spent so far, for both privacy units, from the rounds that really ran."""

import pathlib
from collections.abc import Sequence
from typing import Any

from tfpriv.federated.config import FederatedConfig
from tfpriv.federated.population import Population
from tfpriv.privacy import Ledger, PrivacyPlan, statement


class Accountant:
    """Counts rounds in a file, and turns them into epsilon and the privacy statement."""

    def __init__(
        self, path: pathlib.Path, plan: PrivacyPlan | None, population: Population
    ) -> None:
        """Reads the rounds of an interrupted run from `path`, if it is there.

        Args:
            path: The ledger's file.
            plan: The plan over clients, or None.
            population: The clients, with silos if examples are the unit.

        Raises:
            UserError: if the file is damaged: epsilon would be a guess.
        """
        self._path = path
        self._plan = plan
        self._population = population
        self._ledger = Ledger.read(path)

    @property
    def segment(self) -> int:
        """How often the run was interrupted before, with rounds to show for it."""
        return self._ledger.segment

    @property
    def rounds(self) -> int:
        """How many rounds ran so far, repeated ones counted each time."""
        return self._ledger.steps

    def refuse_gap(self, done: int) -> None:
        """Raises UserError if not all of the `done` rounds of a checkpoint are recorded."""
        self._ledger.refuse_gap(done, self._path)

    def record(self, round_number: int) -> None:
        """Counts a round, on disk, before it is drawn."""
        self._ledger.record(round_number)
        self._ledger.write(self._path)

    def spent(self) -> dict[str, float]:
        """Returns `epsilon` and `epsilon_rdp` so far; empty for a run that is not private."""
        plan, segments, _ = self._worst(self._ledger.spans)
        if plan is None or not plan.is_private:
            return {}
        epsilon = plan.epsilon(segments)
        return {"epsilon": epsilon.value, "epsilon_rdp": epsilon.rdp}

    def statement(
        self,
        config: FederatedConfig,
        preparation: Sequence[str] = (),
        *,
        stopped_early_after: int | None = None,
    ) -> tuple[dict, str]:
        """Returns the privacy statement of the run, as JSON values and as text.

        Args:
            config: A complete config.
            preparation: How the data were prepared, as `Dataset.preparation` says.
            stopped_early_after: The round after which a result of the rounds ended the run; None
                if it did not. The statement is then on all rounds that were planned.
        """
        spans = self._ledger.spans
        if stopped_early_after is not None:
            *before, (first, _) = spans
            spans = [*before, [first, config.rounds]]
        plan, segments, client = self._worst(spans)
        if plan is None:
            values: dict[str, Any] = {
                "private": False,
                "epsilon": None,
                "rounds": self._ledger.steps,
            }
            return values, statement.not_private_text("client")
        not_covered = [
            *preparation,
            statement.TRAIN_METRICS if config.release_train_metrics else "",
            statement.PARTITION if config.plot_partition else "",
        ]
        if client is None:
            covered = "the models of all rounds"
            repeated = self._ledger.repeated_steps
        else:
            covered = "the updates that its silo sends, and all that is made of them"
            not_covered.append("how many examples each silo has")
            repeated = 0
        values = statement.describe(
            plan,
            segments,
            covered=covered,
            not_covered=not_covered,
            repeated_steps=repeated,
            insecure_sampling_seed=config.insecure_sampling_seed,
            stopped_early_after=stopped_early_after,
        )
        values["notes"] = list(self._population.warnings)
        values["rounds"] = self._ledger.steps
        if client is not None:
            values["silo"] = client
        return values, statement.as_text(plan, values)

    def _worst(self, spans):
        """Returns the plan that has spent most, its segments, and its silo (None for clients)."""
        silos = self._population.silos
        if silos is not None:
            return silos.worst(self._population.rounds_taken(spans))
        if self._plan is None:
            return None, [], None
        return self._plan, Ledger(spans).segments(self._plan.steps_per_pass), None
