"""Runs a model again with the random numbers that it drew before."""

import contextlib
import random
import re
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from tfpriv.models import structure
from tfpriv.models.probing import weights_kept, weights_moved_in_turn

_RANDOM_OPS = re.compile("Random|Rng|Normal|Uniform|Multinomial|Gamma|Poisson|Binomial|PyFunc")


class UnrepeatableError(Exception):
    """The model draws random numbers that no seed repeats."""


class Repeatable:
    """A model that draws the same random numbers whenever it is run over as many batches.

    Random operations of a graph start again from the seeds that they were traced with whenever
    TensorFlow is seeded. `tf.random.Generator` keeps its state in variables.

    Attributes:
        is_random: Whether the model seems to draw random numbers.
        draws_in_python: Whether it draws them from Python's or NumPy's global generator.
    """

    def __init__(self, model: tf.keras.Model, training: bool) -> None:
        """Traces the model, as in training or outside it."""
        self._model = model
        self._call = tf.function(
            lambda batch: model(batch, training=training),
            input_signature=[structure.input_spec(model)],
        )
        # Keras's random layers that were given a seed count it up at each eager call.
        self._own_seeds = [
            (generator, generator._seed) for generator in structure.random_generators_of(model)
        ]
        with self._seeded():
            traced = self._call.get_concrete_function()
            drawn = random.random(), np.random.random()
        with self._seeded():
            self.draws_in_python = drawn != (random.random(), np.random.random())
        self._variables = traced.variables
        self.is_random = self.draws_in_python or has_random_op(traced)

    def __call__(self, batches_of_rounds: Iterable[Iterable[tf.Tensor]]) -> list[np.ndarray]:
        """Returns the outputs for all batches; the weights are moved in even rounds."""
        outputs = []
        # Seeding is slow, as TensorFlow then prepares the graph anew.
        seeded = self._seeded() if self.is_random else contextlib.nullcontext()
        with seeded, weights_kept(self._variables):
            for number, batches in enumerate(batches_of_rounds):
                with weights_moved_in_turn(self._model, number):
                    outputs += [self._call(batch).numpy() for batch in batches]
        return outputs

    @contextlib.contextmanager
    def _seeded(self):
        tf.random.set_seed(0)
        random.seed(0)
        np.random.seed(0)
        try:
            # Several threads would share the draws out among a loop's steps in no fixed order.
            with context.function_executor_type("SINGLE_THREADED_EXECUTOR"):
                yield
        finally:
            for generator, seed in self._own_seeds:
                generator._seed = seed


def has_random_op(traced: tf.types.experimental.ConcreteFunction) -> bool:
    """Whether a function seems to draw random numbers, by the names of its operations."""
    graph = traced.graph.as_graph_def()
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    return any(_RANDOM_OPS.search(node.op) for node in nodes)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Puts Python's and NumPy's generators back after the block, and seeds TensorFlow's afresh."""
    # TensorFlow cannot give back its generator's state, but one without a seed has none.
    onward = random.getrandbits(32) if _is_seeded() else None
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        tf.random.set_seed(onward)
        random.setstate(states[0])
        np.random.set_state(states[1])


def _is_seeded():
    try:
        return tf.compat.v1.random.get_seed(None)[0] is not None
    except RuntimeError:  # Deterministic operations are on, and ask for a seed.
        return False


@contextlib.contextmanager
def functions_run_eagerly(eagerly: bool) -> Iterator[None]:
    """Has every `tf.function` run eagerly, or in a graph, for the block."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(eagerly)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
