"""One measurement of `benchmarks.secure_inference` or `benchmarks.secure_training`, in a process.

  python -m benchmarks.secure_contender '{"job": "inference", "model": "2nn", ...}'

It prints a line of JSON: how long everything before the first result took, then each repetition,
and the unit, one stock matrix product of 64-bit integers, measured before and after.
"""

import dataclasses
import json
import os
import statistics
import sys
import time

from tfpriv import environment

environment.quiet_tensorflow()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure.

    Attributes:
        job: "inference" or "training".
        model: A model of tfpriv.models for inference, one of T9's networks for training.
        batch_size: Examples in a batch.
        protocol: "aby3" or "securenn".
        engine: "tfpriv", or "tf-encrypted" for its own ABY3 on our randomness and bit operations,
            without the fused ops.
        repetitions: How many batches are timed, after the first.
    """

    job: str
    model: str
    batch_size: int
    protocol: str = "aby3"
    engine: str = "tfpriv"
    repetitions: int = 10


def unit() -> float:
    """Returns the seconds that TensorFlow's own product of int64 [6272, 800] x [800, 64] takes."""
    import numpy as np
    import tensorflow as tf

    generator = np.random.default_rng(0)
    x, y = (
        tf.constant(generator.integers(-(2**63), 2**63 - 1, s)) for s in [(6272, 800), (800, 64)]
    )
    return _median(lambda: tf.matmul(x, y).numpy(), 5)


def _median(function, repetitions):
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _inference(job, protocol, parties):
    import numpy as np

    from tfpriv import models
    from tfpriv.secure.inference import evaluator, network, ranges

    model = models.build(job.model, (28, 28, 1), 10, seed=0)
    examples = np.random.default_rng(0).random((job.batch_size, 28, 28, 1))
    start = time.perf_counter()
    net = network.from_keras(model)
    _, bounds = ranges.measure(net, examples)
    secure = evaluator.SecureModel(net, bounds, protocol, parties, job.batch_size)
    return lambda: secure.predict(examples), start


def _training(job, protocol, parties):
    import numpy as np

    from tfpriv import datasets
    from tfpriv.secure.training import config as training_config
    from tfpriv.secure.training import shared as shared_training
    from tfpriv.secure.training import task as training_task

    del parties
    config = training_config.SecureTrainingConfig(
        network=job.model, batch_size=job.batch_size
    ).complete()
    task, model = training_task.build(config, datasets.load("mnist"))
    start = time.perf_counter()
    training = shared_training.SharedTraining(protocol, task, model, config)
    numbers = iter(range(1, 10**6))
    return lambda: training.step(np.arange(job.batch_size), next(numbers)), start


def measure(job: Job) -> dict:
    """Returns `first_seconds`, `seconds` of each repetition, and `unit_seconds`."""
    import tensorflow as tf

    cores = len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    from tfpriv.secure.parties import connection
    from tfpriv.secure.protocols import aby3_kernels, running

    if job.engine == "tf-encrypted":
        aby3_kernels.FUNCTIONS.clear()
    them = connection.local()
    prepare = {"inference": _inference, "training": _training}[job.job]
    with running.protocol(job.protocol, them) as protocol:
        before = unit()
        run, start = prepare(job, protocol, them)
        run()
        first = time.perf_counter() - start
        seconds = []
        for _ in range(job.repetitions):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return {"first_seconds": first, "seconds": seconds, "unit_seconds": [before, unit()]}


if __name__ == "__main__":
    print(json.dumps(measure(Job(**json.loads(sys.argv[1])))))
