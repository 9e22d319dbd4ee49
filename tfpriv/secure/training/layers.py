"""Layers of a network on shares, with their gradients.

tf-encrypted's own layers compute the gradient with respect to the data, which nobody needs and
which is a third of the work of a dense network, and compare anew in the backward pass what the
forward pass compared. These are made of its protocol's operations, keep the bits of each
comparison, and read Keras's layout: [batch, height, width, channels], kernels [h, w, in, out].

A layer's `forward` takes its weights and its input and returns the output and what is needed on the
way back. From the gradient of the output, `gradients` makes those of the weights, summed over the
batch and at twice the scale (see `fixed_point.product`), and `d_input` that of the input.
"""

import dataclasses

import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure.keras_layers import in_order, kind_of, refuse
from tfpriv.secure.protocols import fixed_point

KNOWN = ("Dense", "Conv2D", "MaxPooling2D", "Flatten", "ReLU", "Activation")


@dataclasses.dataclass(frozen=True)
class Dense:
    """y = x W + b."""

    num_weights = 2

    def forward(self, prot, weights, x):
        kernel, bias = weights
        return prot.matmul(x, kernel) + bias, x

    def gradients(self, prot, weights, x, d_y):
        return [
            fixed_point.matmul(prot, prot.transpose(x), d_y),
            fixed_point.at_twice_the_scale(prot, d_y.reduce_sum(axis=0)),
        ]

    def d_input(self, prot, weights, x, d_y):
        return prot.matmul(d_y, prot.transpose(weights[0]))


@dataclasses.dataclass(frozen=True)
class Conv2D:
    """A convolution as a matrix product of the input's patches with the kernel."""

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str

    num_weights = 2

    def forward(self, prot, weights, x):
        kernel, bias = weights
        patches = prot.im2patches(
            x, self.size, strides=self.strides, padding=self.padding, data_format="NHWC"
        )
        batch, height, width, length = (int(n) for n in patches.shape)
        patches = prot.reshape(patches, [batch * height * width, length])
        channels = int(kernel.shape[3])
        y = prot.matmul(patches, prot.reshape(kernel, [length, channels])) + bias
        return prot.reshape(y, [batch, height, width, channels]), (patches, x.shape)

    def gradients(self, prot, weights, cache, d_y):
        patches, _ = cache
        kernel, _ = weights
        batch, height, width, channels = (int(n) for n in d_y.shape)
        rows = prot.reshape(d_y, [batch * height * width, channels])
        d_kernel = fixed_point.matmul(prot, prot.transpose(patches), rows)
        return [
            prot.reshape(d_kernel, [int(n) for n in kernel.shape]),
            fixed_point.at_twice_the_scale(prot, rows.reduce_sum(axis=0)),
        ]

    def d_input(self, prot, weights, cache, d_y):
        # The convolution of the spread-out gradient with the kernel, turned around.
        kernel, _ = weights
        _, x_shape = cache
        d_y = prot.transpose(d_y, perm=[1, 2, 0, 3])
        if self.strides[0] > 1:
            d_y = prot.expand(d_y, self.strides[0])
        pads = []
        for size, stride, n, n_y in zip(
            self.size, self.strides, x_shape[1:3], d_y.shape[:2], strict=True
        ):
            before = 0
            if self.padding == "SAME":
                before = max((-(-int(n) // stride) - 1) * stride + size - int(n), 0) // 2
            first = size - 1 - before
            pads.append([first, int(n) + size - 1 - first - int(n_y)])
        d_y = prot.transpose(prot.pad(d_y, pads), perm=[2, 3, 0, 1])
        kernel = prot.transpose(kernel[::-1, ::-1], perm=[0, 1, 3, 2])
        d_x = prot.conv2d(d_y, kernel, [1, 1], "VALID")
        return prot.transpose(d_x, perm=[0, 2, 3, 1])


@dataclasses.dataclass(frozen=True)
class MaxPooling2D:
    """The largest value of each of the windows, which do not overlap.

    The values of a window meet in pairs; each comparison's bit later sends the gradient back.
    """

    size: tuple[int, int]

    num_weights = 0

    def forward(self, prot, weights, x):
        batch, height, width, channels = (int(n) for n in x.shape)
        rows, columns = height // self.size[0], width // self.size[1]
        inside = x[:, : rows * self.size[0], : columns * self.size[1], :]
        grid = [batch, rows, self.size[0], columns, self.size[1], channels]
        windows = prot.transpose(prot.reshape(inside, grid), perm=[2, 4, 0, 1, 3, 5])
        count = self.size[0] * self.size[1]
        values = prot.reshape(windows, [count, batch, rows, columns, channels])
        bits = []
        while count > 1:
            half = count // 2
            left, right, odd = values[:half], values[half : 2 * half], values[2 * half : count]
            bit = left > right
            bits.append(bit)
            best = prot.mul_ab(left - right, bit) + right
            values = prot.concat([best, odd], axis=0) if count % 2 else best
            count -= half
        return prot.reshape(values, [batch, rows, columns, channels]), (bits, x.shape)

    def gradients(self, prot, weights, cache, d_y):
        return []

    def d_input(self, prot, weights, cache, d_y):
        bits, x_shape = cache
        batch, rows, columns, channels = (int(n) for n in d_y.shape)
        d = prot.expand_dims(d_y, 0)
        for bit in reversed(bits):
            half = int(bit.shape[0])
            best, odd = d[:half], d[half:]
            left = prot.mul_ab(best, bit)
            parts = [left, best - left] + ([odd] if int(d.shape[0]) > half else [])
            d = prot.concat(parts, axis=0)
        windows = prot.reshape(d, [*self.size, batch, rows, columns, channels])
        grid = prot.transpose(windows, perm=[2, 3, 0, 4, 1, 5])
        height, width = rows * self.size[0], columns * self.size[1]
        d_x = prot.reshape(grid, [batch, height, width, channels])
        missing = [[0, 0], [0, int(x_shape[1]) - height], [0, int(x_shape[2]) - width], [0, 0]]
        return prot.pad(d_x, missing)


@dataclasses.dataclass(frozen=True)
class ReLU:
    """max(x, 0)."""

    num_weights = 0

    def forward(self, prot, weights, x):
        return prot.relu_with_cmp(x)

    def gradients(self, prot, weights, positive, d_y):
        return []

    def d_input(self, prot, weights, positive, d_y):
        return prot.mul_ab(d_y, positive)


@dataclasses.dataclass(frozen=True)
class Flatten:
    """One row an example."""

    num_weights = 0

    def forward(self, prot, weights, x):
        shape = [int(n) for n in x.shape]
        length = 1
        for n in shape[1:]:
            length *= n
        return prot.reshape(x, [shape[0], length]), shape

    def gradients(self, prot, weights, shape, d_y):
        return []

    def d_input(self, prot, weights, shape, d_y):
        return prot.reshape(d_y, shape)


def from_keras(model: tf.keras.Model) -> list:
    """Returns the layers that do what a Keras model does, in order; its weights are its own.

    Raises:
        UserError: if a layer, or a setting of one, has no form on shares here; it is named.
    """
    layers = []
    for layer in in_order(model):
        kind = kind_of(layer)
        if kind == "Dense":
            _refuse(layer, not layer.use_bias, "no bias", "use_bias=True")
            _refuse(layer, len(layer.input_shape) != 2, "inputs of several axes", "Flatten first")
            layers.append(Dense())
        elif kind == "Conv2D":
            _refuse(layer, not layer.use_bias, "no bias", "use_bias=True")
            _refuse(layer, layer.dilation_rate != (1, 1), "dilation", "dilation_rate=1")
            _refuse(layer, layer.groups != 1, "groups", "groups=1")
            _refuse_channels_first(layer)
            _refuse(layer, layer.strides[0] != layer.strides[1], "two strides", "one stride")
            layers.append(Conv2D(layer.kernel_size, layer.strides, layer.padding.upper()))
        elif kind == "MaxPooling2D":
            overlap = layer.strides != layer.pool_size or layer.padding != "valid"
            _refuse(layer, overlap, "windows that overlap or are padded", "strides=pool_size")
            _refuse_channels_first(layer)
            layers.append(MaxPooling2D(layer.pool_size))
        elif kind == "Flatten":
            layers.append(Flatten())
        elif kind == "ReLU":
            plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
            _refuse(layer, not plain, "a maximum, slope or threshold", "a plain ReLU")
            layers.append(ReLU())
        elif kind != "Activation":
            raise UserError(
                f"layer {layer.name} of the model is a {kind}, which cannot be trained on shares; "
                f"use {', '.join(KNOWN)}."
            )
        layers += _activation(layer)
    return layers


def _activation(layer):
    activation = getattr(layer, "activation", None)
    if activation is None or activation is tf.keras.activations.linear:
        return []
    if activation is tf.keras.activations.relu:
        return [ReLU()]
    name = getattr(activation, "__name__", str(activation))
    raise UserError(
        f"layer {layer.name} of the model has the activation {name}, which cannot be trained on "
        "shares; use relu, and logits (no activation) at the end."
    )


def _refuse(layer, is_so, what, remedy):
    if is_so:
        refuse(layer, what, remedy, "trained")


def _refuse_channels_first(layer):
    _refuse(layer, layer.data_format != "channels_last", "channels first", "channels_last")
