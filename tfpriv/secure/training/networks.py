"""The networks of tf-encrypted's benchmark of training, as Keras models.

They are those of its examples/models, and of its table of accuracies: A is network A of SecureML
(Mohassel, Zhang 2017), B of MiniONN (Liu et al. 2017), C LeNet, D of Chameleon (Riazi et al. 2018).
"""

from collections.abc import Sequence

import tensorflow as tf

from tfpriv.errors import UserError

_SMALLEST_SIDE = {"B": 16, "C": 16}


def build(name: str, input_shape: Sequence[int], num_outputs: int, seed: int) -> tf.keras.Model:
    """Returns a network with Keras's initial weights, the same for the same seed.

    Args:
        name: logistic (one logit), A (784-128-128-10), B and C (two convolutions with max pooling,
            then 100 or 500 units), or D (a convolution of stride 2, then 100 units).
        input_shape: The shape of one example; images [height, width, channels] for B, C and D.
        num_outputs: The number of logits; logistic has 1.
        seed: Decides the initial weights.

    Raises:
        UserError: if the network does not suit such examples.
    """
    side = _SMALLEST_SIDE.get(name, 1)
    if name in ("B", "C", "D") and (len(input_shape) != 3 or min(input_shape[:2]) < side):
        raise UserError(
            f"--network={name} reads images of shape [height, width, channels] of at least {side} "
            f"x {side} pixels, and these examples have the shape {list(input_shape)}; use "
            "--network=A or --model."
        )
    k = tf.keras.layers
    hidden = {
        "logistic": [k.Flatten()],
        "A": [k.Flatten(), k.Dense(128), k.ReLU(), k.Dense(128), k.ReLU()],
        "B": [*_convolutions(16, 16), k.Flatten(), k.Dense(100), k.ReLU()],
        "C": [*_convolutions(20, 50), k.Flatten(), k.Dense(500), k.ReLU()],
        "D": [k.Conv2D(5, 5, 2, "same"), k.ReLU(), k.Flatten(), k.Dense(100), k.ReLU()],
    }[name]
    model = tf.keras.Sequential([k.InputLayer(input_shape), *hidden, k.Dense(num_outputs)])
    _initialize(model, seed)
    return model


def _convolutions(*channels):
    """Convolution, pooling, ReLU: the maximum first leaves a quarter of the comparisons."""
    k = tf.keras.layers
    return [layer for n in channels for layer in (k.Conv2D(n, 5), k.MaxPooling2D(2), k.ReLU())]


def _initialize(model, seed):
    for index, variable in enumerate(model.trainable_weights):
        if len(variable.shape) > 1:
            initial = tf.keras.initializers.GlorotUniform(seed=seed * 1000 + index)
            variable.assign(initial(variable.shape))
