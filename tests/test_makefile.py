"""What make does on machines that are not as they should be, with pretended Pythons."""

import os
import pathlib
import shutil
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TOOLS = ["bash", "cat", "cmp", "cp", "date", "expand", "find", "mkdir", "mv", "rm", "sed"]
TOOLS += ["sleep", "tail", "touch", "uname"]
SOURCES = [f"tfpriv/{name}" for name in ("secure/native/a.cc", "secure/native/a.h")]
SOURCES += ["tfpriv/noise/native/b.cc"]
LIBRARIES = ["tfpriv/secure/native/built.so", "tfpriv/noise/native/built.so"]

# A Python that notes how it was called; in an environment it runs $PIP when asked to install, and
# pretends to build the native libraries.
PYTHON = """#!/bin/bash
echo "$*" >> "$CALLS"
case "$*" in
  --version) echo "Python {version}.9" ;;
  *version_info*) echo "{version}" | tr . " "; [ {version} = 3.11 ] ;;
  *ensurepip*) {ensurepip} ;;
  "-m venv "*) mkdir -p "$3/bin"; sed "s/ensurepip[*])/nothing)/" "$0" > "$3/bin/python"
    chmod +x "$3/bin/python" ;;
  *"pip"*" install --require-hashes"*) eval "$PIP" ;;
  *"pip"*" install"*"--editable ."*) touch tfpriv/{secure,noise}/native/built.so ;;
esac
"""


class Project:
    """A copy of the project's make files, and a PATH that holds only what the test puts there."""

    def __init__(self, folder):
        self.folder = folder / "a clone"
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        self.folder.mkdir()
        self.bin.mkdir()
        files = ["Makefile", "setup.cfg", "setup.py", "pyproject.toml", "requirements.lock"]
        for name in files:
            shutil.copy(ROOT / name, self.folder)
        for name in SOURCES:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).touch()
        for name in [*TOOLS, "chmod", "tr"]:
            (self.bin / name).symlink_to(shutil.which(name))
        (self.bin / "g++").symlink_to(shutil.which("true"))
        self.environment = {"PATH": str(self.bin), "CALLS": str(self.calls), "PIP": "true"}

    def add_python(self, name, version, ensurepip="true"):
        path = self.bin / name
        path.write_text(PYTHON.replace("{version}", version).replace("{ensurepip}", ensurepip))
        path.chmod(0o755)

    def make(self, *arguments, **environment):
        """Runs make; returns (exit status, output, calls of Python that did something)."""
        self.calls.write_text("")
        result = subprocess.run(
            [shutil.which("make"), *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        calls = [line for line in self.calls.read_text().splitlines() if line[:2] == "-m"]
        return result.returncode, result.stdout, calls

    def age(self, name):
        """Makes a file look changed after everything else."""
        later = time.time() + 5
        os.utime(self.folder / name, (later, later))


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def error_lines(output):
    assert "Traceback" not in output
    return [line for line in output.splitlines() if line.startswith("error: ")]


def test_second_run_installs_nothing(project):
    project.add_python("python3.11", "3.11")
    status, output, calls = project.make("install")
    assert status == 0, output
    assert len(calls) == 3
    assert calls[0] == "-m venv .venv"
    assert "--require-hashes --no-deps --only-binary :all: -r requirements.lock" in calls[1]
    assert calls[2].endswith(
        "--no-build-isolation --config-settings editable_mode=compat --editable ."
    )
    assert project.make("install") == (0, "", [])


def test_no_python_is_said_in_one_sentence(project):
    status, output, _ = project.make("demo")
    assert status != 0
    (line,) = error_lines(output)
    assert "needs Python 3.11 and found none (python3 is missing); install it" in line


def test_other_python_is_named(project):
    project.add_python("python3", "3.12")
    project.add_python("python3.12", "3.12")
    status, output, calls = project.make("test")
    assert status != 0
    (line,) = error_lines(output)
    assert "found none (python3 is Python 3.12.9); install it" in line
    assert calls == []


def test_python3_is_taken_when_it_is_3_11(project):
    project.add_python("python3", "3.11")
    assert project.make("install")[0] == 0


def test_python_of_the_users_choice_is_taken_before_others(project, tmp_path):
    project.add_python("python3.11", "3.11", ensurepip="exit 1")
    project.add_python("mine", "3.11")
    assert project.make("install", "PYTHON=mine")[0] == 0


@pytest.mark.parametrize("choice", ["python3", "/nowhere/python"])
def test_wrong_python_of_the_users_choice_is_refused(project, choice):
    project.add_python("python3.11", "3.11")
    project.add_python("python3", "3.12")
    status, output, calls = project.make("install", PYTHON=choice)
    assert status != 0
    assert error_lines(output) == [
        f"error: PYTHON={choice} is not a Python 3.11 that runs; name one, or leave PYTHON out to "
        "have it searched for."
    ]
    assert calls == []


def test_missing_venv_module_is_said(project):
    project.add_python("python3.11", "3.11", ensurepip="exit 1")
    status, output, _ = project.make("install")
    assert status != 0
    (line,) = error_lines(output)
    assert "apt-get install python3.11-venv" in line


def test_missing_compiler_is_said_before_anything_is_downloaded(project):
    project.add_python("python3.11", "3.11")
    (project.bin / "g++").unlink()
    status, output, calls = project.make("install")
    assert status != 0
    (line,) = error_lines(output)
    assert "apt-get install g++" in line
    assert calls == []


@pytest.mark.parametrize(
    ("pip_says", "sentence"),
    [
        ("ERROR: No matching distribution found for absl-py==1.4.0", "index can be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "not the one that requirements.lock"),
        ("ERROR: [Errno 28] No space left on device", "the disk is full; free 7 GB"),
    ],
)
def test_failed_download_is_one_sentence_and_the_next_run_begins_anew(project, pip_says, sentence):
    project.add_python("python3.11", "3.11")
    noise = 'for i in {1..50}; do echo "Collecting $i"; done; touch .venv/half;'
    status, output, _ = project.make("install", PIP=f"{noise} echo '{pip_says}'; exit 1")
    assert status != 0
    (line,) = error_lines(output)
    assert sentence in line
    assert line.endswith("run make again (log: .venv/install.log).") or "HASHES" in pip_says
    assert pip_says in output
    assert len(output.splitlines()) <= 6
    assert (project.folder / ".venv/half").exists()

    status, _, calls = project.make("install")
    assert (status, len(calls)) == (0, 3)
    assert not (project.folder / ".venv/half").exists()


def test_killed_install_is_not_taken_for_a_whole_one(project):
    project.add_python("python3.11", "3.11")
    # make, the shell of its recipe and pip, all at once: nobody is left to tidy up.
    kill = "read -r _ _ _ make _ < /proc/$PPID/stat; kill -9 $make $PPID $$"
    status, _, _ = project.make("install", PIP=f"touch .venv/half; {kill}")
    assert status == -9
    status, _, calls = project.make("install")
    assert (status, len(calls)) == (0, 3)
    assert not (project.folder / ".venv/half").exists()


def test_changed_lock_makes_the_environment_anew(project):
    project.add_python("python3.11", "3.11")
    project.make("install")
    (project.folder / ".venv/old").touch()
    project.age("requirements.lock")
    assert len(project.make("install")[2]) == 3
    assert not (project.folder / ".venv/old").exists()


@pytest.mark.parametrize("name", ["setup.cfg", "setup.py", *SOURCES])
def test_changed_metadata_or_native_source_installs_tfpriv_alone_again(project, name):
    project.add_python("python3.11", "3.11")
    project.make("install")
    project.age(name)
    (call,) = project.make("install")[2]
    assert call.endswith("--editable .")


@pytest.mark.parametrize("library", LIBRARIES)
def test_native_library_that_is_gone_is_built_again(project, library):
    project.add_python("python3.11", "3.11")
    project.make("install")
    (project.folder / library).unlink()
    (call,) = project.make("install")[2]
    assert call.endswith("--editable .")
    assert project.make("install")[2] == []


def test_environment_whose_python_is_gone_is_made_anew(project):
    project.add_python("python3.11", "3.11")
    project.make("install")
    (project.folder / ".venv/bin/python").unlink()
    status, _, calls = project.make("install")
    assert (status, len(calls)) == (0, 3)


def test_other_machine_is_refused(project):
    project.add_python("python3.11", "3.11")
    (project.bin / "uname").unlink()
    (project.bin / "uname").write_text("#!/bin/bash\necho Darwin arm64\n")
    (project.bin / "uname").chmod(0o755)
    status, output, _ = project.make("install")
    assert status != 0
    assert error_lines(output) == [
        "error: requirements.lock is for Linux on x86-64 and this is Darwin arm64; "
        "use such a machine."
    ]


def test_demo_hints_at_a_missing_npm_and_runs_all_the_same(project):
    project.add_python("python3.11", "3.11")
    status, output, calls = project.make("demo")
    assert status == 0, output
    assert "note: npm is missing" in output
    assert "--flagfile=experiments/presets/demo.flags --output_dir=runs/demo-2" in calls[-1]


def test_reproduce_without_a_preset_is_refused(project):
    project.add_python("python3.11", "3.11")
    status, output, _ = project.make("reproduce")
    assert status != 0
    assert len(error_lines(output)) == 1
    assert project.make("reproduce", "PRESET=a/b")[2] == ["-m experiments.reproduce --preset=a/b"]


def test_failed_compilation_is_one_sentence(project):
    project.add_python("python3.11", "3.11")
    script = (project.bin / "python3.11").read_text()
    says = 'echo "error: g++ could not make build/ops.o; what it said is above."; exit 1'
    script = script.replace("touch tfpriv/{secure,noise}/native/built.so", says)
    (project.bin / "python3.11").write_text(script)
    status, output, _ = project.make("install")
    assert status != 0
    assert error_lines(output)[-1].startswith("error: g++ could not compile the native code")


def test_conformance_tests_both_protocols_and_ends_at_the_first_that_fails(project):
    project.add_python("python3.11", "3.11")
    status, output, _ = project.make("conformance")
    assert status == 0, output
    runs = [line for line in project.calls.read_text().splitlines() if "conformance" in line]
    assert [line.split("=")[-1] for line in runs] == ["upstream", "tfpriv"]

    python = project.folder / ".venv/bin/python"
    python.write_text(python.read_text().replace("esac", '  *"=upstream"*) exit 1 ;;\nesac'))
    assert project.make("conformance")[0] != 0
    assert "=tfpriv" not in project.calls.read_text()


@pytest.mark.parametrize("library", LIBRARIES)
def test_clean_removes_the_native_library(project, library):
    path = project.folder / library
    path.touch()
    assert project.make("clean")[0] == 0
    assert not path.exists()


def test_help_lists_every_target(project):
    listed = {line.split()[1] for line in project.make()[1].splitlines()}
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", "")
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY:"))
    assert listed == set(phony.split()[1:]) - {"FORCE"}
