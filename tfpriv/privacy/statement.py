"""The privacy statement: what an epsilon of a run means, for a person and for a program."""

import math
import textwrap
from collections.abc import Sequence

from tfpriv import rounding
from tfpriv.privacy.plan import PrivacyPlan

NOT_COVERED = (
    "the choice of hyper-parameters, if it looked at this data",
    "test metrics, which are computed on data outside the training set",
    "how long the run and its steps took, and how much memory they held",
    "the size of the population, which is taken as known",
)
SAMPLING_KEY = (
    "whoever has the sampling key, which decides who takes part; it is no part of the run directory"
)
PARTITION = "the picture of the partition, which shows exact numbers of examples and labels"
GRID_NOISE = (
    "The noise is a discrete Gaussian, in whole steps of a grid to which the sum is rounded first. "
    "It is proved that nothing of the sum below the grid is released, that epsilon pays for this "
    "rounding, and that each number of the noise is within a total variation distance of 2^-105 of "
    "its distribution. It is not proved that what float32 rounds before that, in gradients, norms "
    "and sums, moves a contribution by a negligible fraction of the clip only."
)
TRAIN_METRICS = "the training metrics, which were added up without noise"


def describe(
    plan: PrivacyPlan,
    segments: Sequence[int],
    *,
    covered: str,
    not_covered: Sequence[str] = (),
    noise: str = GRID_NOISE,
    repeated_steps: int = 0,
    insecure_sampling_seed: int | None = None,
    stopped_early_after: int | None = None,
) -> dict:
    """Returns the statement of a run as JSON values.

    Args:
        plan: The plan that ran.
        segments: The steps that ran, as `PrivacyPlan.event` takes them.
        covered: What the guarantee is about, in words; for example "the released model".
        not_covered: What this run adds to `NOT_COVERED`; empty texts are left out.
        noise: What is proved of the noise and what is not, in words.
        repeated_steps: How many of the steps were run again after an interruption.
        insecure_sampling_seed: The number that decided who took part, where it was given and no
            secret key was drawn.
        stopped_early_after: How many steps ran, where a result of theirs ended the run; `segments`
            then holds the steps that would have run, as epsilon is theirs.

    Returns:
        A dictionary with the keys private, unit, neighboring_relation, sampler, population,
        expected_size, mechanism, noise_multiplier, clip_norm, release_noise_multiplier, steps,
        repeated_steps, stopped_early_after, insecure_sampling_seed, delta, epsilon, accountant,
        epsilon_pld, epsilon_rdp, event, noise, covered, not_covered, notes. Epsilons and noise are
        None when the run is not private.
    """
    secret = SAMPLING_KEY if insecure_sampling_seed is None else ""
    statement = {
        "private": plan.is_private,
        "unit": plan.unit,
        "neighboring_relation": plan.neighboring_relation,
        "sampler": plan.sampler.name,
        "population": plan.sampler.population,
        "expected_size": plan.sampler.expected_size,
        "mechanism": plan.mechanism.name if plan.mechanism else "none",
        "noise_multiplier": plan.mechanism.noise_multiplier if plan.mechanism else None,
        "clip_norm": plan.mechanism.clip_norm if plan.mechanism else None,
        "release_noise_multiplier": plan.release_noise_multiplier,
        "steps": sum(segments),
        "repeated_steps": repeated_steps,
        "stopped_early_after": stopped_early_after,
        "insecure_sampling_seed": insecure_sampling_seed,
        "delta": plan.delta,
        "epsilon": None,
        "accountant": None,
        "epsilon_pld": None,
        "epsilon_rdp": None,
        "event": None,
        "noise": None,
        "covered": covered,
        "not_covered": [item for item in (*NOT_COVERED, secret, *not_covered) if item],
        "notes": list(plan.warnings),
    }
    if plan.is_private:
        epsilon = plan.epsilon(segments)
        statement.update(
            epsilon=epsilon.value,
            accountant=epsilon.accountant,
            epsilon_pld=epsilon.pld,
            epsilon_rdp=epsilon.rdp,
            event=repr(plan.event(segments)),
            noise=noise,
        )
    return statement


def notes_on_target(statement: dict, target_epsilon: float | None) -> tuple[str, ...]:
    """Returns a sentence for the user where a run has spent more than its target."""
    epsilon = statement["epsilon"]
    if target_epsilon is None or epsilon is None or epsilon <= target_epsilon:
        return ()
    return (
        f"epsilon is {rounding.up(epsilon)}, above --target_epsilon={target_epsilon:g}: the run "
        "was interrupted, and what was sampled anew after that counts as well.",
    )


def as_text(plan: PrivacyPlan, statement: dict) -> str:
    """Returns the statement as a page of text, at most 78 columns wide, for an indent of 2."""
    if not statement["private"]:
        return not_private_text(statement["unit"])
    assert plan.mechanism is not None, "a private plan has a mechanism"
    unit, epsilon = statement["unit"], rounding.up(statement["epsilon"])
    lines = [
        f"({epsilon}, {statement['delta']:g})-differential privacy for one {unit}, "
        f"by {statement['accountant']}" + _other_accountant(statement),
        f"It says: take two populations that differ in one {unit} "
        f"({statement['neighboring_relation']}). Whatever is done with {statement['covered']}, any "
        f"outcome is at most {_times(epsilon)} times as probable with one of them as with the "
        f"other, plus a probability of at most {statement['delta']:g}.",
        _sampling(plan, statement),
        plan.mechanism.in_words(unit),
    ]
    if plan.release_noise_multiplier is not None:
        lines.append(_release(plan, statement))
    lines.append(statement["noise"])
    if statement["repeated_steps"]:
        lines.append(
            f"{statement['repeated_steps']} of the steps were run again after an interruption and "
            "count twice."
        )
    if statement["stopped_early_after"] is not None:
        lines.append(
            f"The run ended after {statement['stopped_early_after']} of the steps because of what "
            "it had reached. When it ends thus depends on the data, and epsilon for the steps that "
            "ran holds only for a number fixed beforehand; so this is the epsilon of all of them."
        )
    if statement["insecure_sampling_seed"] is not None:
        lines.append(
            "Who took part was decided by the number "
            f"{statement['insecure_sampling_seed']}, given as --insecure_sampling_seed: this "
            "epsilon does not hold for whoever knows this number."
        )
    lines += statement["notes"]
    lines += ["Not covered:", *(f"- {item}" for item in statement["not_covered"])]
    return _page(lines)


def not_private_text(unit: str) -> str:
    """Returns what is to be said of a run without noise, for one `unit`."""
    return _page(
        [
            "This run is not private: no noise was added, so there is no bound on what its "
            f"model tells about one {unit}."
        ]
    )


def _times(epsilon):
    factor = math.exp(min(float(epsilon), 700.0))
    return f"exp({epsilon}), or about {factor:.2g}," if factor < 1e4 else f"exp({epsilon})"


def _other_accountant(statement):
    if statement["accountant"] == "PLD":
        return f" ({rounding.up(statement['epsilon_rdp'])} by RDP)."
    if statement["epsilon_pld"] is None:
        return "; PLD has no bound for an epsilon so large or a delta so small."
    return f" ({rounding.up(statement['epsilon_pld'])} by PLD)."


def _sampling(plan, statement):
    how = plan.sampler.in_words(statement["unit"])
    if plan.sampler.name == "cyclic_poisson" and (
        plan.mechanism.is_inverse or plan.sampler.sampling_probability == 1
    ):
        how += "; no amplification is claimed"  # although the draw is random, or is none
    return f"In each of {statement['steps']} steps {how}."


def _release(plan, statement):
    return (
        f"Before the first step all {statement['population']} {statement['unit']}s took part in "
        f"one release, with Gaussian noise of {plan.release_noise_multiplier:.4g} times what one "
        f"{statement['unit']} can add to it; it is counted in epsilon, once."
    )


def _page(lines):
    wrapped = (
        textwrap.fill(line, width=78, subsequent_indent="  " if line.startswith("- ") else "")
        for line in lines
    )
    return "\n".join(wrapped) + "\n"
