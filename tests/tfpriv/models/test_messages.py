import pytest
import tensorflow as tf

from tfpriv.models.messages import first_line


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_cause_is_found_inside_what_keras_wraps_around_it(graph, depth):
    class Broken(tf.keras.layers.Layer):
        def call(self, batch):
            raise ValueError("the cause is here.\nMore is said below.")

    model = Broken()
    for _ in range(depth):
        model = tf.keras.Sequential([model])

    def call(batch):
        return model(batch)

    with pytest.raises(ValueError) as caught:
        (tf.function(call) if graph else call)(tf.zeros([2, 3]))
    assert first_line(caught.value) == "ValueError: the cause is here"


def test_error_without_a_message_gives_its_type():
    assert first_line(NotImplementedError()) == "NotImplementedError: no message"
