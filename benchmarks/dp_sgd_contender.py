"""One contender of `benchmarks.dp_sgd_step`, in a process of its own.

  python -m benchmarks.dp_sgd_contender '{"contender": "ours", "model": "cnn_tutorial", ...}'

answers each line of standard input with a line of JSON: the seconds of a step and the process's
peak memory so far in MB. All train on the same random batch of MNIST's shape, on one thread.
"""

import json
import os
import resource
import sys
import time

import numpy as np

SHAPE = (28, 28, 1)
CLASSES = 10
LEARNING_RATE = 0.01
CLIP_NORM = 1.0
NOISE_MULTIPLIER = 1.0
_WARM_UP = 3
# One measurement is so many steps, or fewer where they take longer than this together.
IN_A_ROW, LONGEST_SECONDS = 20, 1.0


def random_batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns features [size, 28, 28, 1] and labels [size]."""
    generator = np.random.default_rng(0)
    features = generator.random((size, *SHAPE), np.float32)
    return features, generator.integers(CLASSES, size=size, dtype=np.int32)


def _keras_model(name):
    from tfpriv import models

    return models.build(name, SHAPE, CLASSES, seed=0)


def _loss(reduction="sum_over_batch_size"):
    import tensorflow as tf

    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)


def keras_fit(name: str, size: int):
    """Non-private training by `Model.fit`, as a user would."""
    import tensorflow as tf

    model = _keras_model(name)
    model.compile(tf.keras.optimizers.SGD(LEARNING_RATE), _loss())
    features, labels = (np.concatenate([part] * IN_A_ROW) for part in random_batch(size))

    def step():
        model.fit(features, labels, batch_size=size, verbose=0)
        return IN_A_ROW

    return step


def keras_loop(name: str, size: int):
    """Non-private training by the barest loop: one `tf.function` with nothing but the step."""
    import tensorflow as tf

    from tfpriv import models
    from tfpriv.central.step import PlainStep

    model = _keras_model(name)
    optimizer = tf.keras.optimizers.SGD(LEARNING_RATE, jit_compile=False)
    step = PlainStep(model, optimizer, models.Objective(task="classification"))
    batch = [tf.constant(part) for part in random_batch(size)]
    return lambda: step(*batch)


def ours(name: str, size: int):
    """tfpriv's step, with clipping, noise and optimizer, as its trainer takes it."""
    import tensorflow as tf

    from tfpriv import models, privacy
    from tfpriv.central.clipping import ClippedSum
    from tfpriv.central.step import PrivateStep

    model = _keras_model(name)
    batch = random_batch(size)
    plan = privacy.PrivacyPlan(
        unit="example",
        sampler=privacy.PoissonSampler(population=60_000, expected_size=size),
        mechanism=privacy.Gaussian(clip_norm=CLIP_NORM, noise_multiplier=NOISE_MULTIPLIER),
        delta=1e-5,
    )
    clipped_sum = ClippedSum(model, models.Objective(task="classification"), batch)
    optimizer = tf.keras.optimizers.SGD(LEARNING_RATE, jit_compile=False)
    step = PrivateStep(model, optimizer, clipped_sum, plan)
    present = np.ones(size, np.float32)
    return lambda: step([(*batch, present)])


def tfp_stock(name: str, size: int, vectorized: bool = False):
    """TensorFlow Privacy's DP Keras optimizers, a microbatch an example."""
    import tensorflow as tf
    import tensorflow_privacy as tfp

    model = _keras_model(name)
    kind = tfp.VectorizedDPKerasSGDOptimizer if vectorized else tfp.DPKerasSGDOptimizer
    optimizer = kind(
        l2_norm_clip=CLIP_NORM,
        noise_multiplier=NOISE_MULTIPLIER,
        num_microbatches=size,
        learning_rate=LEARNING_RATE,
    )
    model.compile(optimizer, _loss(tf.keras.losses.Reduction.NONE))
    return _on_batch(model, size)


def tfp_vectorized(name: str, size: int):
    """TensorFlow Privacy's vectorized optimizer."""
    return tfp_stock(name, size, vectorized=True)


def tfp_sequential(name: str, size: int, use_xla: bool = False):
    """TensorFlow Privacy's DPSequential with its own layer registry."""
    import tensorflow as tf
    from tensorflow_privacy.privacy.fast_gradient_clipping import layer_registry
    from tensorflow_privacy.privacy.keras_models.dp_keras_model import DPSequential

    model = DPSequential(
        l2_norm_clip=CLIP_NORM,
        noise_multiplier=NOISE_MULTIPLIER,
        use_xla=use_xla,
        layer_registry=layer_registry.make_default_layer_registry(),
        # With an input layer, as its fast way needs a graph of layers.
        layers=[tf.keras.layers.InputLayer(SHAPE), *_keras_model(name).layers],
    )
    model.compile(tf.keras.optimizers.SGD(LEARNING_RATE), _loss())
    return _on_batch(model, size)


def tfp_sequential_xla(name: str, size: int):
    """The same, compiled by XLA."""
    return tfp_sequential(name, size, use_xla=True)


def _on_batch(model, size):
    import tensorflow as tf

    batch = tuple(tf.constant(part) for part in random_batch(size))
    train = model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    return lambda: train(batches)


CONTENDERS = {
    function.__name__: function
    for function in (
        keras_fit,
        keras_loop,
        ours,
        tfp_stock,
        tfp_vectorized,
        tfp_sequential,
        tfp_sequential_xla,
    )
}


def answer(step) -> None:
    """Takes some steps for each line of standard input and answers with what one of them took.

    A number of steps in a row, as in training: after the other contenders the caches are cold.
    `step` returns how many steps it took, or anything else for one.
    """
    for _ in range(_WARM_UP):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        start, taken, seconds = time.perf_counter(), 0, 0.0
        while taken < IN_A_ROW and seconds < LONGEST_SECONDS:
            steps = step()
            taken += steps if isinstance(steps, int) else 1
            seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps({"seconds": seconds / taken, "peak_mb": peak}), flush=True)


def main() -> None:
    """Runs the contender that the job in the first argument names."""
    job = json.loads(sys.argv[1])
    for kind in ("INTRAOP", "INTEROP"):
        os.environ[f"TF_NUM_{kind}_THREADS"] = "1"
    from tfpriv import environment

    environment.quiet_tensorflow()
    answer(CONTENDERS[job["contender"]](job["model"], job["batch_size"]))


if __name__ == "__main__":
    main()
