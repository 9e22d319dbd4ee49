"""The likelihood-ratio attack with shadow models (Carlini et al. 2022, arXiv 2112.03570)."""

import os

import numpy as np

from tfpriv.audit import report, shadows
from tfpriv.audit.config import AuditConfig
from tfpriv.audit.report import Finding
from tfpriv.audit.shadows import Shadows
from tfpriv.audit.target import Examples, Target, log_odds
from tfpriv.errors import UserError
from tfpriv.runs import RunDirectory

THREAT_MODEL = (
    "black box with shadow models: the attacker sees the final model's outputs on an example and "
    "its label, knows how the model was trained, has the examples under attack and as many others "
    "as the run was trained on, and trains models of its own"
)

# With fewer models on a side, one variance for all examples is the better estimate
# (Carlini et al. 2022, section VI-C).
_ENOUGH_FOR_VARIANCE = 32


def attack(target: Target, config: AuditConfig, run: RunDirectory) -> Finding:
    """Attacks a central run by LiRA, offline, online or both, beside the global threshold.

    Raises:
        UserError: if the run is not one that shadow models can be trained as.
    """
    if target.program != "central":
        raise UserError(
            f"--attack=lira trains shadow models as central runs are trained, and {target.run.path}"
            " is a federated one; use --attack=membership or --attack=canary_clients."
        )
    target.allow_code(target.flags["model"])  # The shadow models are built by it.
    if target.objective.task != "classification":
        raise UserError(
            "--attack=lira needs classes, and this run is a regression; use membership."
        )
    assert config.max_examples and config.shadow_models and config.lira_variant, "it is complete"
    members, non_members, background = target.split(config.max_examples, config.seed)
    pool = Examples(
        features=np.concatenate([members.features, non_members.features]),
        labels=np.concatenate([members.labels, non_members.labels]),
    )
    trained = shadows.train(
        target,
        pool,
        background,
        run.path / "shadows",
        models=config.shadow_models,
        processes=config.processes or len(os.sched_getaffinity(0)),
        seed=config.seed,
    )
    target_log_odds = log_odds(target.objective, pool.labels, target.outputs(pool))
    kinds = ("offline", "online") if config.lira_variant == "both" else (config.lira_variant,)
    scored = {f"lira {kind}": score(target_log_odds, trained, kind) for kind in kinds}
    scored["threshold"] = -target.losses(pool)
    n = len(members)
    curves = {name: (scores[:n], scores[n:]) for name, scores in scored.items()}
    results: list[dict[str, object]] = []
    summary: dict[str, float] = {"shadow_models": config.shadow_models, "members": n}
    for name, (inside, outside) in curves.items():
        measured = report.rates(inside, outside, config.confidence)
        results.append({"attack": name, "slice": "all", **measured})
        summary |= report.flat(name.replace(" ", "_"), measured)
    return Finding(
        threat_model=THREAT_MODEL,
        unit="example",
        **report.bound_of_draw(target, config, *curves[f"lira {kinds[-1]}"]),
        figures={"shadow_models": config.shadow_models, "results": results},
        summary=summary,
        curves=curves,
    )


def score(target_log_odds: np.ndarray, trained: Shadows, kind: str) -> np.ndarray:
    """Returns LiRA's scores, [n], higher for members.

    Args:
        target_log_odds: [n] the target's log odds.
        trained: The shadow models'.
        kind: "online" (the log likelihood ratio of a model with the example to one without, by
            TensorFlow Privacy; equation 3) or "offline" (how far the target lies above models
            without the example, in their standard deviations; equation 4).
    """
    models, size = trained.statistics.shape
    one_variance = models // 2 < _ENOUGH_FOR_VARIANCE
    columns = range(size)
    outside = [trained.statistics[~trained.is_in[:, i], i][:, np.newaxis] for i in columns]
    if kind == "offline":
        means = np.array([np.median(part) for part in outside])
        residuals = [part - mean for part, mean in zip(outside, means, strict=True)]
        deviations = np.array([np.std(part) for part in outside])
        if one_variance:
            deviations = np.full(size, np.std(np.concatenate(residuals)))
        # Not its probability, which is 1 for all that are far above.
        return (target_log_odds - means) / np.maximum(deviations, 1e-30)
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import advanced_mia

    inside = [trained.statistics[trained.is_in[:, i], i][:, np.newaxis] for i in columns]
    return -advanced_mia.compute_score_lira(
        target_log_odds[:, np.newaxis], inside, outside, option="both", fix_variance=one_variance
    )
