"""Membership inference by TensorFlow Privacy's attacks on a run's outputs and losses."""

import contextlib
import io
import logging
import warnings

import numpy as np

from tfpriv import runs
from tfpriv.audit import report
from tfpriv.audit.config import FEWEST_FOR_MEMBERSHIP, AuditConfig
from tfpriv.audit.report import Finding
from tfpriv.audit.target import Target

THREAT_MODEL = (
    "black box: the attacker sees the final model's outputs on an example, its label, and outputs "
    "for other examples whose membership it knows"
)
_TRAINED = ("LOGISTIC_REGRESSION", "K_NEAREST_NEIGHBORS")


def attack(target: Target, config: AuditConfig) -> Finding:
    """Runs the threshold, logistic-regression, k-nearest and forest attacks.

    The threshold attack (Yeom et al. 2018) scores by the loss alone; the others learn from outputs
    and losses, by two-fold cross-validation over the examples (Shokri et al. 2017 without shadow
    models). Slices are by class and by whether the model is right; the forest takes the whole only.
    """
    assert config.max_examples, "the config is complete"
    members, others, _ = target.split(config.max_examples, config.seed, FEWEST_FOR_MEMBERSHIP)
    data = _input(target, members, others)
    # TensorFlow Privacy's attackers draw from numpy's global generator.
    before = np.random.get_state()
    np.random.seed(config.seed)
    try:
        results = _run_all(target, data)
    finally:
        np.random.set_state(before)
    figures: list[dict[str, object]] = []
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    summary: dict[str, float] = {}
    for one in results:
        inside, outside = (
            np.asarray(part, np.float64).reshape(-1)
            for part in (one.membership_scores_train, one.membership_scores_test)
        )
        measured = report.rates(inside, outside, config.confidence)
        name = str(one.attack_type).lower().replace("_attack", "").replace("_", " ")
        where = "all" if one.slice_spec.entire_dataset else str(one.slice_spec).lower()
        figures.append({"attack": name, "slice": where, **measured})
        if where == "all":
            curves[name] = (inside, outside)
            summary |= report.flat(name.replace(" ", "_"), measured)
    return Finding(
        threat_model=THREAT_MODEL,
        unit="example",
        **report.bound_of_draw(target, config, -data.get_loss_train(), -data.get_loss_test()),
        figures={"results": figures},
        summary=summary,
        curves=curves,
    )


def _input(target, members, others):
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import (
        data_structures,
    )

    kept = {}
    if target.objective.task == "classification" and members.labels.ndim == 1:
        kind = "logits" if target.objective.from_logits else "probs"
        kept = {
            f"{kind}_train": np.asarray(target.objective.of_classes(target.outputs(members))),
            f"{kind}_test": np.asarray(target.objective.of_classes(target.outputs(others))),
            "labels_train": members.labels,
            "labels_test": others.labels,
        }
    return data_structures.AttackInputData(
        **kept, loss_train=target.losses(members), loss_test=target.losses(others)
    )


def _trained(data):
    return () if data.labels_train is None else _TRAINED


def _run_all(target, data):
    parts = [(part, ("THRESHOLD_ATTACK", *_trained(data))) for part in _slices(target, data)]
    if _trained(data):
        parts.append((None, ("RANDOM_FOREST",)))
    results = []
    with runs.Progress(len(parts), unit="slice") as progress:
        for number, (part, names) in enumerate(parts):
            results += _run(data, part, names)
            progress.update(number + 1)
    return results


def _slices(target, data):
    """Returns TensorFlow Privacy's specifications, one a slice; None for the whole."""
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import (
        data_structures,
    )

    if data.labels_train is None:
        return [None]
    counts = [np.bincount(labels, minlength=target.dataset.num_classes)
              for labels in (data.labels_train, data.labels_test)]  # fmt: skip
    classes = np.flatnonzero(np.minimum(*counts) >= FEWEST_FOR_MEMBERSHIP)
    by_class = [
        data_structures.SlicingSpec(entire_dataset=False, by_class=[int(c)]) for c in classes
    ]
    by_correctness = data_structures.SlicingSpec(
        entire_dataset=False, by_classification_correctness=True
    )
    return [None, *by_class, by_correctness]


def _run(data, part, names):
    """Returns TensorFlow Privacy's results; quiet, as scikit-learn warns of each grid point."""
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import (
        data_structures,
        membership_inference_attack,
    )

    level = logging.getLogger().level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)
        try:
            return membership_inference_attack.run_attacks(
                data,
                part,
                [data_structures.AttackType[name] for name in names],
                min_num_samples=FEWEST_FOR_MEMBERSHIP,
            ).single_attack_results
        finally:
            logging.getLogger().setLevel(level)
