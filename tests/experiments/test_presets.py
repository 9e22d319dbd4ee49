"""The presets as they are checked in, and their results."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments.published import results
from experiments.published.rows import find_row, papers, read_paper

ROOT = pathlib.Path(__file__).parents[2]
PRESETS = ROOT / "experiments" / "presets"
PAPERS = papers(PRESETS)
REACHED = ["mcmahan2017/2nn_iid_b10_e1", "mcmahan2017/2nn_noniid_b10_e1"]

# In a process of its own, as programs define flags of the same names.
PARSE = """
import importlib, json, sys
from absl import flags
from absl.testing import flagsaver
from experiments import program

name = sys.argv[1]
importlib.import_module(f"experiments.{name}")
config_class = getattr(importlib.import_module(f"tfpriv.{name}"), f"{name.capitalize()}Config")
configs = {}
for path in sys.argv[2:]:
    with flagsaver.flagsaver():
        flags.FLAGS([path, f"--flagfile={path}"])
        config = program.config_from_flags(config_class).complete()
    configs[path] = vars(config)
assert not {"tensorflow", "tensorflow_federated"} & set(sys.modules)
print(json.dumps(configs))
"""


def _parse(program):
    """Returns the complete config of every preset of a program, by paper/row."""
    paths = {
        str(row.preset): f"{paper}/{row.name}"
        for paper in PAPERS
        for row in read_paper(PRESETS, paper)[1].values()
        if row.program == program
    }
    command = [sys.executable, "-c", PARSE, program, *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {paths[path]: config for path, config in json.loads(done.stdout).items()}


@pytest.fixture(name="configs", scope="module")
def _configs():
    return _parse("federated")


@pytest.fixture(name="central_configs", scope="module")
def _central_configs():
    return _parse("central")


def test_every_preset_is_a_config_that_can_run_and_leaves_seed_and_place_open(
    configs, central_configs
):
    assert len(configs) >= 20 and len(central_configs) >= 9
    for name, config in (configs | central_configs).items():
        assert config["seed"] == 0 and config["output_dir"] is None, name
        assert config["data_dir"] is None and not config["resume"], name


@pytest.mark.parametrize("paper", PAPERS)
def test_every_flag_file_is_a_row_and_every_row_has_one(paper):
    _, rows = read_paper(PRESETS, paper)
    assert {path.stem for path in (PRESETS / paper).glob("*.flags")} == set(rows)
    assert all((ROOT / "experiments" / f"{row.program}.py").is_file() for row in rows.values())


@pytest.mark.parametrize("paper", PAPERS)
def test_readme_of_each_paper_names_every_row(paper):
    text = (PRESETS / paper / "README.md").read_text()
    _, rows = read_paper(PRESETS, paper)
    assert [name for name in rows if f"`{name}`" not in text] == []


def test_rows_that_count_rounds_leave_room_to_miss_the_published_number(configs):
    counted = 0
    for paper in PAPERS:
        for row in read_paper(PRESETS, paper)[1].values():
            for check in row.checks:
                if check.metric == "rounds_to_target":
                    config = configs[f"{paper}/{row.name}"]
                    assert config["target_accuracy"] is not None and config["eval_every"] == 1
                    assert config["rounds"] > check.value + check.tolerance, row.name
                    counted += 1
    assert counted >= 8


def test_mcmahan_rows_have_the_settings_that_their_names_say(configs):
    for name, config in configs.items():
        paper, _, row = name.partition("/")
        if paper != "mcmahan2017":
            continue
        model, part, *rest = row.split("_")
        assert config["model"] == {"2nn": "2nn", "cnn": "cnn_mcmahan"}[model]
        assert config["target_accuracy"] == {"2nn": 0.97, "cnn": 0.99}[model]
        assert config["partition"] == {"iid": "iid", "noniid": "shards"}[part]
        assert (config["num_clients"], config["clients_per_round"]) == (100, 10)
        if rest == ["fedsgd"]:
            assert config["algorithm"] == "fedsgd"
            continue
        batch, epochs = rest
        assert config["algorithm"] == "fedavg"
        assert config["client_epochs"] == int(epochs.removeprefix("e"))
        size = batch.removeprefix("b")
        assert config["batch_size"] == (600 if size == "all" else int(size))


def test_rows_of_the_tutorial_are_named_after_todays_epsilon(central_configs):
    for name, config in central_configs.items():
        if name.startswith("dpsgd_tutorial/eps"):
            row = find_row(PRESETS, name)
            (epsilon,) = (check for check in row.checks if check.metric == "epsilon")
            assert f"eps{epsilon.value:.1f}" == row.name
            assert config["expected_batch_size"] == 256 and config["delta"] == 1e-5


@pytest.mark.parametrize("paper", PAPERS)
def test_results_are_of_these_presets_and_judged_by_these_expectations(paper):
    _, rows = read_paper(PRESETS, paper)
    found = results.read(PRESETS, paper)
    assert set(found) <= set(rows)
    for name, result in found.items():
        assert result["flags"] == rows[name].flags(), name
        assert result["git_commit"] and not result["git_dirty"], name
        for check, measured in zip(rows[name].checks, result["checks"], strict=True):
            assert measured["metric"] == check.metric
            verdict = check.judge(list(measured["values"].values()))
            assert verdict == {key: measured[key] for key in verdict}, name


@pytest.mark.parametrize("preset", REACHED)
def test_row_that_must_be_reached_is(preset):
    row = find_row(PRESETS, preset)
    assert results.reached(results.read(PRESETS, row.paper)[row.name])


def test_accuracy_under_adaptive_clipping_does_not_rise_with_the_noise():
    found = results.read(PRESETS, "andrew2021")
    names = [f"n50_noise{noise}" for noise in ("0", "0.5", "0.75", "1")]
    accuracies = [found[name]["checks"][0]["median"] for name in names]
    # The standard error of an accuracy on 10,000 images.
    error = np.sqrt(accuracies[0] * (1 - accuracies[0]) / 10_000)
    assert max(np.diff(accuracies)) < error
    assert accuracies[-1] < accuracies[0] - error


def test_introduction_is_compared_with_linear_regression_on_the_same_patients():
    from sklearn import linear_model

    from tfpriv import datasets

    data = datasets.load("diabetes")
    model = linear_model.LinearRegression().fit(data.train_features, data.train_labels)
    errors = (model.predict(data.test_features) - data.test_labels) * data.label_scale
    rmse = float(np.sqrt(np.mean(errors**2)))
    row = find_row(PRESETS, "introduction/federated")
    assert row.checks[0].value == pytest.approx(rmse, abs=0.005)


def test_table_in_the_docs_is_what_the_results_give():
    text = (ROOT / "docs" / "results.md").read_text()
    between = text.split(results.BEGIN)[1].split(results.END)[0]
    assert between.strip() == results.table(PRESETS)


@pytest.mark.parametrize("name", ["adult", "breast_cancer"])
def test_tables_are_compared_with_logistic_regression_on_the_same_examples(name):
    from sklearn import linear_model

    from tfpriv import datasets

    data = datasets.load(name)
    model = linear_model.LogisticRegression(max_iter=1000)
    model.fit(data.train_features, data.train_labels)
    accuracy = model.score(data.test_features, data.test_labels)
    row = find_row(PRESETS, f"tabular/{name}_logistic")
    assert row.checks[0].value == pytest.approx(accuracy, abs=5e-4)
