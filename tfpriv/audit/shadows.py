"""Shadow models: trained as the run was, on random halves of a pool of examples, in parallel."""

import dataclasses
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np

from tfpriv import datasets, files, runs, user_code
from tfpriv.audit.target import Examples, Target, log_odds, outputs
from tfpriv.errors import UserError
from tfpriv.runs import json_files

_DESIGN_STREAM = 0xDE51
_JOB, _POOL, _SCRATCH = "job.json", "pool.npz", "training-"
_POLL_SECONDS = 0.5
_LOG_LINES_SHOWN = 5

# Flags of the run that a shadow model does not take over.
_OWN = {
    "train_fraction": 1.0,
    "audit_canaries": 0,
    "audit_canary_kind": None,
    "audit_secrets": 0,
    "target_epsilon": None,
    "resume": False,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shadows:
    """What the shadow models say of the pool.

    Attributes:
        statistics: float64 [K, n], the log odds of the right class.
        is_in: bool [K, n], what each was trained on.
    """

    statistics: np.ndarray
    is_in: np.ndarray


def design(models: int, size: int, seed: int) -> np.ndarray:
    """Returns bool [models, size]: each example in exactly half of the models, at random.

    Carlini et al. 2022 (arXiv 2112.03570), section V-B.
    """
    generator = np.random.default_rng((seed, _DESIGN_STREAM))
    half = np.arange(models) < models // 2
    return generator.permuted(np.tile(half[:, np.newaxis], (1, size)), axis=0)


def seed_of(seed: int, number: int) -> int:
    """Returns the seed of a shadow model, from 0 to 2**32 - 1, by that of the audit."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def train(
    target: Target,
    pool: Examples,
    background: Examples,
    folder: pathlib.Path,
    *,
    models: int,
    processes: int,
    seed: int,
) -> Shadows:
    """Trains the shadow models that are not there yet, and returns what all of them say.

    Args:
        target: The run to train as: its config but for the seed, and its noise multiplier.
        pool: The examples under attack; each model takes a random half.
        background: Examples that every model takes.
        folder: Where each model's statistics are kept, so that an interrupted audit can go on.
        models: K, an even number.
        processes: How many are trained at once.
        seed: Decides the halves and the models' seeds.

    Raises:
        UserError: if a model cannot be trained; with the end of its log. Also if the folder holds
            models of another run or other examples.
    """
    for field in ("model", "dataset"):
        user_code.refuse_other_processes(str(_flags(target)[field]), field)
    is_in = design(models, len(pool), seed)
    arrays = {
        "features": pool.features,
        "labels": pool.labels,
        "background_features": background.features,
        "background_labels": background.labels,
        "is_in": is_in,
    }
    job = {
        "flags": _flags(target),
        "seed": seed,
        "task": target.dataset.task,
        "num_classes": target.dataset.num_classes,
        "from_logits": target.objective.from_logits,
        "seal_sha256": files.sha256(target.run.path / runs.seal.SEAL),
        "pool_sha256": _fingerprint(arrays),
    }
    _refuse_other_job(folder, job)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{_SCRATCH}*"):  # Of a process that was killed.
        shutil.rmtree(leftover)
    json_files.write(folder / _JOB, job)
    with files.replacing(folder / _POOL) as path:
        np.savez(path, **arrays)
    left = [number for number in range(models) if _read(folder, number, len(pool)) is None]
    if left:
        _run(folder, left, models, min(processes, len(left)))
    statistics_of_models = [_read(folder, number, len(pool)) for number in range(models)]
    return Shadows(statistics=np.stack(statistics_of_models), is_in=is_in)


def _refuse_other_job(folder, job):
    try:
        is_same = json_files.read(folder / _JOB) == json_files.plain(job)
    except FileNotFoundError:
        return
    except ValueError:
        is_same = False
    if not is_same:
        raise UserError(
            f"the shadow models in {folder} are not of this run and these examples; give another "
            "--output_dir."
        )


def _fingerprint(arrays):
    hasher = hashlib.sha256()
    for name, array in arrays.items():
        hasher.update(f"{name} {array.shape} {array.dtype}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def _flags(target):
    flags = {**target.flags, **_OWN}
    if flags["mechanism"] != "none":
        flags["noise_multiplier"] = target.run.privacy["noise_multiplier"] or 0.0
    # Only the last model counts.
    return {**flags, "eval_every": flags["epochs"], "checkpoint_every": flags["epochs"]}


def _run(folder, left, models, processes):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if processes > 1:
        environment |= {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    started = []
    try:
        for number in range(processes):
            command = [sys.executable, "-m", "tfpriv.audit.shadows", str(folder), str(os.getpid())]
            command += [str(shadow) for shadow in left[number::processes]]
            log = folder / f"process_{number}.log"
            with open(log, "wb") as file:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment
                )
            started.append((process, log))
        _wait(folder, started, left, models)
    finally:
        for process, _ in started:
            process.kill()
            process.wait()


def _wait(folder, started, left, models):
    before = models - len(left)
    with runs.Progress(models, initial=before, unit="model") as progress:
        done = before
        while any(process.poll() is None for process, _ in started) or done < models:
            states = [(process.poll(), log) for process, log in started]
            now = before + sum(_path(folder, number).exists() for number in left)
            if now > done:
                done = now
                progress.update(done)
            for status, log in states:
                if status or (done < models and all(state == 0 for state, _ in states)):
                    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
                    raise UserError(
                        f"shadow models could not be trained (status {status}); the end of {log} "
                        "says why:\n" + "\n".join(f"  {line}" for line in lines)
                    )
            time.sleep(_POLL_SECONDS)


def _path(folder, number):
    return folder / f"shadow_{number:04d}.npz"


def _read(folder, number, size):
    """Returns a model's statistics; None if they are not there, or not whole."""
    try:
        with np.load(_path(folder, number)) as content:
            statistics = content["statistics"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return statistics if statistics.shape == (size,) else None


def _train_one(folder, pool, job, number):
    import tensorflow as tf

    from tfpriv import central, models

    is_in = pool["is_in"][number]
    features = np.concatenate([pool["background_features"], pool["features"][is_in]])
    labels = np.concatenate([pool["background_labels"], pool["labels"][is_in]])
    dataset = datasets.Dataset(
        name="shadow",
        task=job["task"],
        num_classes=job["num_classes"],
        train_features=features,
        train_labels=labels,
        test_features=pool["features"][~is_in],
        test_labels=pool["labels"][~is_in],
    )
    with tempfile.TemporaryDirectory(dir=folder, prefix=_SCRATCH) as scratch:
        seed = seed_of(job["seed"], number)
        flags = {**job["flags"], "seed": seed, "output_dir": f"{scratch}/run"}
        run = central.run(central.CentralConfig(**flags), dataset=dataset)
        model = models.load(run.model_path)
    objective = models.Objective(task=job["task"], from_logits=job["from_logits"])
    answers = outputs(model, pool["features"])
    with files.replacing(_path(folder, number)) as path:
        np.savez(path, statistics=log_odds(objective, pool["labels"], answers))
    tf.keras.backend.clear_session()


def _main(folder, parent, numbers):
    folder = pathlib.Path(folder)
    job = json_files.read(folder / _JOB)
    with np.load(folder / _POOL) as content:
        pool = dict(content)
    for number in numbers:
        if os.getppid() != int(parent):  # The audit was killed.
            return
        _train_one(folder, pool, job, int(number))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        _main(sys.argv[1], sys.argv[2], sys.argv[3:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
