import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models
from tfpriv.errors import UserError

layers = tf.keras.layers
DATA = ((6,), 3)


def sequential(*parts, shape=(6,)):
    return tf.keras.Sequential([layers.InputLayer(shape), *parts])


def functional(function, shape=(6,)):
    inputs = tf.keras.Input(shape)
    return tf.keras.Model(inputs, function(inputs))


class Subclassed(tf.keras.Model):
    """Applies a function to the outputs of a dense layer."""

    def __init__(self, function, units=3):
        super().__init__()
        self.dense = layers.Dense(units)
        self.function = function

    def call(self, batch):
        return self.function(self.dense(batch))

    def get_config(self):
        return {}


@pytest.mark.parametrize(
    "model",
    [
        lambda: sequential(layers.Dense(3, activation="softmax")),
        lambda: sequential(layers.Dense(3), layers.Softmax()),
        lambda: sequential(layers.Dense(3), layers.Activation("softmax")),
        lambda: sequential(sequential(layers.Dense(3, activation=tf.nn.softmax))),
        lambda: functional(lambda x: tf.nn.softmax(layers.Dense(3)(x))),
        lambda: functional(lambda x: layers.Lambda(tf.nn.softmax)(layers.Dense(3)(x))),
        lambda: Subclassed(tf.nn.softmax),
    ],
    ids=["string", "Softmax", "Activation", "nested", "operation", "Lambda", "subclassed"],
)
def test_softmax_is_recognized(model):
    assert not models.inspect(model(), *DATA).from_logits


@pytest.mark.parametrize(
    "model",
    [
        lambda: sequential(layers.Dense(3)),
        lambda: sequential(layers.Dense(3, kernel_initializer="zeros")),
        lambda: sequential(layers.Dense(3, activation="relu")),
        lambda: sequential(layers.Dense(3, activation=tf.nn.log_softmax)),
        lambda: Subclassed(tf.identity),
    ],
)
def test_other_outputs_are_taken_for_logits(model):
    assert models.inspect(model(), *DATA).from_logits


def test_softmax_at_each_position_is_recognized():
    model = sequential(layers.Embedding(5, 4), layers.Dense(5, "softmax"), shape=(7,))
    info = models.inspect(model, (7,), 5, input_dtype="int32", label_shape=(7,))
    assert not info.from_logits


@pytest.mark.parametrize("rank", [1, 2])
def test_regression_may_give_a_column_or_a_row(rank):
    model = Subclassed(lambda x: tf.squeeze(x, -1) if rank == 1 else x, units=1)
    assert models.inspect(model, (6,), 1, "regression").num_parameters == 7


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: sequential(layers.Dense(7)),
            r"has shape \[batch, 7\], and 3 classes need \[batch, 3\]; give its last layer 3 units",
        ),
        (
            lambda: sequential(layers.Reshape((6, 1)), layers.Dense(3)),
            r"has shape \[batch, 6, 3\], .*end in 3 outputs for each label",
        ),
        (lambda: functional(lambda x: [layers.Dense(3)(x)] * 2), "returns a list of outputs"),
        (lambda: functional(lambda x: {"a": layers.Dense(3)(x)}), "returns a dict of outputs"),
        (lambda: sequential(layers.Dense(3), shape=(5,)), r"cannot read .* \[2, 6\] .*ValueError"),
        (
            lambda: sequential(layers.Dense(3, activation="sigmoid")),
            "do not sum to 1, as those of sigmoids",
        ),
        (lambda: sequential(layers.Softmax(), layers.Lambda(lambda x: x[:, :3])), "no weights to"),
        (lambda: sequential(layers.Dense(3, trainable=False)), "no weights to train"),
        (lambda: Subclassed(lambda x: tf.math.log(x - x - 1.0)), "outputs are not finite"),
        (
            lambda: sequential(layers.Dense(3, bias_initializer=tf.constant_initializer(np.nan))),
            "initial weight dense.*bias.* not finite",
        ),
        (lambda: Subclassed(lambda x: tf.cast(x > 0, tf.int32)), "outputs are int32"),
        (lambda: Subclassed(lambda x: tf.cast(x > 0, tf.float32)), "No gradient reaches"),
        (lambda: Subclassed(lambda x: x[:1]), "makes 1 outputs of a batch of 2"),
        (lambda: Subclassed(lambda x: tf.constant(x.numpy())), "not inside a TensorFlow graph"),
        (
            lambda: Subclassed(lambda x: x + tf.Variable(1.0)),
            "not inside a TensorFlow graph.*singleton",
        ),
        (lambda: sequential(layers.Dense(3, dtype="float64")), "computes in float64"),
        (lambda: sequential(layers.Dense(3, dtype="mixed_float16")), "computes in float16"),
        (
            lambda: tf.keras.Sequential([layers.Dense(3, batch_input_shape=(32, 6))]),
            "exactly 32 examples",
        ),
        (lambda: tf.keras.layers.Dense(3), "The model is a layer"),
        (lambda: len, "The model is an object of type builtin_function_or_method"),
    ],
)
def test_model_that_cannot_be_trained_is_refused(model, message):
    with pytest.raises(UserError, match=message) as caught:
        models.inspect(model(), *DATA)
    assert "\n" not in str(caught.value)


class _Gated(tf.keras.Model):
    """Its layer defined last is a sigmoid gate inside."""

    def __init__(self, units):
        super().__init__()
        self.head, self.gate = layers.Dense(units), layers.Dense(6, activation="sigmoid")

    def call(self, inputs):
        return self.head(inputs * self.gate(inputs))


@pytest.mark.parametrize(
    ("model", "classes", "from_logits"),
    [
        (lambda: sequential(layers.Dense(1, activation="sigmoid")), 2, False),
        (lambda: sequential(layers.Dense(1)), 2, True),
        (lambda: sequential(layers.Dense(1, kernel_initializer="zeros")), 2, True),
        # By chance between 0 and 1 at its first weights.
        (lambda: sequential(layers.Dense(1, "linear", True, "zeros", "ones")), 2, True),
        (lambda: _Gated(1), 2, True),
        (lambda: _Gated(3), 3, True),
        (
            lambda: sequential(layers.Dense(3, kernel_initializer="zeros"), layers.Softmax()),
            3,
            False,
        ),
        (lambda: functional(lambda x: 1 / (1 + tf.exp(-layers.Dense(1)(x)))), 2, False),
    ],
)
def test_what_outputs_are_is_told_by_what_they_are(model, classes, from_logits):
    built = model()
    built(tf.zeros((2, 6)))
    before = [weight.numpy() for weight in built.weights]
    assert models.inspect(built, (6,), classes).from_logits is from_logits
    for weight, value in zip(built.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_stateful_recurrence_is_refused_also_inside_a_wrapper():
    inner = layers.Bidirectional(layers.LSTM(2, return_sequences=True))
    outer = layers.Bidirectional(layers.GRU(2, stateful=True))
    inputs = tf.keras.Input((4, 2))
    inner(inputs)  # A wrapped layer that keeps no state is fine.
    model = tf.keras.Sequential([inner, layers.Dense(3)])
    models.inspect(tf.keras.Sequential([model, layers.Lambda(lambda x: x[:, 0])]), (4, 2), 3)
    model = tf.keras.Sequential([outer, layers.Dense(3)])
    with pytest.raises(UserError, match="is stateful"):
        models.inspect(model, (4, 2), 3)


def test_compiled_model_is_taken_and_a_note_names_what_is_not_used():
    model = sequential(layers.Dense(3))
    model.compile(tf.keras.optimizers.Adam(), "mse", metrics=[tf.keras.metrics.AUC(), "mae"])
    (note,) = models.inspect(model, *DATA).notes
    assert note == (
        "The model is compiled; its compile settings (optimizer Adam, loss mse, metrics) are not "
        "used: the flags decide."
    )


def test_compiled_and_fitted_model_is_taken():
    model = sequential(layers.Dense(3))
    model.compile("sgd", tf.keras.losses.MeanSquaredError(), metrics=["mae"])
    model.fit(np.zeros((4, 6)), np.zeros((4, 3)), verbose=0)
    (note,) = models.inspect(model, *DATA).notes
    assert "optimizer SGD, loss MeanSquaredError, metrics" in note


def test_metrics_that_a_model_holds_are_not_taken_for_stateful_layers():
    model = Subclassed(tf.identity)
    model.seen = tf.keras.metrics.Mean()
    assert models.inspect(model, *DATA).num_parameters == 21


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Dense(3, kernel_regularizer="l2"),
        lambda: layers.Dense(3, activity_regularizer="l2"),
    ],
)
def test_regularization_is_reported(layer):
    assert models.inspect(sequential(layer()), *DATA).has_regularization


def test_frozen_and_unused_weights_are_counted_and_noted():
    class Extra(Subclassed):
        def __init__(self):
            super().__init__(tf.identity)
            self.unused = self.add_weight(name="idle", shape=(4,))
            self.frozen = self.add_weight(name="ice", shape=(5,), trainable=False)

    info = models.inspect(Extra(), *DATA)
    assert info.num_parameters == 21 + 4
    assert "5 of the model's 30 parameters are not trained." in info.notes
    assert any("do not depend on idle" in note for note in info.notes)


def test_saving_of_own_classes_and_lambdas_is_explained():
    notes = models.inspect(Subclassed(tf.identity), *DATA).notes
    assert any("custom_objects={'Subclassed': Subclassed}" in note for note in notes)
    notes = models.inspect(sequential(layers.Dense(3), layers.Lambda(lambda x: x)), *DATA).notes
    assert any("safe_mode=False, as lambda" in note for note in notes)


def test_model_that_could_not_be_saved_at_the_end_is_refused_at_the_start():
    class Own(layers.Layer):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale

        def call(self, batch):
            return self.scale(batch)

        def get_config(self):
            raise NotImplementedError("no config")

    with pytest.raises(UserError, match=r"cannot be saved .*get_config"):
        models.inspect(sequential(layers.Dense(3), Own(tf.identity)), *DATA)


def test_dropout_and_normalization_by_example_are_taken():
    model = sequential(
        layers.Dense(4),
        layers.LayerNormalization(),
        layers.GroupNormalization(2),
        layers.Dropout(0.5),
        layers.Dense(3),
    )
    before = model.get_weights()
    models.inspect(model, *DATA)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_recurrent_dropout_is_no_hindrance():
    model = tf.keras.Sequential(
        [
            layers.InputLayer((5,), dtype="int32"),
            layers.Embedding(7, 4),
            layers.LSTM(6, dropout=0.2, recurrent_dropout=0.2),
            layers.Dense(3),
        ]
    )
    models.inspect(model, (5,), 3, input_dtype="int32")
    models.refuse_example_mixing(model)
