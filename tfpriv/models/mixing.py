"""Refuses a model in which the examples of a batch influence each other."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.models import structure
from tfpriv.models.messages import first_line
from tfpriv.models.probing import weights_kept, weights_moved_in_turn
from tfpriv.models.repeatable import (
    Repeatable,
    UnrepeatableError,
    functions_run_eagerly,
    generators_kept,
    has_random_op,
)
from tfpriv.models.restrictions import SUBSTITUTE, refuse_batch_normalization

# What a statement has to say where `is_unproved`.
UNPROVED_MIXING = (
    "influence of one example on another's gradient in the model's own code, which was looked for "
    "on random batches of the sizes that run and was not found, but is not proved to be absent"
)

# Even, as layers that pair examples may read no odd batch; two, as a layer that shifts examples by
# one of them, or a multiple, shows at the other.
_SIZES = (8, 6)

# Random mixing shows in some draws only, so a model that draws is looked at in more rounds.
_STEADY_ROUNDS, _RANDOM_ROUNDS = 2, 8

# Above what rounding does, relative to the largest output. It may depend on other examples, as in a
# softmax that subtracts the batch's maximum.
_TOLERANCE = 1e-5

# The length of an axis for which the model names none.
_FREE_LENGTH = 32


def refuse_example_mixing(model: tf.keras.Model, batch_sizes: Sequence[int] = ()) -> None:
    """Refuses a model in which examples of a batch influence each other.

    Under example-level differential privacy each example's gradient is clipped by itself. That
    bounds an example's influence only if no other example's gradient depends on it.

    Batch normalization is found by its type, wherever it is nested. Layers of the user's own are
    found by what they do to random batches: some of the examples are changed, while the model
    repeats its random draws. The outputs of the others must stay, and have no gradient with respect
    to the changed ones. Of any two examples, each is changed at least once while the other is not.
    For gradients in batches of the sizes that run, and for models of Keras's own layers alone, one
    random split and its reverse have to do there.

    The model's variables and Python's and NumPy's generators are put back; TensorFlow's goes on
    from a fresh seed if it had one. What is not found: mixing in less than a tenth of the draws,
    mixing of values other than 0 and 1 alone, in batches of other sizes alone, or in the gradient's
    own code alone (`tf.custom_gradient`). See `is_unproved`.

    Args:
        model: A model that has been built.
        batch_sizes: Numbers of examples in the batches of the run, padding included, that are tried
            besides two small ones.

    Raises:
        UserError: if it mixes examples, with the layer's name, where one is known, and the
            substitute; if it reads tokens and draws numbers that no seed repeats; if it cannot read
            batches of such sizes.
    """
    refuse_batch_normalization(
        model,
        "which mixes the examples of a batch, so example-level differential privacy cannot hold",
    )
    sizes = sorted(set(batch_sizes) - {*_SIZES})
    try:
        is_mixing = _mixes_examples(model, sizes)
    except tf.errors.OpError as error:
        raise UserError(
            f"The model fails on random batches of {', '.join(map(str, (*_SIZES, *sizes)))} "
            f"examples ({first_line(error)}); let it read a batch of any size."
        ) from error
    if is_mixing:
        raise UserError(
            "The model's outputs for one example depend on the other examples of the batch, so "
            f"example-level differential privacy cannot hold; {SUBSTITUTE}."
        )


def is_unproved(model: tf.keras.Model) -> bool:
    """Whether only trials, and not the kinds of its layers, say that a model mixes no examples.

    Keras's own layers are known: of those that can mix examples, each does so in batches of any
    size and of any values, which `refuse_example_mixing` finds.

    Args:
        model: A model that `refuse_example_mixing` has taken.
    """
    return any(map(structure.has_own_code, [model, *structure.layers_of(model)]))


def _mixes_examples(model, sizes):
    moves = []
    try:
        with generators_kept(), weights_kept(model.variables):
            for training in (True, False):
                # Gradients are taken in training only, and large batches are slow.
                moves.append(_outputs_move(model, training, sizes if training else ()))
                if moves[-1]:
                    return True
            slopes = _has_gradient_across(model, sizes)
    finally:
        structure.forget_dropout_masks(model)
    if None in moves and slopes is None:
        raise UserError(
            "The model draws random numbers that no seed repeats, so it cannot be told whether it "
            "mixes the examples of a batch; draw them with tf.random or a tf.random.Generator."
        )
    return bool(slopes)


def _outputs_move(model, training, sizes):
    """Whether outputs depend on other examples; None if the model's draws cannot be repeated."""
    for eagerly in (False, True):
        with functions_run_eagerly(eagerly):
            try:
                return _others_move(model, training, sizes, eagerly)
            except UnrepeatableError:
                continue
    return None


def _others_move(model, training, sizes, eagerly):
    repeatable = Repeatable(model, training)
    if repeatable.draws_in_python and not eagerly:
        raise UnrepeatableError  # A graph holds one such draw for ever.
    rounds = [*_small_rounds(model, repeatable.is_random), *_rounds_of(model, sizes)]
    kept = [~rows for probe in rounds for rows in probe.rows]

    def first():
        return repeatable([probe.batch] * len(probe.rows) for probe in rounds)

    def changed():
        return repeatable(probe.changed() for probe in rounds)

    def differ(some, others):
        return any(map(_differ, some, others, kept))

    if repeatable.is_random:
        before = first()
    else:
        once = repeatable([probe.batch] for probe in rounds)
        before = [one for one, probe in zip(once, rounds, strict=True) for _ in probe.rows]
    after = changed()
    if not differ(before, after):
        return False
    before, again = first(), first()
    if differ(before, again) or differ(after, changed()):
        raise UnrepeatableError
    return differ(before, after)


def _differ(one, other, rows):
    bound = _TOLERANCE * max(_scale(one), _scale(other))
    return not np.allclose(one[rows], other[rows], rtol=0, atol=bound, equal_nan=True)


def _scale(values):
    values = np.abs(values)
    return values[np.isfinite(values)].max(initial=0)


def _has_gradient_across(model, sizes):
    """Whether outputs have a gradient with respect to other examples; None for tokens."""
    spec = structure.input_spec(model)
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
    rounds = [
        *_small_rounds(model, has_random_op(traced)),
        *(probe.of_one_split() for probe in _rounds_of(model, sizes)),
    ]
    with weights_kept(traced.variables):
        for number, probe in enumerate(rounds):
            with weights_moved_in_turn(model, number):
                for rows in probe.rows:
                    slopes, outputs = map(tf.convert_to_tensor, gradient(probe.batch, rows))
                    bound = _TOLERANCE * max(_scale(slopes), _scale(outputs))
                    if np.any(np.abs(slopes.numpy()[rows]) > bound):
                        return True
    return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Round:
    """A batch, its opposite, and which examples to change, bool [batch] each."""

    batch: tf.Tensor
    opposite: tf.Tensor
    rows: list[np.ndarray]

    def changed(self) -> Iterator[tf.Tensor]:
        column = (-1, *[1] * (len(self.batch.shape) - 1))
        for rows in self.rows:
            yield tf.where(rows.reshape(column), self.opposite, self.batch)

    def of_one_split(self) -> "_Round":
        return dataclasses.replace(self, rows=[self.rows[0], ~self.rows[0]])


def _small_rounds(model, is_random):
    for number in range(_RANDOM_ROUNDS if is_random else _STEADY_ROUNDS):
        yield _round(model, _SIZES[number % 2], seed=number)


def _rounds_of(model, sizes):
    rounds = [_round(model, size, seed=size) for size in sizes]
    if is_unproved(model):
        return rounds
    # What Keras's own layers do shows at any size.
    return [probe.of_one_split() for probe in rounds]


def _round(model, size, seed):
    spec = structure.input_spec(model)
    generator = np.random.default_rng(seed)
    batch, opposite = _random_rows(spec, size, generator)
    return _Round(batch=batch, opposite=opposite, rows=_splits(size, generator))


def _splits(size, generator):
    """Returns splits, bool [size] each, such that each example is changed without any other.

    An example is changed in half of the splits, and in a different half than any other example: so
    of two examples each is changed in a split in which the other is not.
    """
    count = 1
    while math.comb(count, count // 2) < size:
        count += 1
    halves = list(itertools.combinations(range(count), count // 2))
    chosen = [halves[i] for i in generator.permutation(len(halves))[:size]]
    return [np.array([split in half for half in chosen]) for split in range(count)]


def _random_rows(spec, size, generator):
    """A random batch and its opposite, of values 0 and 1: models may read floats as tokens.

    About half of the features are the same in all examples, so that even a maximum over the batch
    moves with any of them.
    """
    shape = [_FREE_LENGTH if side is None else side for side in spec.shape[1:]]
    rows = generator.integers(0, 2, (size, *shape))
    rows = np.where(generator.integers(0, 2, shape), rows, rows[:1])
    return tf.cast(rows, spec.dtype), tf.cast(1 - rows, spec.dtype)
