"""docs/demo.ipynb: it is checked in without outputs, and runs as it stands without a network."""

import json
import os
import pathlib
import re
import sys

import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "demo.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The code cells after a run by this Python, in a folder of their own."""
    folder = tmp_path_factory.mktemp("notebook")
    kernel = folder / "jupyter" / "kernels" / "this"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    described = {"argv": argv, "display_name": "this", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(described))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        client = nbclient.NotebookClient(
            notebook,
            kernel_name="this",
            timeout=200,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute()
    assert (folder / "runs").is_dir()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cells, start):
    """Returns the outputs of the cell that begins so, by their kind; text of streams joined."""
    (cell,) = [cell for cell in cells if cell.source.startswith(start)]
    found = {}
    for output in cell.outputs:
        assert output.output_type != "error"
        if output.output_type == "stream":
            found[output.name] = found.get(output.name, "") + output.text
        else:
            found |= output.data
    return found


def test_outputs_are_not_checked_in():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_the_run_shows_its_result_and_keeps_the_target(cells):
    result = shown(cells, "config = ")["text/plain"]
    accuracy, epsilon = re.search(r"test_accuracy (\S+), epsilon (\S+)>", result).groups()
    assert result.startswith("<federated in ")
    assert float(accuracy) > 0.6
    assert 0 < float(epsilon) <= 8


def test_the_statement_is_that_of_a_client(cells):
    statement = shown(cells, "print(run.statement)")["stdout"]
    epsilon = float(re.match(r"\(([\d.]+), 1e-05\)-differential privacy", statement)[1])
    assert epsilon <= 8
    assert "for one client" in statement and "Not covered:" in statement


def test_metrics_are_a_table_and_a_plot(cells):
    table = shown(cells, "frame = ")["text/html"]
    for column in ("round", "test_loss", "test_accuracy", "epsilon", "epsilon_rdp"):
        assert f"<th>{column}</th>" in table
    assert "image/png" in shown(cells, "axes = ")


def test_answers_on_shares_are_those_in_the_clear(cells):
    result = shown(cells, "shared = ")["text/plain"]
    assert re.search(r"secure_accuracy 0\.\d+, agreement (1|0\.99\d*)>", result)


def test_nothing_of_tensorflow_is_logged(cells):
    assert shown(cells, "%matplotlib").get("stderr", "") == ""
    assert "tensorflow/" not in shown(cells, "config = ").get("stderr", "")
