import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models
from tfpriv.errors import UserError

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
@pytest.mark.parametrize("refuse", [models.refuse_example_mixing, models.refuse_moving_state])
def test_batch_normalization_is_refused_wherever_it_is(model, refuse):
    with pytest.raises(UserError, match=r"hidden_norm.*GroupNormalization or LayerNormalization"):
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
    model = sequential(*parts)
    models.refuse_example_mixing(model)
    models.refuse_moving_state(model)


@pytest.mark.parametrize("name", models.NAMES)
def test_named_models_suit_every_kind_of_training(name):
    shape, kwargs = ((28, 28, 1), {})
    if name == "char_lstm":
        shape, kwargs = ((12,), {"input_dtype": "int32", "label_shape": (12,)})
    model = models.build(name, shape, 10, **kwargs)
    models.refuse_example_mixing(model)
    models.refuse_moving_state(model)
    models.refuse_regularization(model)


def test_own_moving_state_is_refused_and_put_back():
    class Counter(layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight(name="calls", initializer="zeros", trainable=False)

        def call(self, batch, training=False):
            if training:
                self.calls.assign_add(1.0)
            return batch

    model = sequential(Counter())
    models.refuse_example_mixing(model)
    with pytest.raises(UserError, match=r"changes its weights .*calls"):
        models.refuse_moving_state(model)
    assert [w.numpy() for w in model.weights if "calls" in w.name] == [0.0]


@pytest.mark.parametrize("kind", ["kernel_regularizer", "activity_regularizer"])
def test_regularization_is_refused(kind):
    model = sequential(layers.Dense(4, **{kind: "l2"}))
    models.inspect(model, (6,), 3)
    with pytest.raises(UserError, match="has 1 regularization loss"):
        models.refuse_regularization(model)
