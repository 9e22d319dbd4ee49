"""Says in a sentence what is wrong with the Python or the packages that a program started under.

This file and the package's __init__ are read by whatever Python the user happens to have, so they
keep to what Python 3.6 can read and import only the standard library.
"""

import os
import sys
import warnings

from tfpriv.errors import UserError

PYTHON = (3, 11)

# The releases that were tried together. They are exact because TensorFlow Federated's worker and
# tfpriv's own ops are binaries that fit one TensorFlow only. setup.cfg says the same.
PACKAGES = {
    "tensorflow": "2.14.1",
    "tensorflow-federated": "0.87.0",
    "tensorflow-privacy": "0.9.0",
}


def check_python() -> None:
    """Stops a start under another Python than the one that tfpriv runs on.

    Raises:
        ImportError: if the running Python is another one; the message is one sentence.
        SystemExit: in the same case, when `python -m` is starting a program: the sentence is
            printed and the exit status is 2.
    """
    if sys.version_info[:2] != PYTHON:
        _stop(
            ImportError(
                f"tfpriv runs on Python {PYTHON[0]}.{PYTHON[1]} and this is {sys.version_info[0]}."
                f"{sys.version_info[1]} ({sys.executable}); run `make install` in tfpriv's folder "
                "and start with .venv/bin/python."
            )
        )


def check() -> None:
    """Checks the running Python and the installed packages; imports none of the packages.

    Raises:
        UserError: if a package of `PACKAGES` is missing or of another version; the message names
            the version found and the one wanted.
        ImportError: as in `check_python`.
        SystemExit: instead of either, when `python -m` is starting a program.
    """
    check_python()
    from importlib import metadata  # Slow, and not there before Python 3.8.

    for name, wanted in PACKAGES.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = None
        # A vendor's build of the same release, such as 2.14.1+nv23.11, is the same release.
        if installed is None or installed.partition("+")[0] != wanted:
            _stop(
                UserError(
                    f"tfpriv needs {name} {wanted} and this Python ({sys.executable}) has "
                    f"{installed or 'none'}; run `make install` in tfpriv's folder and start with "
                    ".venv/bin/python."
                )
            )


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's start-up messages off the terminal; call it before TensorFlow's import.

    A TF_CPP_MIN_LOG_LEVEL that the user has set is left as it is. What goes wrong in an operation
    is raised as an exception all the same.
    """
    # Level 2 is not enough: TensorFlow 2.14 logs three harmless errors about CUDA at each import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")


def _stop(error):
    # While `python -m package.module` looks for its module, argv[0] is "-m" (documented at
    # sys.argv). Then a program is starting, and its user is to read a sentence and no traceback.
    if getattr(sys, "argv", [""])[0] == "-m":
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2)
    raise error
