"""The training examples, held once in memory for the trainer and its workers.

A client's data crosses from the trainer to a worker as row numbers, not as examples: the worker
maps the same memory. So a population costs its examples once and an index, and a round's traffic
is the model and a few kilobytes a client.
"""

import mmap
import os

import numpy as np
import tensorflow as tf


class SharedArray:
    """A read-only array in anonymous memory that other processes of this user can map.

    The memory goes when the last process that maps it ends; nothing is left on disk, even after
    `kill -9`.

    Attributes:
        array: The values, as a view of the shared memory.
    """

    def __init__(self, values: np.ndarray) -> None:
        """Copies `values`, of any shape and a fixed-size dtype, into shared memory."""
        values = np.ascontiguousarray(values)
        self._descriptor = os.memfd_create("tfpriv-examples")
        # An empty file cannot be mapped.
        os.ftruncate(self._descriptor, max(values.nbytes, 1))
        with mmap.mmap(self._descriptor, max(values.nbytes, 1)) as memory:
            memory[: values.nbytes] = values.reshape(-1).view(np.uint8).data
        view = mmap.mmap(self._descriptor, max(values.nbytes, 1), prot=mmap.PROT_READ)
        self.array = np.frombuffer(view, values.dtype, values.size).reshape(values.shape)

    def rows(self, indices: tf.Tensor) -> tf.Tensor:
        """Returns the rows at `indices`, in a graph that may run in another process.

        Args:
            indices: [k] int32 row numbers.
        """
        whole = tf.raw_ops.ImmutableConst(
            dtype=tf.as_dtype(self.array.dtype),
            shape=self.array.shape,
            memory_region_name=f"/proc/{os.getpid()}/fd/{self._descriptor}",
        )
        return tf.gather(whole, indices)

    def close(self) -> None:
        """Gives this process's handle back; `array` stays valid while it is referred to."""
        os.close(self._descriptor)


class Examples:
    """The training set in shared memory.

    Attributes:
        features: [n, ...] the features.
        labels: [n, ...] the labels.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Copies the examples into shared memory."""
        self.features = SharedArray(features)
        self.labels = SharedArray(labels)

    def rows(self, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns features and labels of the rows at `indices`, [k] int32."""
        return self.features.rows(indices), self.labels.rows(indices)

    def close(self) -> None:
        """Gives this process's handles back."""
        self.features.close()
        self.labels.close()
