import collections

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models
from tfpriv.errors import UserError

layers = tf.keras.layers


def sequential(*parts, shape=(6,)):
    return tf.keras.Sequential(
        [layers.InputLayer(shape), *parts, layers.Flatten(), layers.Dense(3)]
    )


class Own(layers.Layer):
    """Does something with the batch and passes it on."""

    def __init__(self, keep, in_graph=False, name="own"):
        super().__init__(name=name)
        self._keep = tf.function(keep) if in_graph else keep

    def call(self, batch, training=False):
        kept = self._keep(batch)
        if kept is None:
            return batch
        return kept


class AddsMetric(layers.Layer):
    def call(self, batch):
        self.add_metric(tf.reduce_sum(batch), name="seen", aggregation="mean")
        return batch


class HoldsMetric(layers.Layer):
    def __init__(self):
        super().__init__()
        self.seen = tf.keras.metrics.Mean(name="seen")

    def call(self, batch):
        self.seen.update_state(batch)
        return batch


class Counts(layers.Layer):
    def __init__(self, when):
        super().__init__()
        self._when = when

    def build(self, shape):
        self.calls = self.add_weight(name="calls", initializer="zeros", trainable=False)

    def call(self, batch, training=False):
        if training == self._when:
            self.calls.assign_add(1.0)
        return batch


class AddsUpdate(Counts):
    def call(self, batch, training=False):
        self.add_update(self.calls.assign(tf.reduce_mean(batch)))
        return batch


class MovesItsKernel(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(name="kernel", shape=shape[1:])

    def call(self, batch):
        self.kernel.assign(batch[0])
        return batch * self.kernel


def hidden():
    with tf.init_scope():
        return tf.Variable(0.0, name="hidden")


def writes_in_a_branch():
    variable = hidden()

    def keep(batch):
        def write():
            variable.assign(tf.reduce_sum(batch))
            return batch

        return tf.cond(tf.reduce_sum(batch) > 0, write, lambda: batch)

    return keep


def writes_in_a_loop():
    variable = hidden()

    def keep(batch):
        def body(i):
            variable.assign_add(tf.reduce_sum(batch))
            return i + 1

        with tf.control_dependencies([tf.while_loop(lambda i: i < 2, body, [0])[0]]):
            return tf.identity(batch)

    return keep


def writes_in_the_gradient():
    variable = hidden()

    @tf.custom_gradient
    def keep(batch):
        def gradient(upstream):
            variable.assign(tf.reduce_sum(upstream))
            return upstream

        return tf.identity(batch), gradient

    return keep


def scatters():
    with tf.init_scope():
        variable = tf.Variable(tf.zeros([3]), name="hidden")

    def keep(batch):
        variable.scatter_nd_add([[0]], batch[0, :1])

    return keep


@pytest.mark.parametrize(
    "make",
    [
        lambda: sequential(AddsMetric()),
        lambda: sequential(sequential(AddsMetric())),
        lambda: sequential(HoldsMetric()),
        lambda: sequential(AddsUpdate(True)),
        lambda: sequential(Counts(True)),
        lambda: sequential(Counts(False)),
        lambda: sequential(layers.TimeDistributed(MovesItsKernel()), shape=(5, 2)),
        lambda: sequential(Own(writes_in_a_branch())),
        lambda: sequential(Own(writes_in_a_loop())),
        lambda: sequential(Own(writes_in_a_loop(), in_graph=True)),
        lambda: sequential(layers.Dense(4), Own(writes_in_the_gradient())),
        lambda: sequential(Own(scatters())),
    ],
    ids=[
        "add_metric",
        "nested add_metric",
        "metric",
        "add_update",
        "in training",
        "outside training",
        "trainable weight",
        "branch",
        "loop",
        "loop in a tf.function",
        "custom gradient",
        "scatter",
    ],
)
def test_write_to_a_variable_is_refused(make):
    names = "calls|total|kernel|hidden"
    with pytest.raises(UserError, match=rf"writes to the variable \S*({names}):0 \(\w+ in "):
        models.refuse_moving_state(make())


def fills_a_table():
    with tf.init_scope():
        table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)

    def keep(batch):
        table.insert(tf.zeros([1], tf.int64), batch[0, :1])

    return keep


def fills_a_queue():
    with tf.init_scope():
        queue = tf.queue.FIFOQueue(9, [tf.float32])

    def keep(batch):
        queue.enqueue(tf.reduce_sum(batch))

    return keep


def fills_a_staging_area(batch):
    tf.raw_ops.Stage(values=[batch])


def shows(batch):
    tf.print(tf.reduce_sum(batch))


def draws_from_an_own_generator():
    generator = tf.random.Generator.from_seed(1)
    return lambda batch: batch + generator.normal(tf.shape(batch))


def writes_a_file(batch):
    tf.io.write_file("seen", tf.strings.as_string(tf.reduce_sum(batch)))


@pytest.mark.parametrize(
    ("keep", "op"),
    [
        (fills_a_table(), "LookupTableInsertV2"),
        (fills_a_queue(), "QueueEnqueueV2"),
        (shows, "PrintV2"),
        (writes_a_file, "WriteFile"),
        (fills_a_staging_area, "Stage"),
    ],
    ids=["table", "queue", "print", "file", "staging area"],
)
@pytest.mark.parametrize("in_graph", [False, True])
def test_what_keeps_or_shows_the_data_otherwise_is_refused(keep, op, in_graph):
    with pytest.raises(UserError, match=rf"\({op} in \S*/own/"):
        models.refuse_moving_state(sequential(Own(keep, in_graph)))


def test_generator_of_the_users_own_is_refused():
    with pytest.raises(UserError, match=r"writes to the variable .*\(RngReadAndSkip in .*own"):
        models.refuse_moving_state(sequential(Own(draws_from_an_own_generator())))


@pytest.mark.parametrize("stateful", [False, True])
def test_python_code_is_refused(stateful):
    def keep(batch):
        total = tf.numpy_function(np.sum, [batch], tf.float32, stateful=stateful)
        return batch + tf.reshape(total, [])

    with pytest.raises(UserError, match=r"runs Python code \(PyFunc\w* in .*/own/"):
        models.refuse_moving_state(sequential(Own(keep)))


def test_eager_python_code_is_refused():
    seen = []

    def keep(batch):
        tf.py_function(lambda values: seen.append(values.numpy()), [batch], [])

    with pytest.raises(UserError, match=r"runs Python code \(EagerPyFunc in .*/own/"):
        models.refuse_moving_state(sequential(Own(keep)))


class KeepsInPython(layers.Layer):
    def __init__(self, seen):
        super().__init__(name="keeper")
        self.seen = seen

    def call(self, batch):
        if isinstance(self.seen, dict):
            self.seen["last"] = batch
        elif isinstance(self.seen, list | collections.deque):
            self.seen.append(tf.reduce_sum(batch))
        else:
            self.seen = batch
        return batch


@pytest.mark.parametrize("seen", [list, dict, collections.deque, type(None)])
def test_layer_that_keeps_its_input_in_python_is_refused(seen):
    with pytest.raises(UserError, match=r"Layer keeper .* in its attribute 'seen'"):
        models.refuse_moving_state(sequential(KeepsInPython(seen())))


def frozen(layer):
    layer.trainable = False
    return layer


def looks_up():
    with tf.init_scope():
        pairs = tf.lookup.KeyValueTensorInitializer(
            tf.range(2, dtype=tf.int64), tf.constant([1.0, 2.0])
        )
        table = tf.lookup.StaticHashTable(pairs, 0.0)
    return lambda batch: table.lookup(tf.cast(batch, tf.int64))


def counts_in_a_loop(batch):
    values = tf.TensorArray(tf.float32, size=3)
    for i in tf.range(3):
        values = values.write(i, batch)
    tf.debugging.assert_all_finite(batch, "not finite")
    return tf.reduce_sum(values.stack(), axis=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sequential(layers.LayerNormalization(), layers.Dropout(0.5)),
        lambda: sequential(layers.Dropout(0.5, seed=1), layers.GaussianNoise(1.0)),
        lambda: sequential(layers.Dense(4), layers.GroupNormalization(2)),
        lambda: sequential(layers.Embedding(3, 4), layers.Bidirectional(layers.LSTM(2))),
        lambda: sequential(
            layers.Embedding(3, 4, mask_zero=True),
            layers.LSTM(2, dropout=0.2, recurrent_dropout=0.2),
        ),
        lambda: sequential(layers.Embedding(3, 4), layers.GRU(2), frozen(layers.Dense(4))),
        lambda: sequential(
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.RandomZoom(0.1),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomContrast(0.1),
            layers.RandomBrightness(0.1),
            layers.RandomCrop(6, 6),
            layers.Conv2D(4, 3),
            layers.SpatialDropout2D(0.4),
            shape=(8, 8, 3),
        ),
        lambda: sequential(layers.Dense(4, activity_regularizer="l2")),
        lambda: sequential(Own(looks_up())),
        lambda: sequential(Own(counts_in_a_loop, in_graph=True)),
        lambda: sequential(Own(lambda batch: batch + tf.random.normal(tf.shape(batch)))),
        lambda: sequential(layers.Dense(4), layers.Lambda(lambda batch: tf.nn.dropout(batch, 0.5))),
    ],
    ids=[
        "dropout",
        "seeded dropout",
        "GroupNormalization",
        "LSTM",
        "recurrent dropout",
        "GRU, frozen",
        "augmentation",
        "regularizer",
        "lookup",
        "TensorArray",
        "noise",
        "Lambda",
    ],
)
def test_model_that_keeps_nothing_is_taken(make):
    models.refuse_moving_state(make())


def test_dropout_by_keras_generators_is_taken():
    tf.keras.backend.experimental.enable_tf_random_generator()
    try:
        models.refuse_moving_state(sequential(layers.Dropout(0.5)))
    finally:
        tf.keras.backend.experimental.disable_tf_random_generator()


@pytest.mark.parametrize("name", models.NAMES)
def test_named_models_suit_every_kind_of_training(name):
    shape, kwargs = ((28, 28, 1), {})
    if name == "char_lstm":
        shape, kwargs = ((12,), {"input_dtype": "int32", "label_shape": (12,)})
    model = models.build(name, shape, 10, **kwargs)
    models.refuse_moving_state(model)
    models.refuse_regularization(model)


def test_refusal_leaves_the_variables_as_they_were():
    model = sequential(Counts(True), AddsMetric())
    model(np.ones((2, 6), np.float32))
    before = [variable.numpy().tolist() for variable in (*model.weights, *model.metrics[0].weights)]
    with pytest.raises(UserError):
        models.refuse_moving_state(model)
    after = [variable.numpy().tolist() for variable in (*model.weights, *model.metrics[0].weights)]
    assert after == before


@pytest.mark.parametrize("kind", ["kernel_regularizer", "activity_regularizer"])
def test_regularization_is_refused(kind):
    model = sequential(layers.Dense(4, **{kind: "l2"}))
    models.inspect(model, (6,), 3)
    with pytest.raises(UserError, match="has 1 regularization loss"):
        models.refuse_regularization(model)
