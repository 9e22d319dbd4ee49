"""Trains a Keras model on one machine under example-level differential privacy.

  python -m experiments.central --dataset=mnist --model=cnn_tutorial --target_epsilon=3 \\
      --delta=1e-5 --epochs=40

  python -m experiments.central --dataset=fashion_mnist --features=scattering --model=logistic \\
      --optimizer=momentum --expected_batch_size=8192 --learning_rate=16 --clip_norm=0.1 \\
      --epochs=40 --target_epsilon=3

  python -m experiments.central --mechanism=none --learning_rate=0.1 --epochs=20

It leaves a run directory: config.json, metrics.csv, TensorBoard events, checkpoints/, plots/,
model.keras, privacy.json, privacy.txt and summary.json. A flag that has no meaning under the other
choices is an error.
"""

from absl import flags

from experiments import program, secure_evaluation
from experiments.program import Help
from tfpriv import central, datasets, models
from tfpriv.central import config

_HELPS = {
    "dataset": Help(
        f"What to train on: {', '.join(datasets.NAMES)}; or your own as module:function or "
        "path/to/file.py:function, a function that returns a tfpriv.datasets.Dataset."
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
    "features": Help(
        "What the model reads: none (the data as they are) or scattering (the scattering transform "
        "of images, each normalized by itself in 27 groups of maps; Tramer and Boneh 2021), or "
        "dp_pca (projections on principal components of the training data, released once with "
        "noise that counts in epsilon; Abadi et al. 2016; model.keras reads the data as they are).",
        config.FEATURES,
    ),
    "pca_components": Help("With --features=dp_pca: how many principal components. [60]", kind=int),
    "pca_noise_multiplier": Help(
        "With --features=dp_pca: standard deviation of the noise on the sum of x x^T over examples "
        "of norm 1. Needed unless --mechanism=none, which takes the components without noise.",
        kind=float,
    ),
    "train_fraction": Help(
        "Train on so large a random share of the training examples; the rest are non-members for "
        "an audit. The seed decides which, in a private run the secret key.",
        kind=float,
    ),
    "model": Help(
        f"The Keras model: {', '.join(models.NAMES)}; or your own as module:function or "
        "path/to/file.py:function, a function (input shape, number of classes) -> model."
    ),
    "optimizer": Help("What applies the noised mean gradient.", config.OPTIMIZERS),
    "learning_rate": Help(
        "The learning rate. [0.25 for sgd, 0.05 for momentum and adagrad, 0.001 for adam]",
        kind=float,
    ),
    "momentum": Help("With --optimizer=momentum. [0.9]", kind=float),
    "schedule": Help(
        "How the learning rate goes over the steps: constant, linear (to 0), "
        "linear:END[:SHARE] (to END times the first rate over a share of the steps, then constant; "
        "SHARE is 1 if left out), cosine (to 0), or exponential:FACTOR, multiplied each step."
    ),
    "expected_batch_size": Help(
        "The mean number of examples in a step; the noised sum is divided by it.", kind=float
    ),
    "epochs": Help("Passes over the training set; under Poisson sampling in the mean.", kind=int),
    "accumulate_steps": Help(
        "Take each step's sum in so many parts, which needs less memory and gives the same result; "
        "not with --mechanism=none.",
        kind=int,
    ),
    "mechanism": Help(
        "dpsgd (independent noise; Abadi et al. 2016); tree (DP-FTRL, a tree for each pass; "
        "Kairouz et al. 2021); banded (BandMF: correlated noise by a banded factorization, with "
        "amplification by sampling; Choquette-Choo et al. 2023); none (not private).",
        config.MECHANISMS,
    ),
    "sampler": Help(
        "How a step's examples are drawn: poisson (each independently; a step may be empty), "
        "shuffled (dealt out in passes, without amplification), cyclic_poisson (parts of the data "
        "take turns). By default poisson, for tree shuffled, for banded cyclic_poisson.",
        config.SAMPLERS,
    ),
    "clipping": Help(
        "With --mechanism=dpsgd: fixed, adaptive (the clip follows a quantile, which has its share "
        "of the noise; Andrew et al. 2021) or per_layer (each of the L layers with weights is "
        "clipped by itself, to --clip_norm over the root of L; McMahan et al. 2018). [fixed]",
        config.CLIPPINGS,
    ),
    "clip_norm": Help(
        "The L2 bound on one example's gradient; the first one with --clipping=adaptive. [1.0]",
        kind=float,
    ),
    "target_epsilon": Help(
        "Calibrate the noise so that the whole run costs at most this epsilon. Either this or "
        "--noise_multiplier.",
        kind=float,
    ),
    "noise_multiplier": Help(
        "Standard deviation of the noise over the clip. 0 clips without noise and is not private.",
        kind=float,
    ),
    "delta": Help(
        "The probability left over in (epsilon, delta); well below one over the number of "
        "examples. [1e-5]",
        kind=float,
    ),
    "target_quantile": Help(
        "With --clipping=adaptive: the share of gradients that the clip should leave alone. [0.5]",
        kind=float,
    ),
    "clip_learning_rate": Help(
        "With --clipping=adaptive: the step size of the clip's updates. [0.2]", kind=float
    ),
    "factorization": Help(
        "With --mechanism=banded: optimized (the banded strategy matrix with the least error), "
        "sqrt (the banded square root) or inverse_sqrt (whose inverse is banded, without "
        "amplification). [optimized]",
        config.FACTORIZATIONS,
    ),
    "bands": Help(
        "With --mechanism=banded: the number of bands; 1 is dpsgd. [for --target_epsilon "
        "the number with the least expected error, else --separation; with inverse_sqrt 16]",
        kind=int,
    ),
    "separation": Help(
        "With --mechanism=banded: the least number of steps from one of an example's to its next. "
        "Less of it means more amplification by sampling. [--bands; with inverse_sqrt a pass]",
        kind=int,
    ),
    "audit_canaries": Help(
        "Turn so many training examples into canaries, each of which takes part only if a coin "
        "says so, and keep the models of all evaluations, for --attack=one_run of "
        "experiments/audit.py. The coin flips lie beside the run directory, not in it.",
        kind=int,
    ),
    "audit_canary_kind": Help(
        "With --audit_canaries: mislabelled (another label) or out_of_distribution (noise under a "
        "random label, which is found more easily). [mislabelled]",
        config.CANARIES,
    ),
    "audit_secrets": Help(
        "Plant so many random secrets once each, so many 4 times and so many 16 times in a data "
        "set of text, as training examples like the others, for --attack=secret_sharer of "
        "experiments/audit.py. One planted 16 times is 16 examples; epsilon is about one of them.",
        kind=int,
    ),
    "eval_every": Help("Evaluate on the test set every so many epochs, and at the end.", kind=int),
    "checkpoint_every": Help("Save a checkpoint every so many epochs, and at the end.", kind=int),
    "seed": Help(
        "Decides what is public: the first weights and the canaries; without privacy also who "
        "takes part, which in a private run comes from a secret key. The noise never comes from "
        "it.",
        kind=int,
    ),
    "insecure_sampling_seed": Help(
        "In a private run, draw who takes part from this number instead of a secret key, to repeat "
        "the draws exactly. The privacy statement then says that epsilon does not hold for whoever "
        "knows the number. The noise is drawn anew all the same.",
        kind=int,
    ),
    "output_dir": Help("The run directory; by default runs/central-<date>-<time>."),
    "resume": Help(
        "Go on with the run in --output_dir from its last checkpoint, with the flags it was "
        "started with.",
        kind=bool,
    ),
}


def main() -> None:
    """Trains as the flags say and prints the summary."""
    secure_evaluation.prepare()
    config = program.config_from_flags(central.CentralConfig)
    run = central.run(config, secure_evaluation.check_model)
    secure_evaluation.finish(run, config.data_dir)


program.define_flags(central.CentralConfig, _HELPS)
flags.adopt_module_key_flags(program)
flags.adopt_module_key_flags(secure_evaluation)

if __name__ == "__main__":
    program.run(main, resumes=True)
