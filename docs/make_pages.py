"""Writes build/docs: a page for each package of tfpriv, with what it exports, by pdoc.

python docs/make_pages.py [FOLDER]

Modules inside a package are left out unless the package exports them: they are no interface. The
programs have docs/flags.md.
"""

import importlib
import pathlib
import re
import sys
import types

import pdoc

import tfpriv
from tfpriv import environment

FOLDER = pathlib.Path(__file__).parents[1] / "build" / "docs"
PACKAGES = (
    *("audit", "central", "datasets", "federated", "models", "noise", "privacy", "runs", "secure"),
    *("environment", "errors", "settings"),
)
# Documented in docs/extending.md by name.
_OTHERS = ("tfpriv.central.layer_registry",)


def modules() -> list[str]:
    """Imports what has a page, and returns the names."""
    names = ["tfpriv", *_OTHERS]
    for package in PACKAGES:
        module = importlib.import_module(f"tfpriv.{package}")
        names.append(module.__name__)
        for exported in getattr(module, "__all__", ()):
            # What is imported at its first use is not in the module before.
            value = vars(module).setdefault(exported, getattr(module, exported))
            if isinstance(value, types.ModuleType):
                names.append(value.__name__)
    for name in _OTHERS:
        importlib.import_module(name)
    tfpriv.__all__ = list(PACKAGES)
    tfpriv.central.__all__.append("layer_registry")
    return names


def write(folder: pathlib.Path) -> None:
    """Writes the pages into a folder."""
    environment.quiet_tensorflow()
    pdoc.render.configure(docformat="google", show_source=False, include_undocumented=False)
    # By itself it goes into every module that a package exports something of the name of.
    others = f"!(?!(?:{'|'.join(map(re.escape, modules()))})$)"
    pdoc.pdoc("tfpriv", others, output_directory=folder)
    print(f"the first page is {folder / 'tfpriv.html'}")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
