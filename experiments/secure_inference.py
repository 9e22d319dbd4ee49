"""Evaluates a trained Keras model on secret shares: neither weights nor examples are seen.

  python -m experiments.secure_inference --model=runs/demo --num_examples=1000

  python -m experiments.secure_inference --model=model.keras --dataset=mnist --protocol=securenn

  python -m experiments.secure_inference --model=runs/demo --players=players.json

Three servers hold shares of the weights and of the examples and compute shares of the answers,
which are put together by the client alone. Beside it stands the same model in the clear. It leaves
a run directory: config.json, metrics.csv (seconds by batch), plots/ and summary.json.
"""

from absl import flags

from experiments import program
from experiments.program import Help
from tfpriv import datasets, runs, secure
from tfpriv.secure import InferenceConfig
from tfpriv.secure.inference import config as inference_config

_HELPS = {
    "model": Help("The model: the directory of a run that has ended, or a .keras file."),
    "dataset": Help(
        f"Whose test examples are evaluated: {', '.join(datasets.NAMES)}; or your own as "
        "module:function or path/to/file.py:function. By default what the run was trained on."
    ),
    "data_dir": Help(
        "The folder for downloaded data; by default $TFPRIV_DATA_DIR, else tfpriv in the user's "
        "cache."
    ),
    "trust_code": Help(
        "Run Python code that only the run's config.json names, and no flag of yours: its data set "
        "or model. It is shown with its path and sha256.",
        kind=bool,
    ),
    "scaling": Help(
        "How a table is scaled, public or standardized; it must be as in training. [that "
        "of the run, else standardized]",
        datasets.scaling.NAMES,
    ),
    "protocol": Help(
        "aby3 (Mohassel and Rindal 2018: three servers, replicated shares) or securenn (Wagh et "
        "al. 2019: two servers with shares and one that helps).",
        inference_config.PROTOCOLS,
    ),
    "num_examples": Help(
        "How many test examples, from the first on. [1000, or as many as there are]", kind=int
    ),
    "batch_size": Help("How many examples are computed at once.", kind=int),
    "softmax": Help(
        "What becomes of a softmax or sigmoid at the end: reveal (the logits are revealed to the "
        "client, who applies it) or approximate (it is computed on shares, approximately).",
        inference_config.SOFTMAX,
    ),
    "input_bound": Help(
        "What no feature is above in magnitude. The grids of the layers then follow from it and "
        "from the weights; by default from the largest numbers that the examples make, of which "
        "the servers so learn the powers of two.",
        kind=float,
    ),
    "check_overflow": Help(
        "Compare each layer's sums with their bound on shares, and stop if one is above: it opens "
        "a bit a layer and batch to the client, and takes about two comparisons a number.",
        kind=bool,
    ),
    "players": Help(
        "Where the servers are: local (all in this process) or a file with their addresses; see "
        "python -m tfpriv.secure.player --help."
    ),
    "trusted_network": Help(
        "Allow servers at addresses that are not loopback. What travels is neither encrypted nor "
        "authenticated.",
        kind=bool,
    ),
    "output_dir": Help("The run directory; by default runs/secure_inference-<date>-<time>."),
}


def main() -> None:
    """Evaluates as the flags say and prints the summary."""
    run = secure.infer(program.config_from_flags(InferenceConfig))
    runs.print_safely(runs.format_summary(run.summary, run.files()))
    program.leave_if_results_disagree(run.summary)


program.define_flags(InferenceConfig, _HELPS)
flags.adopt_module_key_flags(program)

if __name__ == "__main__":
    program.run(main)
