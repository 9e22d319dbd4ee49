"""docs/extending.md: its examples run as they stand, in a folder outside the package."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
SECTIONS = dict(
    re.findall(
        r"^## (.+?)\n(.*?)(?=^## |\Z)",
        (ROOT / "docs" / "extending.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
)
EXAMPLES = [name for name, text in SECTIONS.items() if "```python" in text]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(tmp_path, name):
    (code,) = re.findall(r"```python\n(.*?)```", SECTIONS[name], re.DOTALL)
    file = re.match(r"# (\w+\.py):", code)[1]
    (tmp_path / file).write_text(code)
    (commands,) = re.findall(r"```\n(python .*?)```", SECTIONS[name], re.DOTALL)
    for command in commands.replace("\\\n", " ").strip().splitlines():
        words = shlex.split(command)
        assert words[0] == "python"
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    (output,) = re.findall(r"--output_dir=(\S+)", commands)[-1:]
    summary = json.loads((tmp_path / output / "summary.json").read_text())
    if "loss_gap" in code:
        assert summary["loss_gap"] > 0
    elif summary["epsilon"] is None:
        assert summary["test_accuracy"] > 0.15
    else:
        text = " ".join((tmp_path / output / "privacy.txt").read_text().split())
        assert "does what it says of itself, which tfpriv has not proved" in text
        assert 0 < summary["epsilon"] <= 10
    config = json.loads((tmp_path / output / "config.json").read_text())["flags"]
    assert any(str(value).startswith(file) for value in config.values())


def test_there_are_examples():
    assert len(EXAMPLES) == 7
