import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models
from tfpriv.errors import UserError

layers = tf.keras.layers


class Holder(layers.Layer):
    """Holds state of every kind that a file or a checkpoint of the model holds."""

    def __init__(self):
        super().__init__(name="holder")
        self.metric = tf.keras.metrics.Mean(name="seen")
        self.generator = tf.random.Generator.from_seed(1)
        self.held = {"list": [tf.Variable(0.0, trainable=False, name="listed")]}

    def build(self, shape):
        self.average = self.add_weight(name="average", initializer="ones", trainable=False)

    def call(self, batch):
        return batch + 0.0 * self.average

    def move(self, value):
        self.metric.update_state(value)
        self.generator.normal([3])
        self.held["list"][0].assign(value)
        self.average.assign(value)


def build():
    augment = layers.RandomFlip()
    model = tf.keras.Sequential(
        [layers.InputLayer((4, 4, 1)), augment, Holder(), layers.Flatten(), layers.Dense(2)]
    )
    model(np.ones((2, 4, 4, 1), np.float32), training=True)
    model.layers[-1].kernel.assign(tf.ones([16, 2]))
    return model


def train(model, value, draws):
    """Moves the weights alike, and the rest by the private value and the size of the batch."""
    model.layers[1].move(value)
    for _ in range(draws):
        model(np.ones((2, 4, 4, 1), np.float32), training=True)
    model.layers[-1].kernel.assign(2 * tf.ones([16, 2]))


def checkpoint_contents(model, path):
    prefix = tf.train.Checkpoint(model=model).write(str(path))
    reader = tf.train.load_checkpoint(prefix)
    names = sorted(name for name in reader.get_variable_to_shape_map() if "GRAPH" not in name)
    return {name: reader.get_tensor(name).tolist() for name in names}


def saved(tmp_path, value, draws):
    model = build()
    state = models.FrozenState(model)
    train(model, value, draws)
    with state.put_back():
        models.save(model, tmp_path / "model.keras")
        return checkpoint_contents(model, tmp_path / "checkpoint"), tmp_path / "model.keras"


def test_what_is_saved_of_a_model_is_a_function_of_its_trained_weights(tmp_path):
    kept, files = [], []
    for number, (value, draws) in enumerate([(3.0, 1), (7.0, 5)]):
        (tmp_path / str(number)).mkdir()
        tf.keras.backend.clear_session()
        tf.keras.utils.set_random_seed(0)
        checkpoint, path = saved(tmp_path / str(number), value, draws)
        kept.append(checkpoint)
        loaded = tf.keras.models.load_model(path, custom_objects={"Holder": Holder})
        files.append([variable.numpy().tolist() for variable in tensors(loaded)])
    assert any("total" in name for name in kept[0])
    assert any("generator" in name for name in kept[0])
    assert any("list" in name for name in kept[0])
    assert kept[0] == kept[1]
    assert files[0] == files[1]
    assert [[2.0, 2.0]] * 16 in files[0]
    assert 3.0 not in files[0]


def tensors(model):
    return [*model.weights, *model.layers[1].metric.variables]


def test_training_goes_on_from_the_state_that_it_had():
    model = build()
    state = models.FrozenState(model)
    train(model, 3.0, 1)
    tracked = tf.train.TrackableView(model).descendants()
    variables = [each for each in tracked if isinstance(each, tf.Variable)]
    before = [variable.numpy().tolist() for variable in variables]
    with state.put_back():
        assert float(model.layers[1].average) == 1.0
        assert float(model.layers[1].metric.total) == 0.0
        np.testing.assert_array_equal(model.layers[-1].kernel, 2 * np.ones([16, 2]))
    assert [variable.numpy().tolist() for variable in variables] == before
    assert 3.0 in before


def test_variable_that_was_not_there_at_first_is_refused():
    model = build()
    state = models.FrozenState(model)
    model.layers[1].late = tf.Variable(0.0, name="late")
    refused = pytest.raises(UserError, match="made the variables late:0 while it was trained")
    with refused, state.put_back():
        pass
