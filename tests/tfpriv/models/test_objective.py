import numpy as np
import pytest
import tensorflow as tf

from tfpriv.models import Objective

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(7, 4)).astype(np.float32)
LABELS = RNG.integers(0, 4, size=7).astype(np.int32)
LOGIT_ROWS = RNG.normal(size=(3, 5, 4)).astype(np.float32)
LABEL_ROWS = RNG.integers(0, 4, size=(3, 5)).astype(np.int32)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def cross_entropy(labels, logits):
    return -np.log(np.take_along_axis(softmax(logits), labels[..., None], -1))[..., 0]


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_classification_loss_is_cross_entropy_of_each_example(from_logits, dtype):
    outputs = LOGITS if from_logits else softmax(LOGITS)
    loss = Objective(task="classification", from_logits=from_logits).loss(
        LABELS.astype(dtype), tf.constant(outputs)
    )
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, cross_entropy(LABELS, LOGITS), rtol=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
def test_loss_with_a_label_at_each_position_is_their_mean(from_logits):
    outputs = LOGIT_ROWS if from_logits else softmax(LOGIT_ROWS)
    loss = Objective(task="classification", from_logits=from_logits).loss(
        LABEL_ROWS, tf.constant(outputs)
    )
    np.testing.assert_allclose(loss, cross_entropy(LABEL_ROWS, LOGIT_ROWS).mean(1), rtol=1e-5)


def test_correct_counts_the_largest_output():
    objective = Objective(task="classification")
    np.testing.assert_array_equal(
        objective.correct(LABELS, tf.constant(LOGITS)), LOGITS.argmax(-1) == LABELS
    )
    np.testing.assert_allclose(
        objective.correct(LABEL_ROWS, tf.constant(LOGIT_ROWS)),
        (LOGIT_ROWS.argmax(-1) == LABEL_ROWS).mean(1),
        rtol=1e-6,
    )


@pytest.mark.parametrize("label_shape", [(7,), (7, 1)])
@pytest.mark.parametrize("output_shape", [(7,), (7, 1)])
def test_squared_error_pairs_each_label_with_its_output(label_shape, output_shape):
    labels, outputs = RNG.normal(size=(2, 7)).astype(np.float32)
    loss = Objective(task="regression").loss(
        labels.reshape(label_shape), tf.constant(outputs.reshape(output_shape))
    )
    assert loss.shape == (7,)
    np.testing.assert_allclose(loss, (labels - outputs) ** 2, rtol=1e-6)


def test_squared_error_of_more_outputs_than_one_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError):
        Objective(task="regression").loss(np.zeros(7), tf.zeros([7, 2]))


def test_regression_has_no_right_answers():
    with pytest.raises(ValueError, match="no right answers"):
        Objective(task="regression").correct(np.zeros(7), tf.zeros([7, 1]))


def test_unknown_task_is_an_error():
    with pytest.raises(ValueError, match="ranking"):
        Objective(task="ranking")


@pytest.mark.parametrize("compiled", [False, True])
def test_loss_and_correct_are_the_same_in_a_graph(compiled):
    objective = Objective(task="classification")

    @tf.function(
        jit_compile=compiled,
        input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 4])],
    )
    def graph(labels, outputs):
        return objective.loss(labels, outputs), objective.correct(labels, outputs)

    loss, correct = graph(LABELS, LOGITS)
    np.testing.assert_allclose(loss, cross_entropy(LABELS, LOGITS), rtol=1e-5)
    np.testing.assert_array_equal(correct, LOGITS.argmax(-1) == LABELS)


def test_empty_batch_has_no_losses():
    assert Objective(task="classification").loss(LABELS[:0], tf.constant(LOGITS[:0])).shape == (0,)
    assert Objective(task="regression").loss(np.zeros((0,)), tf.zeros([0, 1])).shape == (0,)


def test_saturated_softmax_still_has_a_gradient_inside_a_graph():
    inputs = tf.keras.Input((4,))
    model = tf.keras.Model(inputs, tf.keras.layers.Softmax()(inputs))
    objective = Objective(task="classification", from_logits=False)

    @tf.function
    def gradient(features, labels):
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = objective.loss(labels, model(features))
        return tape.gradient(loss, features)

    found = gradient(tf.constant([[90.0, 0, 0, 0]]), tf.constant([1]))
    np.testing.assert_allclose(found, [[1.0, -1, 0, 0]], atol=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
def test_one_output_for_two_classes_is_that_of_keras_binary_cross_entropy(from_logits):
    logits, labels = 3 * RNG.normal(size=(9, 1)).astype(np.float32), np.arange(9) % 2
    outputs = tf.constant(logits if from_logits else 1 / (1 + np.exp(-logits)))
    objective = Objective(task="classification", from_logits=from_logits)
    expected = tf.keras.losses.binary_crossentropy(labels[:, None], outputs, from_logits)
    np.testing.assert_allclose(objective.loss(labels, outputs), expected, rtol=1e-4, atol=1e-6)
    right = (logits[:, 0] > 0) == labels
    np.testing.assert_array_equal(objective.correct(labels, outputs), right.astype(np.float32))
