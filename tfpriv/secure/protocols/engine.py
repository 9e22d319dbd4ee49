"""Brings tf-encrypted up on today's TensorFlow; nothing else in tfpriv imports it.

tf-encrypted 0.9.1 was made for TensorFlow 2.9.1. This module gives it back the two names that
TensorFlow lost, puts our native ops where it looks for its own, and throws away the protocol that
it builds while it is being imported, before it has secure randomness.
"""

import logging
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfpriv.secure import native


def _restore_while_v2():
    """Gives tf-encrypted the two private names of while_v2 that it imports."""
    from tensorflow.python.ops import while_v2

    if hasattr(while_v2, "glob_stateful_parallelism"):
        return
    build_while_op = while_v2._build_while_op

    def without_stateful_parallelism(*args, stateful_parallelism=None, **kwargs):
        del stateful_parallelism  # Iterations that hold state run one after the other.
        return build_while_op(*args, **kwargs)

    while_v2.glob_stateful_parallelism = False
    while_v2._build_while_op = without_stateful_parallelism


def _multiply_natively():
    """Gives tensors of 64-bit numbers the native matrix product and convolution."""
    ops = native.load()
    with tf.Graph().as_default():
        tensor_class = type(tensors.int64factory.tensor(np.zeros(1, np.int64)))
    matmul, conv2d = tensor_class.matmul, tensor_class.conv2d

    def native_matmul(self, other):
        if isinstance(other, tensor_class) and len(self.shape) == len(other.shape) == 2:
            return tensor_class(ops.int64_mat_mul(x=self.value, y=other.value))
        return matmul(self, other)

    def native_conv2d(self, other, strides, padding="SAME"):
        if not isinstance(other, tensor_class):
            return conv2d(self, other, strides, padding)
        return tensor_class(
            ops.int64_conv2d(
                x=self.value,
                y=other.value,
                strides=list(strides),
                padding=padding,
                data_format="NCHW",
            )
        )

    tensor_class.matmul, tensor_class.conv2d = native_matmul, native_conv2d


def _bring_up():
    ops = native.load()
    _restore_while_v2()
    logger = logging.getLogger("tf_encrypted")
    level = logger.level
    # While it is imported it looks for its own op libraries and says that it found none.
    logger.setLevel(logging.CRITICAL)
    try:
        # The protocol that it builds at once is built in a graph that nobody runs, so that
        # TensorFlow is not started, and its devices can still be chosen.
        with warnings.catch_warnings(), tf.Graph().as_default():
            warnings.simplefilter("ignore")
            import tf_encrypted
    finally:
        logger.setLevel(level)
    folder = "tf_encrypted.operations"
    modules: Mapping[str, Any] = sys.modules
    modules[f"{folder}.secure_random.secure_random"].secure_random_module = ops
    modules[f"{folder}.aux.aux"].aux_module = ops
    modules[f"{folder}.aux"].aux_module = ops  # a copy, which its tests look at
    modules[f"{folder}.tf_i128.tf_i128"].tf_i128 = ops
    modules[f"{folder}.dataset.write_record"].dataset_module = ops
    # That protocol would draw its seeds from TensorFlow's ordinary generator.
    tf_encrypted.set_protocol(None)
    return tf_encrypted


if TYPE_CHECKING:
    import tf_encrypted as tfe
    from tf_encrypted import tensor as tensors
    from tf_encrypted.protocol.aby3 import aby3_tensors
else:
    tfe = _bring_up()
    tensors = tfe.tensor
    aby3_tensors = sys.modules["tf_encrypted.protocol.aby3.aby3_tensors"]

# Of any protocol. What servers share, and what all of them know.
PrivateTensor: TypeAlias = tfe.protocol.TFEPrivateTensor
PublicTensor: TypeAlias = tfe.protocol.TFEPublicTensor

_multiply_natively()


def configuration(devices: Mapping[str, str]) -> tfe.LocalConfig:
    """Returns tf-encrypted's configuration of parties that run on these devices, by name."""
    config = tfe.LocalConfig(auto_add_unknown_players=False)
    config.players.extend(
        tfe.player.Player(name=name, index=index, device_name=device)
        for index, (name, device) in enumerate(devices.items())
    )
    return config
