"""The contenders of `benchmarks.federated_round`, each run in a process of its own.

  python -m benchmarks.contenders ours 2nn

reads the numbers of rounds from standard input, one a line, and answers each with a line of JSON on
standard output: the seconds that the round took and, for ours, what they were spent on. All train
the same models on the same random examples: 100 clients of 100 examples of 28x28x1, 10 clients a
round, batches of 20, 1 epoch, SGD at 0.1.
"""

import collections
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from tfpriv import environment

CLIENTS = 100
CLIENTS_PER_ROUND = 10
EXAMPLES_PER_CLIENT = 100
BATCH_SIZE = 20
LEARNING_RATE = 0.1
SHAPE = (28, 28, 1)
CLASSES = 10

# Runs a round and returns the seconds spent on parts of it, by part.
Round = Callable[[int], dict[str, float]]


def random_examples() -> tuple[np.ndarray, np.ndarray]:
    """Returns features and labels of all clients, one client after the other."""
    generator = np.random.default_rng(0)
    number = CLIENTS * EXAMPLES_PER_CLIENT
    features = generator.random((number, *SHAPE), np.float32)
    return features, generator.integers(CLASSES, size=number, dtype=np.int32)


@contextlib.contextmanager
def ours(model_name: str, sampler: str = "fixed_size") -> Iterator[Round]:
    """tfpriv as its trainer drives it, without evaluation and checkpoints."""
    from tfpriv.federated.worker import Worker

    worker = Worker()  # First, as in `tfpriv.federated.run`: it comes up during the imports.
    import tensorflow as tf
    import tensorflow_federated as tff

    from tfpriv import datasets, models, privacy
    from tfpriv.federated import FederatedConfig, process, runtime
    from tfpriv.federated.examples import Examples
    from tfpriv.federated.local_model import build_local_model
    from tfpriv.federated.population import Population

    features, labels = random_examples()
    config = FederatedConfig(
        num_clients=CLIENTS,
        model=model_name,
        clients_per_round=CLIENTS_PER_ROUND,
        sampler=sampler,
        batch_size=BATCH_SIZE,
        client_learning_rate=LEARNING_RATE,
    ).complete()
    partition = datasets.Partition(
        indices=np.arange(len(labels)),
        offsets=np.arange(0, len(labels) + 1, EXAMPLES_PER_CLIENT),
    )
    population = Population(
        config=config,
        partition=partition,
        sampler=privacy.build_sampler(sampler, CLIENTS, CLIENTS_PER_ROUND),
        origin=config.seed,
    )
    kind = {"task": "classification", "input_dtype": "float32", "label_shape": ()}
    model = models.build(model_name, SHAPE, CLASSES, **kind, seed=0)
    local_model = build_local_model(
        lambda: models.rebuild(model_name, SHAPE, CLASSES, input_dtype="float32"),
        model,
        models.Objective(task="classification"),
        Examples(features, labels),
    )
    learning = process.build_process(config, local_model, None)
    calls = _time_methods(tff.framework.RemoteExecutorGrpcStub)
    with runtime.running(worker):
        state = process.with_weights(learning.initialize(), model.get_weights())

        def run_round(round_number):
            nonlocal state
            calls.clear()
            began = time.perf_counter()
            batches = [population.batches(c, round_number) for c in population.cohort(round_number)]
            drawn = time.perf_counter()
            data = [tf.data.Dataset.from_tensors(b) for b in batches]
            built = time.perf_counter()
            state = learning.next(state, data).state
            return {
                "drawing clients and batches": drawn - began,
                "making tf.data of them": built - drawn,
                "TFF's Python, with serialization": (
                    time.perf_counter() - built - sum(calls.values())
                ),
                "handing values to the worker": calls["create_value"] + calls["create_struct"],
                "the worker's work": calls["create_call"],
                "fetching the result": calls["compute"],
            }

        yield run_round


@contextlib.contextmanager
def stock_tff(model_name: str) -> Iterator[Round]:
    """`tff.learning`'s weighted FedAvg over a Keras model, in TFF's own local runtime."""
    import tensorflow as tf
    import tensorflow_federated as tff

    from tfpriv import listening, models

    # TFF starts its worker itself, which listens on every address if left alone.
    folder = listening.private_folder()
    os.environ.update(listening.child_environment("127.0.0.1", folder))
    features, labels = random_examples()
    clients = [
        tf.data.Dataset.from_tensor_slices((features[rows], labels[rows])).batch(BATCH_SIZE)
        for rows in _rows_by_client()
    ]

    def model_fn():
        return tff.learning.models.from_keras_model(
            models.rebuild(model_name, SHAPE, CLASSES, input_dtype="float32"),
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            input_spec=clients[0].element_spec,
        )

    learning = tff.learning.algorithms.build_weighted_fed_avg(
        model_fn,
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(LEARNING_RATE),
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
    )
    state = learning.initialize()

    def run_round(round_number):
        nonlocal state
        data = [clients[client] for client in _cohort(round_number)]
        state = learning.next(state, data).state
        return {}

    try:
        yield run_round
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def plain_keras(model_name: str) -> Iterator[Round]:
    """A loop with no framework: one `tf.function` a client, and the weighted mean in numpy."""
    import tensorflow as tf

    from tfpriv import models

    features, labels = random_examples()
    model = models.rebuild(model_name, SHAPE, CLASSES, input_dtype="float32")
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    clients = _rows_by_client()

    @tf.function
    def train(features, labels):
        for i in tf.range(tf.shape(labels)[0]):
            with tf.GradientTape() as tape:
                loss = loss_of(labels[i], model(features[i], training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
                variable.assign_sub(LEARNING_RATE * gradient)

    weights = model.get_weights()

    def run_round(round_number):
        nonlocal weights
        generator = np.random.default_rng((1, round_number))
        total, examples = [np.zeros_like(w) for w in weights], 0
        for client in _cohort(round_number):
            rows = generator.permutation(clients[client])
            batches = rows.reshape(-1, BATCH_SIZE)
            model.set_weights(weights)
            train(features[batches], labels[batches])
            for t, w in zip(total, model.get_weights(), strict=True):
                t += len(rows) * w
            examples += len(rows)
        weights = [t / examples for t in total]
        return {}

    yield run_round


def _rows_by_client():
    return np.arange(CLIENTS * EXAMPLES_PER_CLIENT).reshape(CLIENTS, EXAMPLES_PER_CLIENT)


def _cohort(round_number):
    generator = np.random.default_rng((0, round_number))
    return generator.choice(CLIENTS, CLIENTS_PER_ROUND, replace=False)


def _time_methods(stub_class):
    """Returns a counter of the seconds spent in each method of a class, by the method's name."""
    seconds = collections.Counter()

    def timed(name, method):
        def call(self, request):
            began = time.perf_counter()
            try:
                return method(self, request)
            finally:
                seconds[name] += time.perf_counter() - began

        return call

    for name, method in list(vars(stub_class).items()):
        if not name.startswith("_") and callable(method):
            setattr(stub_class, name, timed(name, method))
    return seconds


def main(name: str, *arguments: str) -> None:
    """Answers commands until standard input ends."""
    environment.quiet_tensorflow()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    # What libraries and their children print must not come between the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    contender = {"ours": ours, "stock_tff": stock_tff, "plain_keras": plain_keras}[name]
    with contender(*arguments) as run_round:
        for line in sys.stdin:
            began = time.perf_counter()
            parts = run_round(int(line))
            print(json.dumps([time.perf_counter() - began, parts]), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
