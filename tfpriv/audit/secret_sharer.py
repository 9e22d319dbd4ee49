"""Exposure of planted sequences in a text model (Carlini et al. 2019, arXiv 1802.08232)."""

import math
import os
from collections.abc import Mapping

import numpy as np
from scipy import special

from tfpriv import datasets, models, runs
from tfpriv.audit import report, statistics
from tfpriv.audit.config import AuditConfig
from tfpriv.audit.report import Finding
from tfpriv.audit.target import Examples, Target
from tfpriv.datasets.secrets import LENGTH, REFERENCES, Secrets
from tfpriv.errors import UserError
from tfpriv.runs import RunDirectory

THREAT_MODEL = (
    "black box: the attacker sees the probabilities that the final model gives to any text, and "
    "knows the format of the secrets, but not their random part"
)
_BECAUSE = "exposure ranks secrets that were planted for certain"


def attack(target: Target, config: AuditConfig, run: RunDirectory) -> Finding:
    """Ranks the secrets of a central run among sequences that were not planted.

    Raises:
        UserError: if the run has no secrets, or not those of its seed.
    """
    secrets = planted(target)
    references = secrets.references(REFERENCES, config.seed)
    everything = np.concatenate([*secrets.planted.values(), references])
    windows = secrets.windows(everything)
    examples = Examples(features=windows[:, :-1], labels=windows[:, 1:])
    bits = log_perplexities(
        target.outputs(examples), examples.labels, secrets.start, target.objective
    )
    ends = np.cumsum([len(parts) for parts in secrets.planted.values()])
    *parts, others = np.split(bits, ends)
    of_secrets = dict(zip(secrets.planted, parts, strict=True))
    space = LENGTH * math.log2(len(secrets.tokens))
    result = finding(of_secrets, others, space, config.confidence)
    draw_exposures(run.plots_path / "exposure.png", result.figures)
    return result


def planted(target: Target) -> Secrets:
    """Returns the secrets of a run.

    Raises:
        UserError: if it has none, or not those of its seed.
    """
    recorded = target.recorded.get("secrets")
    if not recorded:
        hint = (
            "train a central run"
            if target.program != "central"
            else "train with --audit_secrets, of 10 for example,"
        )
        raise UserError(f"{target.run.path} has no secrets; {hint} on a data set of text.")
    flags = target.flags
    secrets = datasets.secrets.draw(target.dataset, flags["audit_secrets"], flags["seed"])
    if secrets.record() != recorded:
        raise UserError(f"{target.run.path} was altered: its secrets are not its seed's.")
    return secrets


def log_perplexities(
    outputs: np.ndarray, labels: np.ndarray, start: int, objective: models.Objective
) -> np.ndarray:
    """Returns minus the log2 of the probability of each random part after its prefix, [n] float64.

    Args:
        outputs: [n, length, classes], logits or probabilities.
        labels: [n, length], the next tokens.
        start: Where in the window the random part begins; position i has the label i + 1.
        objective: Says whether outputs are logits.
    """
    part = slice(start - 1, start - 1 + LENGTH)
    logs = outputs[:, part].astype(np.float64)
    if objective.from_logits:
        logs = special.log_softmax(logs, axis=-1)
    else:
        logs = np.log(np.maximum(logs, 1e-30))
    label_logs = np.take_along_axis(logs, labels[:, part, np.newaxis], axis=-1)[..., 0]
    return -label_logs.sum(axis=1) / math.log(2)


def finding(
    secrets: Mapping[int, np.ndarray], references: np.ndarray, space: float, confidence: float
) -> Finding:
    """Returns what the log-perplexities of secrets and references say.

    Args:
        secrets: By the number of repetitions, [n].
        references: [R] of sequences that were not planted.
        space: log2 of how many sequences there could be, the most that an exposure can be.
        confidence: Of the intervals.
    """
    from tensorflow_privacy.privacy.privacy_tests.secret_sharer import exposures

    ranked = exposures.compute_exposure_interpolation(secrets, references)
    fitted = exposures.compute_exposure_extrapolation(secrets, references)
    count = len(references)
    least, largest = math.log2(count / (count + 1)), math.log2(count)
    results: list[dict[str, object]] = []
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    summary: dict[str, float] = {}
    for times, bits in secrets.items():
        exposed = np.sort(ranked[times])
        # A fitted distribution's tail may say more than there are sequences.
        extrapolated = np.clip(np.nan_to_num(fitted[times], nan=0.0, posinf=space), 0.0, space)
        firsts = int(np.sum(np.asarray(bits) < np.min(references)))
        scores = -np.asarray(bits), -np.asarray(references)
        area = statistics.area_under_curve(*scores, confidence)
        median = statistics.median(exposed, least, largest, confidence)
        first = statistics.clopper_pearson(firsts, len(exposed), confidence)
        results.append(
            {
                "repetitions": times,
                "secrets": len(exposed),
                "median_exposure": report.plain(median),
                "median_extrapolated_exposure": report.plain(
                    statistics.median(extrapolated, 0.0, space, confidence)
                ),
                "before_all_references": report.plain(first),
                "auc": report.plain(area),
                "exposures": exposed,
                "extrapolated_exposures": np.sort(extrapolated),
            }
        )
        curves[f"planted {times} time{'s' if times > 1 else ''}"] = scores
        summary |= {
            f"median_exposure_{times}": median.value,
            f"before_all_references_{times}": first.value,
        }
    return Finding(
        threat_model=THREAT_MODEL,
        unit="secret",
        epsilon_lower_bound=None,
        no_bound_because=_BECAUSE,
        figures={
            "references": count,
            "largest_exposure": largest,
            "largest_extrapolated_exposure": space,
            "results": results,
        },
        summary=summary | {"largest_exposure": largest, "references": count},
        curves=curves,
    )


def draw_exposures(path: str | os.PathLike, figures: Mapping) -> None:
    """Draws each secret's exposure, and the medians in their intervals, by repetitions.

    Args:
        path: The picture.
        figures: Those of `finding`.
    """
    results = figures["results"]
    times = [result["repetitions"] for result in results]
    medians = [result["median_exposure"] for result in results]
    values = [median["value"] for median in medians]
    errors = [
        [median["value"] - median["low"] for median in medians],
        [median["high"] - median["value"] for median in medians],
    ]
    with runs.drawing(path) as (axes,):
        for result in results:
            exposed = result["exposures"]
            # Beside the interval, which they would hide.
            x = np.full(len(exposed), result["repetitions"] * 1.1)
            axes.plot(x, exposed, ".", color="#56B4E9", alpha=0.6, markersize=5)
        axes.errorbar(
            times, values, errors, fmt="o-", color="#0072B2", capsize=3, label="median of secrets"
        )
        axes.axhline(
            figures["largest_exposure"],
            color="#D55E00",
            linestyle="--",
            label="before all references",
        )
        axes.axhline(1, color="#999999", linestyle=":", label="median without memory")
        axes.set_xscale("log", base=2)
        axes.set_xticks(times, [str(number) for number in times])
        axes.set_xlabel("Times planted")
        axes.set_ylabel("Exposure (bits)")
        axes.legend(fontsize=7)
