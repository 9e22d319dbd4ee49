"""Membership inference by TensorFlow Privacy's attacks on a run's outputs and losses."""

import contextlib
import io
import logging
import warnings

import numpy as np

from tfpriv.audit import report, statistics
from tfpriv.audit.config import AuditConfig
from tfpriv.audit.report import Finding
from tfpriv.audit.target import Target

THREAT_MODEL = (
    "black box: the attacker sees the final model's outputs on an example, its label, and outputs "
    "for other examples whose membership it knows"
)
_TRAINED = ("LOGISTIC_REGRESSION", "K_NEAREST_NEIGHBORS")
_FEWEST_IN_SLICE = 20


def attack(target: Target, config: AuditConfig) -> Finding:
    """Runs the threshold, logistic-regression, k-nearest and forest attacks.

    The threshold attack (Yeom et al. 2018) scores by the loss alone; the others learn from outputs
    and losses, by two-fold cross-validation over the examples (Shokri et al. 2017 without shadow
    models). Slices are by class and by whether the model is right; the forest takes the whole only.
    """
    members, others, _ = target.split(config.max_examples, config.seed)
    data = _input(target, members, others)
    # TensorFlow Privacy's attackers draw from numpy's global generator.
    before = np.random.get_state()
    np.random.seed(config.seed)
    try:
        found = [*_run(data, _slices(target, data), ("THRESHOLD_ATTACK", *_trained(data)))]
        if _trained(data):
            found += _run(data, None, ("RANDOM_FOREST",))
    finally:
        np.random.set_state(before)
    figures, curves, summary = [], {}, {}
    for one in found:
        scores = [
            np.asarray(part, np.float64).reshape(-1)
            for part in (one.membership_scores_train, one.membership_scores_test)
        ]
        measured = report.rates(*scores, config.confidence)
        name = str(one.attack_type).lower().replace("_attack", "").replace("_", " ")
        where = "all" if one.slice_spec.entire_dataset else str(one.slice_spec).lower()
        figures.append({"attack": name, "slice": where, **measured})
        if where == "all":
            curves[name] = tuple(scores)
            summary |= report.flat(name.replace(" ", "_"), measured)
    bound, because = None, "a test set may differ from the training set otherwise than by chance"
    if target.is_random:
        bound = statistics.epsilon_from_rates(
            -data.get_loss_train(), -data.get_loss_test(), target.delta, config.confidence,
            config.seed,
        )  # fmt: skip
        because = ""
    return Finding(
        threat_model=THREAT_MODEL,
        unit="example",
        epsilon_lower_bound=bound,
        no_bound_because=because,
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
            f"{kind}_train": target.outputs(members),
            f"{kind}_test": target.outputs(others),
            "labels_train": members.labels,
            "labels_test": others.labels,
        }
    return data_structures.AttackInputData(
        **kept, loss_train=target.losses(members), loss_test=target.losses(others)
    )


def _trained(data):
    return () if data.labels_train is None else _TRAINED


def _slices(target, data):
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import (
        data_structures,
    )

    if data.labels_train is None:
        return None
    counts = [np.bincount(labels, minlength=target.dataset.num_classes)
              for labels in (data.labels_train, data.labels_test)]  # fmt: skip
    classes = np.flatnonzero(np.minimum(*counts) >= _FEWEST_IN_SLICE)
    return data_structures.SlicingSpec(
        by_class=[int(c) for c in classes] or False, by_classification_correctness=True
    )


def _run(data, slices, names):
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
                slices,
                [data_structures.AttackType[name] for name in names],
                min_num_samples=_FEWEST_IN_SLICE,
            ).single_attack_results
        finally:
            logging.getLogger().setLevel(level)
