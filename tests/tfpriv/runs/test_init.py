import pathlib
import subprocess
import sys

import tfpriv

_ROOT = pathlib.Path(tfpriv.__file__).parents[1]

_USE = """
import sys
from tfpriv.runs import *
heavy = {"tensorflow", "matplotlib", "tensorboard", "tqdm"} & set(sys.modules)
assert not heavy, heavy
with RunDirectory.create(sys.argv[1], {}, program="federated") as run:
    run.metrics.write(1, {"test_accuracy": 0.5})
    assert plot_run(run)
    with Progress(1) as bar:
        bar.update(1, accuracy=0.5)
    print_safely(format_summary({"test_accuracy": 0.5}, run.files()))
assert "tensorflow" not in sys.modules
"""


def test_a_run_can_be_kept_without_tensorflow(tmp_path):
    subprocess.run([sys.executable, "-c", _USE, tmp_path], cwd=_ROOT, check=True)
