import ast
import pathlib
import subprocess
import sys
import warnings
from importlib import metadata

import pytest

from tfpriv import environment
from tfpriv.errors import UserError

ROOT = pathlib.Path(environment.__file__).parents[1]


def start(statement, *, version=(3, 11), installed=None):
    """Starts a program whose package runs `statement`, under a pretended Python and packages."""
    code = f"""
import importlib.metadata, runpy, sys
sys.version_info = {version!r} + sys.version_info[2:]
real = importlib.metadata.version
importlib.metadata.version = lambda name: {installed or {}!r}.get(name) or real(name)
sys.argv[0] = "-m"
{statement}
print("started", [name for name in sys.modules if name.startswith("tensorflow")])
"""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_this_python_and_these_packages_are_the_right_ones():
    environment.check()


def test_program_under_another_python_stops_with_one_sentence():
    result = start("import tfpriv", version=(3, 12))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: tfpriv runs on Python 3.11 and this is 3.12 (")
    assert result.stderr.count("\n") == 1


def test_program_with_another_package_stops_with_one_sentence():
    result = start(
        "from tfpriv import environment; environment.check()",
        installed={"tensorflow-federated": "0.88.0"},
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: tfpriv needs tensorflow-federated 0.87.0 and this ")
    assert "has 0.88.0; run `make install`" in result.stderr
    assert result.stderr.count("\n") == 1


def test_check_imports_no_tensorflow():
    result = start("from tfpriv import environment; environment.check()")
    assert result.stdout == "started []\n", result.stderr


def test_library_under_another_python_raises_import_error(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 1, "final", 0))
    with pytest.raises(ImportError, match=r"runs on Python 3\.11 and this is 3\.10 "):
        environment.check_python()


@pytest.mark.parametrize("name", ["tensorflow", "tensorflow-federated", "tensorflow-privacy"])
def test_each_package_of_another_version_is_refused(monkeypatch, name):
    versions = environment.PACKAGES | {name: "0.1"}
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    with pytest.raises(UserError, match=rf"needs {name} \S+ and this Python .* has 0\.1; run"):
        environment.check()


def test_missing_package_is_refused(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(UserError, match="has none; run"):
        environment.check()


def test_vendor_build_of_the_same_release_is_taken(monkeypatch):
    versions = environment.PACKAGES | {"tensorflow": "2.14.1+nv23.11"}
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    environment.check()


@pytest.mark.parametrize("name", ["__init__.py", "environment.py", "errors.py"])
def test_what_an_old_python_reads_it_can_parse(name):
    source = (ROOT / "tfpriv" / name).read_text()
    ast.parse(source, feature_version=(3, 6))


def test_log_level_of_the_user_is_kept(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with warnings.catch_warnings():
        environment.quiet_tensorflow()
    assert environment.os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_quiet_tensorflow_imports_without_a_word(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    code = "from tfpriv import environment; environment.quiet_tensorflow(); import tensorflow"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (result.stdout, result.stderr) == ("", "")
