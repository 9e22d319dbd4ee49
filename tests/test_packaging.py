"""setup.cfg, requirements.lock and tfpriv.environment tell one story."""

import ast
import configparser
import pathlib
import re
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tfpriv
from tfpriv import environment

ROOT = pathlib.Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9.-]+)==(\S+) \\$", LOCK, re.MULTILINE))


def requirements(section, option):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return [Requirement(line) for line in config[section][option].split("\n") if line]


DEPENDENCIES = requirements("options", "install_requires")
DEVELOPMENT = requirements("options.extras_require", "dev")


@pytest.mark.parametrize("requirement", DEPENDENCIES + DEVELOPMENT, ids=str)
def test_lock_pins_a_version_that_setup_cfg_asks_for(requirement):
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_lock_holds_what_the_overrides_ask_for():
    lines = (ROOT / "requirements-overrides.txt").read_text().splitlines()
    for requirement in map(Requirement, filter(lambda line: line[:1] not in ("", "#"), lines)):
        if requirement.marker and not requirement.marker.evaluate():
            assert requirement.name not in PINS
        else:
            assert requirement.specifier.contains(PINS[requirement.name])


def test_every_pin_has_a_hash():
    entries = re.split(r"^(?=[a-z])", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(PINS) > 90
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_lock_names_no_address():
    assert "://" not in LOCK


def test_environment_asks_for_what_setup_cfg_asks_for():
    exact = {requirement.name: str(requirement.specifier) for requirement in DEPENDENCIES}
    for name, version in environment.PACKAGES.items():
        assert exact[name] == f"=={version}"


def test_installed_version_is_the_packages_own():
    assert metadata.version("tfpriv") == tfpriv.__version__


def test_every_package_imported_is_declared():
    declared = {canonicalize_name(requirement.name) for requirement in DEPENDENCIES}
    providers = metadata.packages_distributions()
    undeclared = set()
    for path in [*ROOT.glob("tfpriv/**/*.py"), *ROOT.glob("experiments/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for top in {name.split(".")[0] for name in names}:
                if top in sys.stdlib_module_names or top in ("tfpriv", "experiments"):
                    continue
                if declared.isdisjoint(map(canonicalize_name, providers.get(top, []))):
                    undeclared.add(f"{path.relative_to(ROOT)}: {top}")
    assert undeclared == set()


def test_a_script_beside_a_folder_named_tfpriv_gets_the_library(tmp_path):
    """A clone, for instance; it would be an empty namespace package."""
    (tmp_path / "tfpriv").mkdir()
    script = tmp_path / "script.py"
    script.write_text("import tfpriv.runs\nprint(tfpriv.__version__, tfpriv.runs.RunDirectory)\n")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout.startswith(f"{tfpriv.__version__} <class"), done.stderr
