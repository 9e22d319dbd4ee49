import random

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models
from tfpriv.errors import UserError
from tfpriv.models.mixing import _splits

layers = tf.keras.layers


def sequential(*parts, shape=(6,)):
    return tf.keras.Sequential([layers.InputLayer(shape), *parts, layers.Dense(3)])


class Holder(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = {"a": [layers.Dense(4), layers.BatchNormalization(name="hidden_norm")]}

    def call(self, batch):
        for part in self.parts["a"]:
            batch = part(batch)
        return batch


def built(model, shape=(6,)):
    model(np.zeros((2, *shape), np.float32))
    return model


@pytest.mark.parametrize(
    "model",
    [
        lambda: sequential(layers.BatchNormalization(name="hidden_norm")),
        lambda: sequential(sequential(sequential(layers.BatchNormalization(name="hidden_norm")))),
        lambda: sequential(layers.BatchNormalization(name="hidden_norm", synchronized=True)),
        lambda: sequential(layers.experimental.SyncBatchNormalization(name="hidden_norm")),
        lambda: sequential(
            layers.TimeDistributed(layers.BatchNormalization(name="hidden_norm")), shape=(5, 2)
        ),
        lambda: built(Holder()),
    ],
    ids=["plain", "nested", "synchronized", "experimental", "TimeDistributed", "subclassed"],
)
def test_batch_normalization_is_refused_wherever_it_is(model):
    for refuse in (models.refuse_example_mixing, models.refuse_moving_state):
        with pytest.raises(
            UserError, match=r"hidden_norm.*GroupNormalization or LayerNormalization"
        ):
            refuse(model())


class Own(layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, batch, training=False):
        return self.function(batch, training)


def center(batch, training):
    return batch - tf.reduce_mean(batch, axis=0)


def center_in_training(batch, training):
    return center(batch, training) if training else batch


def center_without_gradient(batch, training):
    return batch - tf.stop_gradient(tf.reduce_mean(batch, axis=0))


@pytest.mark.parametrize("function", [center, center_in_training, center_without_gradient])
@pytest.mark.parametrize("end", [(), (layers.Dense(3, "softmax"),)])
def test_own_layer_that_mixes_examples_is_refused(function, end):
    with pytest.raises(UserError, match="depend on the other examples of the batch"):
        models.refuse_example_mixing(sequential(Own(function), *end))


def test_mixing_is_found_behind_dropout_and_a_softmax():
    model = tf.keras.Sequential(
        [
            layers.InputLayer((6,)),
            Own(center_in_training),
            layers.Dropout(0.5),
            layers.Dense(3, "softmax"),
        ]
    )
    with pytest.raises(UserError, match="depend on the other examples of the batch"):
        models.refuse_example_mixing(model)


@pytest.mark.parametrize("function", [center, center_in_training])
def test_own_layer_that_mixes_text_is_refused(function):
    model = sequential(layers.Embedding(3, 4), Own(function), layers.Flatten())
    with pytest.raises(UserError, match="depend on the other examples of the batch"):
        models.refuse_example_mixing(model)


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (layers.LayerNormalization(), layers.Dropout(0.5), layers.GaussianNoise(1.0)),
        (layers.Dense(4), layers.GroupNormalization(2)),
        (Own(lambda batch, training: batch + tf.random.normal(tf.shape(batch))),),
        (layers.Embedding(3, 4), layers.Bidirectional(layers.LSTM(2))),
    ],
    ids=["dense", "dropout", "GroupNormalization", "always random", "LSTM"],
)
def test_model_that_looks_at_one_example_at_a_time_is_taken(parts):
    models.refuse_example_mixing(sequential(*parts))


def tokens(*parts, head="glorot_uniform", dtype="int32"):
    return tf.keras.Sequential(
        [
            layers.InputLayer((6,), dtype=dtype),
            layers.Embedding(7, 4),
            *parts,
            layers.Flatten(),
            layers.Dense(3, kernel_initializer=head),
        ]
    )


def mixup(probability=1.0, weight=None):
    def mix(batch, training):
        if not training:
            return batch
        other = tf.gather(batch, tf.random.shuffle(tf.range(tf.shape(batch)[0])))
        own = tf.random.uniform([]) if weight is None else weight
        own = tf.where(tf.random.uniform([]) < probability, own, 1.0)
        return own * batch + (1 - own) * other

    return mix


def roll(shift):
    return lambda batch, training: batch + 0.5 * tf.roll(batch, shift, axis=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tokens(layers.Dropout(0.1), Own(center_in_training)),
        lambda: tokens(Own(mixup())),
        lambda: tokens(Own(mixup(weight=0.7))),
        lambda: sequential(layers.Dense(5), Own(mixup())),
        lambda: sequential(layers.Dense(5), Own(mixup(0.5))),
        lambda: sequential(layers.Dense(5), Own(mixup(weight=0.7))),
        lambda: sequential(layers.Dense(5), Own(roll(2))),
    ],
    ids=[
        "tokens dropout center",
        "tokens mixup",
        "tokens shuffle",
        "mixup",
        "rare mixup",
        "shuffle",
        "roll",
    ],
)
def test_mixing_is_refused_at_every_seed(make):
    for seed in range(10):
        tf.keras.utils.set_random_seed(seed)
        with pytest.raises(UserError, match="depend on the other examples of the batch"):
            models.refuse_example_mixing(make())


class OwnFunction(Own):
    @tf.function
    def call(self, batch, training=False):
        return self.function(batch, training)


class Gate(layers.Layer):
    def build(self, shape):
        self.gate = self.add_weight(name="gate", shape=(), initializer="zeros")

    def call(self, batch):
        return batch + self.gate * tf.reduce_mean(batch, axis=0)


class Backwards(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.head = layers.Dense(3, kernel_initializer="zeros")

    def call(self, batch):
        return self.head(tf.reverse(batch, [0]))


def blend_pairs(batch, training):
    pairs = tf.reshape(batch, [-1, 2, batch.shape[1]])
    return batch + tf.reshape(pairs[:, ::-1], tf.shape(batch))


def blend_by(draw):
    def blend(batch, training):
        return center(batch, training) if training and draw() < 0.5 else batch

    return blend


def blend_by_generator():
    generator = tf.random.Generator.from_seed(1)
    return lambda batch, training: tf.where(
        generator.uniform([]) < 0.5, center(batch, training), batch
    )


def give_to_one(batch, training):
    return batch + tf.one_hot(2, tf.shape(batch)[0])[:, None] * batch[5:6]


@pytest.mark.parametrize(
    "make",
    [
        lambda: sequential(Own(roll(8))),
        lambda: sequential(Own(roll(6))),
        lambda: sequential(Own(lambda batch, training: tf.cumsum(batch))),
        lambda: sequential(Own(lambda batch, training: tf.cumsum(batch, reverse=True))),
        lambda: sequential(Own(give_to_one)),
        lambda: sequential(Own(blend_pairs)),
        lambda: tokens(Own(lambda batch, training: batch - tf.reduce_max(batch, axis=0))),
        lambda: tokens(Own(center), head="zeros"),
        lambda: sequential(Gate()),
        lambda: built(Backwards()),
        lambda: sequential(layers.GaussianNoise(1.0), Own(center_without_gradient)),
        lambda: tokens(layers.Dropout(0.5, seed=4), Own(center_in_training)),
        lambda: tokens(Own(blend_by_generator()), layers.Dropout(0.5)),
        lambda: tokens(OwnFunction(mixup(0.5))),
        lambda: tokens(Own(blend_by(random.random))),
        lambda: sequential(Own(blend_by(np.random.random))),
        lambda: sequential(
            layers.Conv2D(2, 3), Own(center_in_training), layers.Flatten(), shape=(8, 8, 1)
        ),
        lambda: sequential(layers.Reshape((1,)), Own(center), shape=()),
    ],
    ids=[
        "roll by the first size",
        "roll by the second size",
        "cumsum",
        "reversed cumsum",
        "one to one",
        "pairs",
        "maximum",
        "zero head",
        "zero gate",
        "reversed batch",
        "no gradient behind noise",
        "seeded dropout",
        "own generator",
        "random tf.function",
        "Python's generator",
        "NumPy's generator",
        "image",
        "scalar",
    ],
)
def test_hidden_mixing_is_refused(make):
    tf.random.set_seed(None)
    with pytest.raises(UserError, match="depend on the other examples of the batch"):
        models.refuse_example_mixing(make())


def attention():
    inputs = tf.keras.Input((5, 4))
    outputs = layers.MultiHeadAttention(2, 4, dropout=0.3)(inputs, inputs)
    return tf.keras.Model(inputs, layers.Dense(3)(layers.Flatten()(outputs)))


def softmax_below_the_maximum_of_the_batch(batch, training):
    powers = tf.exp(batch - tf.reduce_max(batch))
    return powers / tf.reduce_sum(powers, axis=-1, keepdims=True)


def add_noise(batch, training):
    return batch + tf.random.normal(tf.shape(batch))


class BackAndForth(Backwards):
    def call(self, batch):
        return tf.reverse(super().call(batch), [0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: sequential(layers.Dropout(0.5, seed=3), layers.GaussianNoise(1.0)),
        lambda: sequential(
            layers.Conv2D(4, 3), layers.SpatialDropout2D(0.4), layers.Flatten(), shape=(8, 8, 1)
        ),
        lambda: sequential(layers.RandomContrast(0.3), layers.Flatten(), shape=(8, 8, 3)),
        lambda: tf.keras.Sequential(
            [
                layers.InputLayer((9,), dtype="int32"),
                layers.Embedding(5, 4, mask_zero=True),
                layers.LSTM(4, dropout=0.2, recurrent_dropout=0.2),
                layers.Dense(3),
            ]
        ),
        attention,
        lambda: sequential(layers.Lambda(lambda batch: batch * tf.random.uniform([]))),
        lambda: sequential(Own(softmax_below_the_maximum_of_the_batch)),
        lambda: sequential(
            layers.Rescaling(30.0), layers.Dense(4), Own(softmax_below_the_maximum_of_the_batch)
        ),
        lambda: sequential(Own(lambda batch, training: tf.nn.relu(batch - 100))),
        lambda: tokens(head="zeros"),
        lambda: built(BackAndForth()),
        lambda: tokens(OwnFunction(add_noise)),
        lambda: sequential(Own(lambda batch, training: batch * random.random())),
        lambda: tokens(layers.Dropout(0.1), dtype="int64"),
        lambda: tokens(dtype="float64"),
        lambda: sequential(layers.Conv1D(4, 3), layers.GlobalMaxPool1D(), shape=(9, 2)),
        lambda: sequential(layers.Conv2D(4, 3), layers.GlobalMaxPool2D(), shape=(None, None, 3)),
    ],
    ids=[
        "seeded dropout",
        "SpatialDropout",
        "no gradient",
        "recurrent dropout",
        "attention",
        "Lambda",
        "rounding",
        "rounding and no slope",
        "dead",
        "zero head",
        "reversed twice",
        "random tf.function",
        "Python's generator",
        "int64",
        "float64",
        "rank 3",
        "free size",
    ],
)
def test_what_looks_like_mixing_is_taken(make):
    tf.random.set_seed(None)
    models.refuse_example_mixing(make())


def test_search_for_mixing_leaves_weights_and_generators_as_they_were():
    generator = tf.random.Generator.from_seed(1)

    def add_own_noise(batch, training):
        return batch + generator.normal(tf.shape(batch))

    dropout = layers.Dropout(0.5, seed=3)
    model = sequential(dropout, Own(add_own_noise), Gate())
    variables = [*model.variables, generator.state]

    def state():
        return (
            [variable.numpy().tolist() for variable in variables],
            dropout._random_generator._seed,
            random.getstate(),
            np.random.get_state()[1:3],
            tf.config.functions_run_eagerly(),
        )

    tf.random.set_seed(None)
    before = state()
    with pytest.raises(UserError):
        models.refuse_example_mixing(model)
    np.testing.assert_equal(state(), before)
    assert tf.compat.v1.random.get_seed(None) == (None, None)


def test_search_for_mixing_does_not_make_seeded_draws_repeat():
    tf.keras.utils.set_random_seed(5)
    draws = []
    for _ in range(2):
        models.refuse_example_mixing(sequential(layers.Dropout(0.5)))
        draws.append(float(tf.random.uniform([])))
    assert draws[0] != draws[1]


def test_recurrent_dropout_leaves_a_model_whose_layers_can_be_listed():
    model = tf.keras.Sequential([layers.InputLayer((9, 2)), layers.LSTM(4, recurrent_dropout=0.2)])
    models.refuse_example_mixing(model)
    assert any(isinstance(module, layers.LSTM) for module in model.submodules)


def test_draws_that_no_seed_repeats_are_refused_where_no_gradient_tells():
    def add_foreign_noise(batch, training):
        noise = tf.numpy_function(lambda: np.float32(random.SystemRandom().random()), [], "float32")
        return batch + tf.reshape(noise, ())

    models.refuse_example_mixing(sequential(Own(add_foreign_noise)))
    with pytest.raises(UserError, match="random numbers that no seed repeats"):
        models.refuse_example_mixing(tokens(Own(add_foreign_noise)))
    with pytest.raises(UserError, match="depend on the other examples of the batch"):
        models.refuse_example_mixing(sequential(Own(add_foreign_noise), Own(center)))


def catalog_model(name):
    if name == "char_lstm":
        return models.build(name, (12,), 10, input_dtype="int32", label_shape=(12,))
    return models.build(name, (28, 28, 1), 10)


@pytest.mark.parametrize("name", models.NAMES)
def test_named_models_mix_no_examples_which_needs_no_trial(name):
    model = catalog_model(name)
    models.refuse_example_mixing(model, batch_sizes=(64,))
    assert not models.is_unproved(model)


def mixed_above(size, mix):
    return lambda batch, training: tf.where(tf.shape(batch)[0] > size, mix(batch), batch)


def add_mean(batch):
    return batch + tf.reduce_mean(batch, axis=0, keepdims=True)


def add_stopped_mean(batch):
    return batch + tf.stop_gradient(tf.reduce_mean(batch, axis=0, keepdims=True))


def give_last_to_first(batch):
    return tf.concat([batch[:1] + batch[-1:], batch[1:]], axis=0)


def give_first_to_last(batch):
    return tf.concat([batch[:-1], batch[:1] + batch[-1:]], axis=0)


@pytest.mark.parametrize(
    "mix", [add_mean, add_stopped_mean, give_last_to_first, give_first_to_last]
)
@pytest.mark.parametrize("make", [sequential, tokens])
def test_mixing_in_batches_of_the_size_that_runs_is_refused(make, mix):
    models.refuse_example_mixing(make(Own(mixed_above(40, mix))), batch_sizes=(10, 40))
    with pytest.raises(UserError, match="depend on the other examples of the batch"):
        models.refuse_example_mixing(make(Own(mixed_above(40, mix))), batch_sizes=(10, 41))


def test_mixing_behind_dropout_is_refused_in_batches_of_the_size_that_runs():
    model = tokens(layers.Dropout(0.5), Own(mixed_above(40, give_first_to_last)))
    with pytest.raises(UserError, match="depend on the other examples of the batch"):
        models.refuse_example_mixing(model, batch_sizes=(50,))


def test_model_that_reads_no_batch_of_the_size_that_runs_is_refused():
    def up_to_20(batch, training):
        with tf.control_dependencies([tf.debugging.assert_less(tf.shape(batch)[0], 21)]):
            return tf.identity(batch)

    models.refuse_example_mixing(sequential(Own(up_to_20)), batch_sizes=(20,))
    with pytest.raises(UserError, match="fails on random batches of 8, 6, 30 examples"):
        models.refuse_example_mixing(sequential(Own(up_to_20)), batch_sizes=(30,))


@pytest.mark.parametrize("size", [1, 2, 6, 8, 77, 256])
def test_each_example_is_changed_without_any_other(size):
    changed = np.array(_splits(size, np.random.default_rng(0))).T
    apart = (changed[:, np.newaxis] & ~changed[np.newaxis]).any(axis=2)
    assert apart.sum() == size * (size - 1)


def add_one(batch):
    return batch + 1


def with_operator():
    inputs = tf.keras.Input((4,))
    return tf.keras.Model(inputs, layers.Dense(3)(inputs + 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: sequential(Own(center)),
        lambda: sequential(layers.Lambda(lambda batch: 2 * batch)),
        lambda: sequential(layers.Dense(4, activation=lambda batch: 2 * batch)),
        lambda: sequential(layers.TimeDistributed(layers.Dense(4, add_one)), shape=(3, 2)),
        lambda: built(Backwards()),
        with_operator,
    ],
    ids=["layer", "Lambda", "activation", "wrapped activation", "model", "operator"],
)
def test_own_code_is_proved_by_no_trial(make):
    assert models.is_unproved(make())
