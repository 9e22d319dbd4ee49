"""Trains a network on secret-shared data, next to the same steps in the clear.

  python -m experiments.secure_training --network=logistic --optimizer=sgd --epochs=5

  python -m experiments.secure_training --dataset=diabetes --model=mlp --batch_size=16 --epochs=30

  python -m experiments.secure_training --network=logistic --target_epsilon=3 --epochs=5

It leaves a run directory: config.json, metrics.csv, TensorBoard events, plots/, model.keras (where
the weights are the outcome), privacy.json, privacy.txt and summary.json. A flag that has no meaning
under the other choices is an error.
"""

from absl import flags

from experiments import program
from experiments.program import Help
from tfpriv import datasets, models, runs, secure
from tfpriv.secure.training import config as training_config
from tfpriv.secure.training.config import SecureTrainingConfig

_HELPS = {
    "dataset": Help(
        f"What to train on: {', '.join(datasets.NAMES)}; or your own as module:function or "
        "path/to/file.py:function, a function that returns a tfpriv.datasets.Dataset. Text is not "
        "for shares."
    ),
    "data_dir": Help(
        "The folder for downloaded data; by default $TFPRIV_DATA_DIR, else tfpriv in the user's "
        "cache."
    ),
    "scaling": Help(
        "How tables (breast_cancer, diabetes, adult) are scaled: public (by constants) or "
        "standardized (by statistics of the training examples, which no epsilon covers). [public "
        "in a private run, else standardized]",
        datasets.scaling.NAMES,
    ),
    "network": Help(
        "A network of tf-encrypted's benchmark: logistic (the lower classes against the upper "
        "ones), A (128 and 128 ReLU units), B (convolutions 16 and 16, 100 units), C (convolutions "
        "20 and 50, 500 units), D (a convolution of stride 2, 100 units). [A, without --model]",
        training_config.NETWORKS,
    ),
    "model": Help(
        f"Instead of --network, a Keras model: {', '.join(models.NAMES)}; or your own as "
        "module:function or path/to/file.py:function, a function (input shape, number of classes) "
        "-> model. It may hold Dense, Conv2D, MaxPooling2D, Flatten and ReLU."
    ),
    "optimizer": Help("The optimizer.", training_config.OPTIMIZERS),
    "learning_rate": Help("The learning rate. [sgd 0.01, adam and amsgrad 0.001]", kind=float),
    "momentum": Help("With --optimizer=sgd. [0.9]", kind=float),
    "batch_size": Help("Examples in a batch; under privacy the expected number.", kind=int),
    "epochs": Help("Passes over the training examples, each in an order of its own.", kind=int),
    "max_steps": Help("Stop after so many batches.", kind=int),
    "protocol": Help("The protocol of the three servers.", training_config.PROTOCOLS),
    "players": Help(
        "local for three servers in this process, or a file (name -> host:port) of servers started "
        "by tfpriv.secure.player."
    ),
    "trusted_network": Help(
        "Allow servers at addresses that are not loopback. What travels is neither encrypted nor "
        "authenticated.",
        kind=bool,
    ),
    "outcome": Help(
        "What is revealed at the end, to the client only: the weights, or the predictions on the "
        "test examples.",
        training_config.OUTCOMES,
    ),
    "target_epsilon": Help(
        "Add noise on shares, calibrated so that the whole run costs at most this epsilon for one "
        "example. For dense layers and convolutions.",
        kind=float,
    ),
    "noise_multiplier": Help(
        "Instead of --target_epsilon: the noise's standard deviation over the clip.", kind=float
    ),
    "clip_norm": Help("Under privacy, the L2 bound on one example's gradient. [1.0]", kind=float),
    "delta": Help(
        "Under privacy, the probability left over in (epsilon, delta). [1e-5]", kind=float
    ),
    "eval_every": Help(
        "Evaluate the training in the clear every so many steps; the secure one is evaluated at "
        "the end, when its outcome is revealed.",
        kind=int,
    ),
    "overflow_check_every": Help(
        "After how many steps, and at the end, each layer's numbers are compared on shares with "
        "the bounds within which nothing overflows; a bit each is opened to the client. Not under "
        "differential privacy. [50]",
        kind=int,
    ),
    "seed": Help(
        "Decides the initial weights and the order of the batches, which are public; under privacy "
        "who is in a batch comes from a secret key. Shares and noise do not come from it.",
        kind=int,
    ),
    "insecure_sampling_seed": Help(
        "In a private run, draw who takes part from this number instead of a secret key, to repeat "
        "the draws exactly. The privacy statement then says that epsilon does not hold for whoever "
        "knows the number. The noise is drawn anew all the same.",
        kind=int,
    ),
    "output_dir": Help("The run directory; by default runs/secure_training-<date>-<time>."),
    "resume": Help("Refused: a checkpoint would put all shares in one place.", kind=bool),
}


def main() -> None:
    """Trains as the flags say and prints the summary."""
    run = secure.train(program.config_from_flags(SecureTrainingConfig))
    private = run.path / "privacy.txt"
    text = f"Revealed: {run.summary['revealed']}.\n"
    text += private.read_text() if private.exists() else ""
    runs.print_safely(runs.format_summary(run.summary, run.files(), text))
    program.leave_if_results_disagree(run.summary)


program.define_flags(SecureTrainingConfig, _HELPS)
flags.adopt_module_key_flags(program)

if __name__ == "__main__":
    program.run(main)
