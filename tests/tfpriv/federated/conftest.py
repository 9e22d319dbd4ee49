"""What the tests share: a worker for each test module, and models of a few weights."""

import functools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tfpriv import environment

environment.quiet_tensorflow()

import tensorflow as tf  # noqa: E402

from tfpriv import models  # noqa: E402
from tfpriv.federated import process, runtime  # noqa: E402
from tfpriv.federated.config import FederatedConfig  # noqa: E402
from tfpriv.federated.examples import Examples  # noqa: E402
from tfpriv.federated.local_model import LocalModel, build_local_model  # noqa: E402
from tfpriv.federated.noise import NoiseFeed  # noqa: E402
from tfpriv.federated.worker import Worker  # noqa: E402


class Trial:
    """A learning process over a small model, and the rounds that it ran.

    Attributes:
        state: The state of the process.
        noise: The noise of its clients' updates.
        clients: The states of the clients, by their place in the cohort.
        metrics: The metrics of the last round.
    """

    def __init__(
        self, build_process, local_model, plan=None, weights=None, participation=1.0, **flags
    ):
        self.config = FederatedConfig(**flags).complete()
        self._process = build_process(self.config, local_model, plan, participation=participation)
        self.clients = {}
        self.state = self._process.initialize()
        self.noise = NoiseFeed(plan, sum(w.size for w in self.weights))
        if weights is not None:
            self.state = process.with_weights(self.state, weights)
        self.metrics = None

    @property
    def weights(self) -> list[np.ndarray]:
        """The global model's weights."""
        return [np.asarray(w) for w in self.state.global_model_weights.trainable]

    def round(self, *cohort: np.ndarray) -> list[np.ndarray]:
        """Runs a round over clients with these batches; returns how the weights have moved."""
        before = self.weights
        data = [tf.data.Dataset.from_tensors(np.asarray(b, np.int32)) for b in cohort]
        first = self._process.first_client_state()
        states = [self.clients.get(place, first) for place in range(len(cohort))]
        output = self._process.next(self.noise.into(self.state), data, states)
        self.state, self.metrics = output.state, output.metrics
        self.clients |= dict(enumerate(output.clients))
        return [after - b for after, b in zip(self.weights, before, strict=True)]


@pytest.fixture(scope="module")
def worker():
    """TFF's default context over a worker of our own, for the tests of one module."""
    worker = Worker()
    with runtime.running(worker):
        yield worker


@pytest.fixture(scope="module")
def trial() -> Iterator[Callable[..., Trial]]:
    """A function (local_model, plan, weights, **flags) that starts a trial.

    A process takes seconds to build, and tests can share one: each has a state of its own.
    """
    build_process = functools.lru_cache(process.build_process)
    yield functools.partial(Trial, build_process)
    build_process.cache_clear()


@pytest.fixture(scope="session")
def unshared_trial() -> Callable[..., Trial]:
    """As `trial`, but each has a process of its own."""
    return functools.partial(Trial, process.build_process)


@pytest.fixture(scope="session")
def local_model() -> Callable[..., tuple[LocalModel, tf.keras.Model]]:
    """A function (features, labels, builder, task) that makes a model ready for clients.

    The builder is a name from tfpriv.models or a function that returns a Keras model.
    """
    tf.keras.backend.experimental.disable_tf_random_generator()

    def make(features, labels, builder="logistic", task="classification", from_logits=True):
        features, labels = np.asarray(features), np.asarray(labels)
        num_classes = 1 if task == "regression" else max(2, int(labels.max()) + 1)
        if callable(builder):
            rebuild, model = builder, builder()
        else:
            arguments = (builder, features.shape[1:], num_classes)
            dtype = features.dtype.name
            rebuild = functools.partial(models.rebuild, *arguments, input_dtype=dtype)
            model = models.build(
                *arguments,
                task=task,
                input_dtype=dtype,
                label_shape=labels.shape[1:],
                seed=1,
            )
        objective = models.Objective(task=task, from_logits=from_logits)
        return build_local_model(rebuild, model, objective, Examples(features, labels)), model

    return make


@pytest.fixture(scope="session")
def wide_model(local_model) -> LocalModel:
    """A model of two weight matrices of 80 x 80: enough numbers to tell distributions apart."""

    def build():
        return tf.keras.Sequential(
            [
                tf.keras.layers.Input([80]),
                tf.keras.layers.Dense(80, use_bias=False),
                tf.keras.layers.Dense(80, use_bias=False),
            ]
        )

    features = np.random.default_rng(0).normal(size=(12, 80)).astype(np.float32)
    return local_model(features, np.arange(68, 80, dtype=np.int32), build)[0]
