"""Who may import whom in tfpriv and experiments: the checker, its own tests, and the check."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

LOWER = {"datasets", "listening", "models", "noise", "privacy", "runs"}
UPPER = {"central", "federated", "secure", "audit"}

# What a room may import of tfpriv, besides itself and the modules directly in tfpriv/.
ALLOWED = (
    {"tfpriv": set(), "experiments": LOWER | UPPER}
    | {room: set() for room in LOWER}
    # A mechanism has its noise.
    | {"privacy": {"noise"}}
    | dict.fromkeys(UPPER, LOWER)
    # An audit trains models as the run under audit was trained.
    | {"audit": LOWER | {"central", "federated"}}
)
# Folders inside a room: what each may import of the others in it.
FOLDERS = {
    "tfpriv.secure": {
        "native": set(),
        "parties": {"native"},
        "protocols": {"native", "parties"},
        "layers": {"native", "protocols"},
        "inference": {"native", "parties", "protocols", "layers"},
        "training": {"native", "parties", "protocols", "layers"},
    }
}
# Packages that one folder alone may import.
ONLY_IN_FOLDER = {"tf_encrypted": "tfpriv.secure.protocols"}
TENSORFLOW = {"keras", "tensorflow", "tensorflow_privacy", "tensorflow_probability"}
ONLY_IN = {"tensorflow_federated": {"federated"}, "tf_encrypted": {"secure"}} | {
    package: set(ALLOWED) - {"datasets", "listening", "noise", "privacy"} for package in TENSORFLOW
}


def imported_names(tree, package):
    """Yields (line, dotted name) for all that a module of `package` imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            first = node.args[0]
            if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


def room_of(parts):
    """Returns the room that a dotted name or a path lies in; None if it is not of the project."""
    if parts[0] == "tfpriv":
        return parts[1] if len(parts) > 1 and parts[1] in LOWER | UPPER else "tfpriv"
    return parts[0] if parts[0] in ("experiments", "benchmarks", "tests") else None


def crosses(parts, name):
    """Returns whether an import goes from one folder of a room to another that it may not see."""
    folders = FOLDERS.get(".".join(parts[:2]), {})
    here, there = parts[2] if len(parts) > 2 else None, name.split(".")[2:3]
    if here not in folders or tuple(name.split(".")[:2]) != parts[:2] or not there:
        return False
    return there[0] in folders and there[0] not in folders[here] | {here}


def violations(path, source):
    """Returns one line for each import in the file that the rules forbid."""
    parts = pathlib.PurePath(path).with_suffix("").parts
    here = room_of(parts)
    found = []
    for line, name in imported_names(ast.parse(source), parts[:-1]):
        top, there = name.split(".")[0], room_of(name.split("."))
        if there is None:
            wrong = here not in ONLY_IN.get(top, ALLOWED)
        else:
            wrong = there not in {here, "tfpriv"} | ALLOWED[here] or crosses(parts, name)
        folder = ONLY_IN_FOLDER.get(top)
        if wrong or (folder is not None and ".".join(parts[:3]) != folder):
            found.append(f"{path}:{line}: {here} may not import {name}")
    return found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tfpriv/central/a.py", "import tensorflow_federated as tff"),
        ("tfpriv/models/a.py", "from tensorflow_federated import learning"),
        ("tfpriv/files.py", "def f():\n    import tensorflow_federated.python"),
        ("experiments/a.py", "import tensorflow_federated"),
        ("experiments/a.py", "import importlib\nimportlib.import_module('tf_encrypted')"),
        ("tfpriv/federated/a.py", "import tf_encrypted"),
        ("tfpriv/privacy/a.py", "import tensorflow"),
        ("tfpriv/privacy/a.py", "def f():\n    from tensorflow_privacy.privacy import x"),
        ("tfpriv/noise/a.py", "import tensorflow as tf"),
        ("tfpriv/listening/a.py", "import tensorflow as tf"),
        ("tfpriv/noise/a.py", "from tfpriv import models"),
        ("tfpriv/noise/a.py", "from tfpriv import privacy"),
        ("tfpriv/datasets/a.py", "import keras"),
        ("tfpriv/datasets/a.py", "from tfpriv.models import mlp"),
        ("tfpriv/datasets/a.py", "from tfpriv import runs"),
        ("tfpriv/models/a.py", "from ..privacy import accounting"),
        ("tfpriv/models/__init__.py", "from .. import federated"),
        ("tfpriv/privacy/a.py", "import tfpriv.central.training"),
        ("tfpriv/central/a.py", "from tfpriv import federated"),
        ("tfpriv/environment.py", "from tfpriv import datasets"),
        ("tfpriv/__init__.py", "from . import models"),
        ("tfpriv/runs/a.py", "from experiments import federated"),
        ("tfpriv/audit/a.py", "import benchmarks.federated_round"),
        ("tfpriv/audit/a.py", "from tfpriv import secure"),
        ("tfpriv/central/a.py", "from tfpriv import audit"),
        ("tfpriv/secure/training/a.py", "import tf_encrypted as tfe"),
        ("tfpriv/secure/a.py", "from tf_encrypted import protocol"),
        ("tfpriv/secure/parties/a.py", "def f():\n    from tfpriv.secure.protocols import running"),
        ("tfpriv/secure/protocols/a.py", "from tfpriv.secure import inference"),
        ("tfpriv/secure/training/a.py", "from tfpriv.secure.inference.grids import Grid"),
        ("tfpriv/secure/layers/a.py", "from tfpriv.secure import training"),
        ("experiments/a.py", "import tests.tfpriv"),
    ],
)
def test_checker_finds_a_forbidden_import(path, source):
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tfpriv/federated/a.py", "import tensorflow_federated as tff"),
        ("tfpriv/secure/protocols/a.py", "import tf_encrypted as tfe"),
        ("tfpriv/secure/training/a.py", "from tfpriv.secure.protocols import smooth"),
        ("tfpriv/secure/training/a.py", "from tfpriv.secure import agreement, layers"),
        ("tfpriv/models/a.py", "import tensorflow as tf\nfrom tfpriv import errors"),
        (
            "tfpriv/models/a.py",
            "from tfpriv.models import cnn\nfrom . import cnn\nfrom .b import c",
        ),
        ("tfpriv/models/a.py", "from .. import files\nfrom ..errors import UserError"),
        ("tfpriv/privacy/a.py", "import dp_accounting\nimport numpy as np"),
        ("tfpriv/privacy/a.py", "import numpy as np\nfrom tfpriv.noise import Noise"),
        ("tfpriv/central/a.py", "from tfpriv import datasets, models, noise, privacy, runs"),
        ("experiments/a.py", "from tfpriv import audit, central\nfrom experiments import b"),
        ("tfpriv/user_code.py", "import importlib\nimportlib.import_module(name)"),
    ],
)
def test_checker_lets_an_allowed_import_pass(path, source):
    assert violations(path, source) == []


def test_rules_hold_in_all_files():
    paths = [*ROOT.glob("tfpriv/**/*.py"), *ROOT.glob("experiments/**/*.py")]
    assert len(paths) > 5
    assert [
        violation
        for path in sorted(paths)
        for violation in violations(path.relative_to(ROOT), path.read_text())
    ] == []


def test_every_room_is_known_to_the_rules():
    rooms = {path.parent.name for path in ROOT.glob("tfpriv/*/*.py")}
    assert rooms - LOWER - UPPER == set()


# Processor time, not the clock's: the machine may be busy with other tests.
QUICK = """
import importlib, pkgutil, sys, time
for room in ["", ".privacy", ".datasets", ".noise", ".runs", ".listening"]:
    importlib.import_module("tfpriv" + room)
seconds = time.process_time()
light = [name for name in sys.modules if name.startswith("tensorflow")]
for room in ["privacy", "datasets", "noise", "listening"]:
    package = sys.modules["tfpriv." + room]
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
heavy = [name for name in sys.modules if name.startswith("tensorflow")]
print([seconds, light, heavy])
"""


def test_lower_rooms_import_quickly_and_without_tensorflow():
    result = subprocess.run(
        [sys.executable, "-c", QUICK], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    seconds, light, heavy = ast.literal_eval(result.stdout)
    assert light == []
    assert heavy == []
    assert seconds < 2
