import random
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfpriv import models
from tfpriv.errors import UserError

MNIST = ((28, 28, 1), 10)
DIGITS = ((8, 8, 1), 10)
ADULT = ((108,), 2)
TEXT = {"input_dtype": "int32", "label_shape": (80,)}


@pytest.mark.parametrize(
    ("name", "data", "parameters"),
    [
        ("logistic", MNIST, 7_850),
        ("2nn", MNIST, 199_210),
        ("mlp", MNIST, 7_960),
        ("mlp_abadi", ((60,), 10), 71_010),
        ("cnn_mcmahan", MNIST, 1_663_370),
        ("cnn_tutorial", MNIST, 26_010),
        ("cnn_tanh", MNIST, 26_010),
        ("logistic", DIGITS, 650),
        ("cnn_mcmahan", DIGITS, 52_096 + (2 * 2 * 64 + 1) * 512 + 5_130),
        ("mlp", ADULT, 109 * 10 + 11 * 2),
        ("2nn", ADULT, 109 * 200 + 201 * 200 + 201 * 2),
    ],
)
def test_model_has_its_published_size_and_makes_logits(name, data, parameters):
    model = models.build(name, *data)
    info = models.inspect(model, *data)
    assert info.num_parameters == model.count_params() == parameters
    assert info.from_logits
    assert not info.has_regularization
    assert info.notes == ()


def test_mlp_on_diabetes_is_10_10_1():
    model = models.build("mlp", (10,), 1, task="regression")
    assert [w.shape.as_list() for w in model.weights] == [[10, 10], [10], [10, 1], [1]]
    assert models.inspect(model, (10,), 1, "regression").num_parameters == 121


def test_char_lstm_has_reddi_s_820522_parameters_and_logits_at_each_position():
    model = models.build("char_lstm", (80,), 90, **TEXT)
    info = models.inspect(model, (80,), 90, **TEXT)
    assert info.num_parameters == 820_522
    assert info.from_logits
    assert model(np.zeros((3, 80), np.int32)).shape == (3, 80, 90)


def test_tanh_cnn_is_the_tutorial_s_with_other_activations():
    relu, tanh = (models.build(name, *MNIST) for name in ("cnn_tutorial", "cnn_tanh"))
    activations = [
        [layer.activation.__name__ for layer in model.layers if hasattr(layer, "activation")]
        for model in (relu, tanh)
    ]
    assert activations == [["relu"] * 3 + ["linear"], ["tanh"] * 3 + ["linear"]]
    assert relu.layers[3].output_shape == (None, 4, 4, 32)


@pytest.mark.parametrize(
    ("name", "data", "kwargs", "remedy"),
    [
        ("cnn_tutorial", DIGITS, {}, "use --model=logistic or --model=2nn or --model=mlp or"),
        ("cnn_tanh", ((12, 28, 1), 10), {}, "--model=cnn_mcmahan"),
        ("cnn_mcmahan", ADULT, {}, "--model=2nn or --model=mlp or --model=mlp_abadi."),
        ("char_lstm", MNIST, {}, "--model=cnn_tutorial"),
        ("char_lstm", ((80,), 90), {}, "use --model=logistic"),
        ("2nn", ((80,), 90), TEXT, "use --model=char_lstm."),
        ("cnn_mcmahan", ((80,), 90), TEXT, "use --model=char_lstm."),
        ("char_lstm", ((80,), 2), {"input_dtype": "int64"}, "a model of your own"),
    ],
)
def test_model_that_does_not_suit_the_data_is_refused_with_those_that_do(
    name, data, kwargs, remedy
):
    with pytest.raises(UserError, match=f"--model={name} reads ") as caught:
        models.build(name, *data, **kwargs)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("name", ["cnn_mcmahan", "cnn_tutorial", "cnn_tanh"])
def test_smallest_image_that_is_taken_is_the_smallest_that_works(name):
    side = {"cnn_mcmahan": 4}.get(name, 13)
    models.build(name, (side, side, 3), 4)
    function = getattr(__import__("tfpriv.models.convolutional", fromlist=[name]), name)
    with pytest.raises(ValueError, match=r"Negative|One of the dimensions"):
        model = function((side - 1, side - 1, 3), 4)
        if model.layers[-1].kernel.shape[0] == 0:
            raise ValueError("One of the dimensions is 0")


def test_unknown_name_is_refused_with_the_names():
    with pytest.raises(UserError, match="--model=resnet is not known; choose one of logistic, 2nn"):
        models.build("resnet", *MNIST)


@pytest.mark.parametrize(
    ("task", "classes", "message"),
    [("regression", 3, "one output"), ("classification", 1, "at least 2 classes")],
)
def test_impossible_number_of_classes_is_refused(task, classes, message):
    with pytest.raises(UserError, match=message):
        models.build("mlp", (10,), classes, task=task)


@pytest.mark.parametrize("name", ["2nn", "cnn_tutorial", "char_lstm"])
def test_seed_decides_the_initial_weights(name):
    data = [(80,), 90] if name == "char_lstm" else MNIST
    kwargs = TEXT if name == "char_lstm" else {}
    first, again, other = (models.build(name, *data, seed=s, **kwargs) for s in (3, 3, 4))
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_building_with_a_seed_repeats_nothing_that_is_drawn_afterwards():
    draws = []
    for _ in range(2):
        models.build("logistic", *MNIST, seed=5)
        draws.append((float(tf.random.normal([])), np.random.rand(), random.random()))
    assert all(a != b for a, b in zip(*draws, strict=True))


def test_a_seeded_program_stays_reproducible_after_a_build():
    draws = []
    for _ in range(2):
        random.seed(1)
        models.build("logistic", *MNIST, seed=5)
        draws.append((float(tf.random.normal([])), np.random.rand(), random.random()))
    assert draws[0] == draws[1]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range_is_refused(seed):
    with pytest.raises(UserError, match=f"seed is {seed}"):
        models.build("logistic", *MNIST, seed=seed)


MINE = """
import tensorflow as tf

class Net(tf.keras.Model):
    def __init__(self, classes):
        super().__init__()
        self.flat = tf.keras.layers.Flatten()
        self.last = tf.keras.layers.Dense(classes)
    def call(self, x):
        return self.last(self.flat(x))

def sequential(input_shape, num_classes):
    return tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(num_classes)])

def subclassed(input_shape, num_classes):
    return Net(num_classes)

def broken(input_shape, num_classes):
    return tf.keras.layers.Dense(-1)

def nothing(input_shape, num_classes):
    Net(num_classes)

def three(input_shape, num_classes, width):
    return Net(num_classes)

def a_class(input_shape, num_classes):
    return Net

def a_layer(input_shape, num_classes):
    return tf.keras.layers.Dense(num_classes)

def a_pair(input_shape, num_classes):
    return Net(num_classes), "adam"

def a_function(input_shape, num_classes):
    return lambda x: x

def other_input(input_shape, num_classes):
    return tf.keras.Sequential([tf.keras.layers.Dense(num_classes, input_shape=(4,))])
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


@pytest.mark.parametrize("function", ["sequential", "subclassed"])
def test_user_s_function_in_a_file_is_built_and_seeded(mine, function):
    first, again = (models.build(f"{mine}:{function}", *MNIST, seed=1) for _ in range(2))
    assert models.inspect(first, *MNIST).num_parameters == 7_850
    np.testing.assert_array_equal(first.get_weights()[0], again.get_weights()[0])


def test_user_s_function_in_a_module_is_built(mine, monkeypatch):
    monkeypatch.syspath_prepend(mine.parent)
    assert models.build("mine:subclassed", *MNIST).count_params() == 7_850


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", "returned None, not a tf.keras.Model; return the model"),
        ("a_class", r"returned the class Net itself, not a tf.keras.Model; return Net\(...\)"),
        ("a_layer", r"returned a layer .*Dense.*; return tf.keras.Sequential"),
        ("a_pair", "returned an object of type tuple, not"),
        ("a_function", "returned an object of type function, not"),
        ("three", "cannot be called with the input shape and the number of classes .*width"),
        ("broken", r"failed for input shape .*ValueError: .*-1.* at line \d+ of .*mine.py"),
        ("other_input", r"cannot read a batch of shape \[2, 28, 28, 1\]"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_user_s_function_that_cannot_work_is_refused(mine, function, message):
    with pytest.raises(UserError, match=message) as caught:
        models.build(f"{mine}:{function}", *MNIST)
    assert "\n" not in str(caught.value)


def test_missing_file_and_module_are_refused():
    with pytest.raises(UserError, match=r"there is no file nowhere\.py"):
        models.build("nowhere.py:build", *MNIST)
    with pytest.raises(UserError, match="there is no module 'nowhere'"):
        models.build("nowhere:build", *MNIST)


def test_names_are_listed_without_importing_tensorflow():
    code = "import sys; from tfpriv import models; print(models.NAMES, 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{models.NAMES} False"
    for name in models.__all__:
        assert getattr(models, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = models.nothing
