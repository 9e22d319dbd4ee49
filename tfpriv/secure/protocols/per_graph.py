"""What each graph that a protocol computes in has for itself."""

import weakref
from typing import Any

import tensorflow as tf


class PerGraph:
    """A dictionary for each graph, and one for what runs at once.

    Keys that are drawn by operations of the graph in which they are used are drawn anew each time
    that it runs: at each call of a tf.function, at each iteration of a loop.
    """

    def __init__(self) -> None:
        self._eager: dict[str, Any] = {}
        self._of_graph: weakref.WeakKeyDictionary[tf.Graph, dict[str, Any]] = (
            weakref.WeakKeyDictionary()
        )

    def here(self) -> dict[str, Any]:
        """Returns the dictionary of the graph that is being built, empty at first."""
        if tf.executing_eagerly():
            return self._eager
        return self._of_graph.setdefault(tf.compat.v1.get_default_graph(), {})
