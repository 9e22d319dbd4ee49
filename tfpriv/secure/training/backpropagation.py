"""Through the layers of a network on shares, forward and back."""

import tensorflow as tf


def by_layer(network: list, weights: list) -> list[list]:
    """Returns a list of weights as one list a layer."""
    remaining = iter(weights)
    return [[next(remaining) for _ in range(layer.num_weights)] for layer in network]


def forward(prot, network: list, weights: list[list], x, check=None) -> tuple:
    """Returns the outputs for private examples, and what each layer needs on the way back.

    Args:
        prot: The protocol.
        network: Layers, as `layers.from_keras` returns them.
        weights: The weights of each layer, all private or all public.
        x: [batch, ...].
        check: An `overflow.Check` that looks at each layer's output; None looks at nothing.
    """
    caches = []
    for index, (layer, own) in enumerate(zip(network, weights, strict=True)):
        with tf.name_scope(type(layer).__name__):
            x, cache = layer.forward(prot, own, x)
        caches.append(cache)
        if check:
            check.outputs(index, x)
    return x, caches


def gradients(prot, network: list, weights: list[list], caches: list, d_y, check=None) -> list:
    """Returns the gradients of all weights, at twice the scale, for that of the outputs.

    An `overflow.Check` looks at the gradient with respect to each layer's output.
    """
    found = []
    for index, d in gradients_of_outputs(prot, network, weights, caches, d_y):
        if check:
            check.gradients(index, d)
        with tf.name_scope(f"{type(network[index]).__name__}_gradients"):
            own = network[index].gradients(prot, weights[index], caches[index], d)
        found = [*own, *found]
    return found


def gradients_of_outputs(prot, network: list, weights: list[list], caches: list, d_y):
    """Yields (layer's number, gradient of its output) from the last layer to the first weights."""
    for index in reversed(range(len(network))):
        yield index, d_y
        if not any(layer.num_weights for layer in network[:index]):
            return
        with tf.name_scope(f"{type(network[index]).__name__}_input"):
            d_y = network[index].d_input(prot, weights[index], caches[index], d_y)
