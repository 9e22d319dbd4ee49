"""Refuses what a model may not hold under a certain kind of training."""

import contextlib
import dataclasses
import random
import re

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from tfpriv.errors import UserError
from tfpriv.models import inspection
from tfpriv.models.probing import weights_kept, weights_moved

_SUBSTITUTE = "use GroupNormalization or LayerNormalization, which look at one example at a time"

# Even, as layers that pair examples may read no odd batch; two, as a layer that shifts examples by
# one of them, or a multiple, shows at the other.
_SIZES = (8, 6)

# Random mixing shows in some draws only, so a model that draws is looked at in more rounds.
_STEADY_ROUNDS, _RANDOM_ROUNDS = 2, 8

_RANDOM_OPS = re.compile("Random|Rng|Normal|Uniform|Multinomial|Gamma|Poisson|Binomial|PyFunc")

# Above what rounding does, relative to the largest output. It may depend on other examples, as in a
# softmax that subtracts the batch's maximum.
_TOLERANCE = 1e-5

# The length of an axis for which the model names none.
_FREE_LENGTH = 32


def refuse_example_mixing(model: tf.keras.Model) -> None:
    """Refuses a model in which examples of a batch influence each other.

    Under example-level differential privacy each example's gradient is clipped by itself. That
    bounds an example's influence only if no other example's gradient depends on it.

    Batch normalization is found by its type, wherever it is nested. Layers of the user's own are
    found by what they do to random batches of up to 8 examples: half of the examples are changed,
    every two examples apart at least once, while the model repeats its random draws. The outputs of
    the other half must stay, and have no gradient with respect to the changed ones.

    The model's variables and Python's and NumPy's generators are put back; TensorFlow's goes on
    from a fresh seed if it had one. What is not found: mixing in less than a tenth of the draws,
    mixing of values other than 0 and 1 alone, in larger batches alone, or in the gradient's own
    code alone (`tf.custom_gradient`).

    Args:
        model: A model that has been built.

    Raises:
        UserError: if it mixes examples, with the layer's name, where one is known, and the
            substitute; if it reads tokens and draws numbers that no seed repeats.
    """
    for layer in inspection.layers_of(model):
        if _is_batch_normalization(layer):
            raise UserError(
                f"Layer {layer.name} of the model is a {type(layer).__name__}, which mixes the "
                "examples of a batch, so example-level differential privacy cannot hold; "
                f"{_SUBSTITUTE}."
            )
    if _mixes_examples(model):
        raise UserError(
            "The model's outputs for one example depend on the other examples of the batch, so "
            f"example-level differential privacy cannot hold; {_SUBSTITUTE}."
        )


def refuse_regularization(model: tf.keras.Model) -> None:
    """Refuses a model with losses of its own, where only each example's loss is differentiated.

    Args:
        model: A model that has been built.

    Raises:
        UserError: if `model.losses` is not empty.
    """
    if model.losses:
        raise UserError(
            f"The model has {len(model.losses)} regularization losses, which belong to no example, "
            "so they cannot be clipped by example; build it without regularizers and add_loss."
        )


def refuse_moving_state(model: tf.keras.Model) -> None:
    """Refuses a model whose forward pass changes weights, as batch normalization's averages.

    In private training such weights would hold the data without noise. Federated clients send back
    what gradients changed. Averages that a client's forward pass moved
    would be lost, and the model evaluated with those it started from.

    Args:
        model: A model that has been built.

    Raises:
        UserError: if a call in training mode changes weights; names them and the substitute.
    """
    for layer in inspection.layers_of(model):
        if _is_batch_normalization(layer):
            raise UserError(
                f"Layer {layer.name} of the model is a {type(layer).__name__}, whose moving "
                f"averages federated training does not carry; {_SUBSTITUTE}."
            )
    before = model.get_weights()
    model(_random_rows(_input_spec(model), 2, seed=0)[0], training=True)
    moved = [
        weight.name
        for weight, old in zip(model.weights, before, strict=True)
        if not np.array_equal(weight.numpy(), old)
    ]
    if moved:
        model.set_weights(before)
        raise UserError(
            f"The model's forward pass changes its weights {', '.join(moved)}, which neither "
            "federated nor private training carries; leave out the layers that hold them."
        )


def _is_batch_normalization(layer):
    # SyncBatchNormalization is a subclass in one release of Keras and not in another.
    return any("BatchNormalization" in kind.__name__ for kind in type(layer).__mro__)


def _mixes_examples(model):
    moves = []
    try:
        with _generators_kept(), weights_kept(model.variables):
            for training in (True, False):
                moves.append(_outputs_move(model, training))
                if moves[-1]:
                    return True
            slopes = _has_gradient_across(model)
    finally:
        inspection.forget_dropout_masks(model)
    if None in moves and slopes is None:
        raise UserError(
            "The model draws random numbers that no seed repeats, so it cannot be told whether it "
            "mixes the examples of a batch; draw them with tf.random or a tf.random.Generator."
        )
    return bool(slopes)


def _outputs_move(model, training):
    """Whether outputs depend on other examples; None if the model's draws cannot be repeated."""
    for eagerly in (False, True):
        with _functions_run_eagerly(eagerly):
            try:
                return _halves_move(model, training, eagerly)
            except _UnrepeatableError:
                continue
    return None


def _halves_move(model, training, eagerly):
    repeatable = _Repeatable(model, training)
    if repeatable.draws_in_python and not eagerly:
        raise _UnrepeatableError  # A graph holds one such draw for ever.
    rounds = list(_rounds(model, repeatable.is_random))
    first = [[each.batch] * len(each.changed) for each in rounds]
    changed = [each.changed for each in rounds]
    kept = [~rows for each in rounds for rows in each.rows]

    def differ(some, others):
        return any(map(_differ, some, others, kept))

    if repeatable.is_random:
        before = repeatable(first)
    else:
        once = repeatable([[each.batch] for each in rounds])
        before = [one for one, each in zip(once, rounds, strict=True) for _ in each.rows]
    after = repeatable(changed)
    if not differ(before, after):
        return False
    before, again = repeatable(first), repeatable(first)
    if differ(before, again) or differ(after, repeatable(changed)):
        raise _UnrepeatableError
    return differ(before, after)


def _differ(one, other, rows):
    bound = _TOLERANCE * max(_scale(one), _scale(other))
    return not np.allclose(one[rows], other[rows], rtol=0, atol=bound, equal_nan=True)


def _scale(values):
    values = np.abs(values)
    return values[np.isfinite(values)].max(initial=0)


def _has_gradient_across(model):
    """Whether outputs have a gradient with respect to other examples; None for tokens."""
    spec = _input_spec(model)
    if not spec.dtype.is_floating:
        return None

    @tf.function(input_signature=[spec, tf.TensorSpec([None], tf.bool)])
    def gradient(batch, rows):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            outputs = model(batch, training=True)
            # A plain sum has no gradient through a softmax.
            weighted = outputs * tf.random.stateless_normal(tf.shape(outputs), (1, 2))
            total = tf.reduce_sum(tf.boolean_mask(weighted, ~rows))
        try:
            slopes = tape.gradient(total, batch)
        except LookupError:  # Some operations, such as those that adjust images, have no gradient.
            slopes = None
        return slopes, outputs

    traced = gradient.get_concrete_function()
    if traced.structured_outputs[0] is None:
        return None
    with weights_kept(traced.variables):
        for number, each in enumerate(_rounds(model, _has_random_op(traced))):
            with _weights_moved(model, number):
                for rows in each.rows:
                    slopes, outputs = map(tf.convert_to_tensor, gradient(each.batch, rows))
                    bound = _TOLERANCE * max(_scale(slopes), _scale(outputs))
                    if np.any(np.abs(slopes.numpy()[rows]) > bound):
                        return True
    return False


class _UnrepeatableError(Exception):
    pass


class _Repeatable:
    """A model that draws the same random numbers whenever it is run over as many batches.

    Random operations of a graph start again from the seeds that they were traced with whenever
    TensorFlow is seeded. `tf.random.Generator` keeps its state in variables.

    Attributes:
        is_random: Whether the model seems to draw random numbers.
        draws_in_python: Whether it draws them from Python's or NumPy's global generator.
    """

    def __init__(self, model, training):
        self._model = model
        self._call = tf.function(
            lambda batch: model(batch, training=training), input_signature=[_input_spec(model)]
        )
        self._own_seeds = _own_seeds(model)
        with self._seeded():
            traced = self._call.get_concrete_function()
            drawn = random.random(), np.random.random()
        with self._seeded():
            self.draws_in_python = drawn != (random.random(), np.random.random())
        self._variables = traced.variables
        self.is_random = self.draws_in_python or _has_random_op(traced)

    def __call__(self, batches_of_rounds):
        outputs = []
        # Seeding is slow, as TensorFlow then prepares the graph anew.
        seeded = self._seeded() if self.is_random else contextlib.nullcontext()
        with seeded, weights_kept(self._variables):
            for number, batches in enumerate(batches_of_rounds):
                with _weights_moved(self._model, number):
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


def _own_seeds(model):
    """Keras's random layers that were given a seed count it up at each eager call."""
    return [
        (value, value._seed)
        for layer in [model, *inspection.layers_of(model)]
        for value in vars(layer).values()
        if type(value).__name__ == "RandomGenerator"
    ]


def _has_random_op(traced):
    graph = traced.graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    return any(_RANDOM_OPS.search(node.op) for node in nodes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Round:
    """A batch, and variants of it with half of the examples changed: `rows`, bool [batch]."""

    batch: tf.Tensor
    changed: list[tf.Tensor]
    rows: list[np.ndarray]


def _rounds(model, is_random):
    for number in range(_RANDOM_ROUNDS if is_random else _STEADY_ROUNDS):
        batch, opposite = _random_rows(_input_spec(model), _SIZES[number % 2], seed=number)
        # Of any two examples' numbers some binary digit differs. Examples may influence the later
        # ones alone, so either half has its turn at either size.
        value = (number + number // 2) % 2
        rows = [(np.arange(len(batch)) >> digit) % 2 == value for digit in range(3)]
        column = (-1, *[1] * (len(batch.shape) - 1))
        changed = [tf.where(each.reshape(column), opposite, batch) for each in rows]
        yield _Round(batch=batch, changed=changed, rows=rows)


def _weights_moved(model, number):
    """Moves the weights in even rounds."""
    return contextlib.nullcontext() if number % 2 else weights_moved(model, number)


def _input_spec(model):
    return tf.nest.flatten(model.save_spec())[0]


def _random_rows(spec, size, seed):
    """A random batch and its opposite, of values 0 and 1: models may read floats as tokens.

    About half of the features are the same in all examples, so that even a maximum over the batch
    moves with any of them.
    """
    shape = [_FREE_LENGTH if side is None else side for side in spec.shape[1:]]
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 2, (size, *shape))
    rows = np.where(generator.integers(0, 2, shape), rows, rows[:1])
    return tf.cast(rows, spec.dtype), tf.cast(1 - rows, spec.dtype)


@contextlib.contextmanager
def _generators_kept():
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
def _functions_run_eagerly(eagerly):
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(eagerly)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
