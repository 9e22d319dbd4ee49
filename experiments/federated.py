"""Trains a Keras model federated, over simulated clients, with or without privacy.

  python -m experiments.federated --dataset=mnist --partition=shards --num_clients=100 \\
      --model=2nn --rounds=100 --clients_per_round=10 --client_learning_rate=0.1

  python -m experiments.federated --num_clients=3000 --clients_per_round=120 \\
      --privacy_unit=client --target_epsilon=2 --rounds=100

  python -m experiments.federated --flagfile=experiments/presets/demo.flags

It leaves a run directory: config.json, metrics.csv, TensorBoard events, checkpoints/, plots/,
model.keras, privacy.json, privacy.txt and summary.json. A flag that has no meaning under the other
choices is an error.
"""

from absl import flags

from experiments import program, secure_evaluation
from experiments.program import Help
from tfpriv import datasets, federated, models
from tfpriv.federated import config

_HELPS = {
    "dataset": Help(
        f"What to train on: {', '.join(datasets.NAMES)}; or your own as module:function or "
        "path/to/file.py:function, a function that returns a tfpriv.datasets.Dataset or a pair "
        "(train, test) of tff.simulation.datasets.ClientData."
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
    "partition": Help(
        "How the training examples are split over clients: iid; shards (sorted by label, two "
        "shards a client; McMahan et al. 2017); dirichlet:ALPHA (label skew, stronger for smaller "
        "ALPHA); writers (MNIST's 539 writers); natural (Shakespeare's roles, or the clients of "
        "your own ClientData)."
    ),
    "num_clients": Help(
        "The number of clients; for iid, shards and dirichlet. The other partitions know theirs. "
        "[100]",
        kind=int,
    ),
    "model": Help(
        f"The Keras model: {', '.join(models.NAMES)}; or your own as module:function or "
        "path/to/file.py:function, a function (input shape, number of classes) -> model."
    ),
    "algorithm": Help(
        "fedavg (McMahan et al. 2017); fedsgd (one gradient over all of a client's data); fedprox "
        "(Li et al. 2020); mimelite (Karimireddy et al. 2021).",
        config.ALGORITHMS,
    ),
    "rounds": Help("The number of rounds of the whole run.", kind=int),
    "clients_per_round": Help(
        "The number of clients in a round; under Poisson sampling the expected number.", kind=float
    ),
    "sampler": Help(
        "How the clients of a round are drawn: poisson (each independently; a round may be "
        "empty), fixed_size (a random subset, anew each round), shuffled (dealt out in passes "
        "over all clients), cyclic_poisson (parts of the clients take turns). By default poisson "
        "with --privacy_unit=client, shuffled with --mechanism=tree, cyclic_poisson with "
        "--mechanism=banded, else fixed_size.",
        config.SAMPLERS,
    ),
    "weighting": Help(
        "What a client's update weighs in the mean: its number of examples (the default), or "
        "uniform. Private means are uniform.",
        config.WEIGHTINGS,
    ),
    "batch_size": Help(
        "Examples in a local batch; with --privacy_unit=example the expected number.", kind=int
    ),
    "client_epochs": Help("Local passes over a client's examples in a round. [1]", kind=int),
    "client_optimizer": Help(
        "The optimizer of local training; for mimelite the base optimizer. [sgd]",
        config.CLIENT_OPTIMIZERS,
    ),
    "client_learning_rate": Help("The learning rate of local training. [0.1]", kind=float),
    "client_momentum": Help("With --client_optimizer=momentum. [0.9]", kind=float),
    "client_schedule": Help(
        "How the client learning rate goes over rounds: constant, linear (to 0), cosine (to 0), "
        "or exponential:FACTOR, multiplied each round. [constant]"
    ),
    "proximal_strength": Help(
        "mu of FedProx: mu/2 times the squared distance from the round's model is added to the "
        "local loss. [0.1]",
        kind=float,
    ),
    "server_optimizer": Help(
        "What applies the mean update: sgd, momentum, or an adaptive one (Reddi et al. 2021).",
        config.SERVER_OPTIMIZERS,
    ),
    "server_learning_rate": Help("The learning rate of the server.", kind=float),
    "server_momentum": Help("With --server_optimizer=momentum. [0.9]", kind=float),
    "server_epsilon": Help(
        "Degree of adaptivity (tau of Reddi et al. 2021) of adam, yogi and adagrad. [0.001]",
        kind=float,
    ),
    "server_schedule": Help("How the server learning rate goes over rounds; as --client_schedule."),
    "privacy_unit": Help(
        "What differential privacy protects: none; client (all of one client's data; noise on "
        "the server's sum); example (each example of a client; DP-SGD inside each client, and an "
        "epsilon for each).",
        config.PRIVACY_UNITS,
    ),
    "mechanism": Help(
        "With --privacy_unit=client: gaussian (fixed clip); adaptive (the clip follows a quantile; "
        "Andrew et al. 2021); tree (DP-FTRL; Kairouz et al. 2021); banded (BandMF, noise "
        "correlated over rounds; Choquette-Choo et al. 2023). [gaussian]",
        config.MECHANISMS,
    ),
    "clip_norm": Help(
        "The L2 bound on one client's update, or on one example's gradient; the first one with "
        "--mechanism=adaptive. [1.0]",
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
        "The probability left over in (epsilon, delta); well below one over the number of members. "
        "[1e-5]",
        kind=float,
    ),
    "target_quantile": Help(
        "With --mechanism=adaptive: the share of updates that the clip should leave alone. [0.5]",
        kind=float,
    ),
    "clip_learning_rate": Help(
        "With --mechanism=adaptive: the step size of the clip's updates. [0.2]", kind=float
    ),
    "factorization": Help(
        "With --mechanism=banded: optimized (the banded strategy matrix with the least error), "
        "sqrt (the banded square root) or inverse_sqrt (whose inverse is banded, without "
        "amplification). [optimized]",
        config.FACTORIZATIONS,
    ),
    "bands": Help(
        "With --mechanism=banded: the number of bands; 1 is gaussian with poisson. [for "
        "--target_epsilon the number with the least expected error, else --separation; with "
        "inverse_sqrt 16]",
        kind=int,
    ),
    "separation": Help(
        "With --mechanism=banded: the least number of rounds from one of a client's to its next. "
        "Less of it means more amplification by sampling. [--bands; with inverse_sqrt a pass]",
        kind=int,
    ),
    "release_train_metrics": Help(
        "With --privacy_unit=client: also report training loss and accuracy, which are sums over "
        "clients WITHOUT noise. The privacy statement then says that they are not covered. [false]",
        kind=bool,
    ),
    "audit_canaries": Help(
        "Add so many canary clients behind the others, each of which sends a random direction at "
        "the clip's norm (without a clip: of norm 1) in its rounds, and takes part only if a coin "
        "says so; and keep the models of all evaluations, for --attack=canary_clients of "
        "experiments/audit.py. They are drawn and accounted for as other clients. The coin flips "
        "lie beside the run directory, not in it.",
        kind=int,
    ),
    "eval_every": Help("Evaluate on the test set every so many rounds, and at the end.", kind=int),
    "target_accuracy": Help(
        "Stop when the test accuracy reaches this; summary.json then has rounds_to_target.",
        kind=float,
    ),
    "checkpoint_every": Help(
        "Save a checkpoint every so many rounds. By default 1 under privacy, where a round that is "
        "lost and run again is paid for twice, else 10.",
        kind=int,
    ),
    "plot_partition": Help(
        "Draw plots/partition.png, which shows exact numbers of examples and labels; the privacy "
        "statement then says that it is not covered. [true without privacy, else false]",
        kind=bool,
    ),
    "seed": Help(
        "Decides what is public: the partition, the first weights and the order of local batches; "
        "without privacy also who takes part, which in a private run comes from a secret key. The "
        "noise never comes from it.",
        kind=int,
    ),
    "insecure_sampling_seed": Help(
        "In a private run, draw who takes part from this number instead of a secret key, to repeat "
        "the draws exactly. The privacy statement then says that epsilon does not hold for whoever "
        "knows the number. The noise is drawn anew all the same.",
        kind=int,
    ),
    "output_dir": Help("The run directory; by default runs/federated-<date>-<time>."),
    "resume": Help(
        "Go on with the run in --output_dir from its last checkpoint, with the flags it was "
        "started with.",
        kind=bool,
    ),
}


def main() -> None:
    """Trains as the flags say and prints the summary."""
    secure_evaluation.prepare()
    config = program.config_from_flags(federated.FederatedConfig)
    run = federated.run(config, secure_evaluation.check_model)
    secure_evaluation.finish(run, config.data_dir)


program.define_flags(federated.FederatedConfig, _HELPS)
flags.adopt_module_key_flags(program)
flags.adopt_module_key_flags(secure_evaluation)

if __name__ == "__main__":
    program.run(main, resumes=True)
