"""Through the layers of a network on shares, forward and back."""

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfpriv.secure.layers import trained_of
from tfpriv.secure.layers.keras_layers import in_order
from tfpriv.secure.layers.trained import TrainedLayer
from tfpriv.secure.protocols.engine import PrivateTensor
from tfpriv.secure.protocols.protocol import Protocol
from tfpriv.secure.training.overflow import Check

Network = Sequence[TrainedLayer]


def network_of(model: tf.keras.Model) -> list[TrainedLayer]:
    """Returns the layers that do what a Keras model does, in order; its weights are its own.

    Raises:
        UserError: if a layer, or a setting of one, has no form on shares here; it is named.
    """
    return [trained for layer in in_order(model) for trained in trained_of(layer)]


def by_layer(network: Network, weights: Sequence[Any]) -> list[list[Any]]:
    """Returns a list of weights as one list a layer."""
    remaining = iter(weights)
    return [[next(remaining) for _ in range(layer.num_weights)] for layer in network]


def forward(
    prot: Protocol,
    network: Network,
    weights: Sequence[Sequence[Any]],
    x: PrivateTensor,
    check: Check | None = None,
) -> tuple[PrivateTensor, list[Any]]:
    """Returns the outputs for private examples, and what each layer needs on the way back.

    Args:
        prot: The protocol.
        network: Layers, as `network_of` returns them.
        weights: The weights of each layer, all private or all public.
        x: [batch, ...].
        check: What looks at each layer's output; None looks at nothing.
    """
    caches = []
    for index, (layer, layer_weights) in enumerate(zip(network, weights, strict=True)):
        with tf.name_scope(layer.kind):
            x, cache = layer.forward(prot, layer_weights, x)
        caches.append(cache)
        if check:
            check.outputs(index, x)
    return x, caches


def gradients(
    prot: Protocol,
    network: Network,
    weights: Sequence[Sequence[Any]],
    caches: Sequence[Any],
    d_y: PrivateTensor,
    check: Check | None = None,
) -> list[PrivateTensor]:
    """Returns the gradients of all weights, at twice the scale, for that of the outputs.

    A check looks at the gradient with respect to each layer's output.
    """
    all_gradients: list[PrivateTensor] = []
    for index, d in gradients_of_outputs(prot, network, weights, caches, d_y):
        if check:
            check.gradients(index, d)
        with tf.name_scope(f"{network[index].kind}_gradients"):
            layer_gradients = network[index].gradients(prot, weights[index], caches[index], d)
        all_gradients = [*layer_gradients, *all_gradients]
    return all_gradients


def gradients_of_outputs(
    prot: Protocol,
    network: Network,
    weights: Sequence[Sequence[Any]],
    caches: Sequence[Any],
    d_y: PrivateTensor,
) -> Iterator[tuple[int, PrivateTensor]]:
    """Yields (layer's number, gradient of its output) from the last layer to the first weights."""
    for index in reversed(range(len(network))):
        yield index, d_y
        if not any(layer.num_weights for layer in network[:index]):
            return
        with tf.name_scope(f"{network[index].kind}_input"):
            d_y = network[index].d_input(prot, weights[index], caches[index], d_y)
