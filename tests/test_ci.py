import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
STEPS = ["install", "lint", "test", "slow", "conformance", "players"]


def run_ci(folder, failing):
    """Runs a copy of .ci/run from another folder, with a make that fails at one target."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", folder / ".ci/run")
    make = folder / "make"
    make.write_text(
        f'#!/bin/bash\necho "make $1 in $PWD, CI=$CI"\n[ "$1" != "{failing}" ] || exit 3'
    )
    make.chmod(0o755)
    return subprocess.run(
        [folder / ".ci/run"],
        cwd="/",
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_steps_run_in_the_project_folder(tmp_path):
    result = run_ci(tmp_path, failing="none")
    assert result.returncode == 0
    ran = [line for line in result.stdout.splitlines() if line.startswith("make")]
    assert ran == [f"make {step} in {tmp_path}, CI=true" for step in STEPS]


@pytest.mark.parametrize("step", STEPS)
def test_failed_step_fails_the_run_and_ends_it(tmp_path, step):
    result = run_ci(tmp_path, failing=step)
    assert result.returncode == 3
    assert result.stdout.splitlines()[-1].startswith(f"== {step}: FAILED after ")
