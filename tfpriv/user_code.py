"""Functions and objects of the user's own: given in Python, or named by a flag or in a run.

A config holds names alone. A function that is given in Python gets the name of its file, so that
other processes find it too; one that has none, and any other object, is known to this process only.
"""

import hashlib
import importlib
import importlib.machinery
import importlib.util
import itertools
import pathlib
import sys
from collections.abc import Callable

from tfpriv.errors import UserError


def is_user_code(name: str) -> bool:
    """Says whether `name` has the form `module:function` or `path/to/file.py:function`."""
    return ":" in name


# Of what has no file.
_OBJECT = "object"

_LOADED = set()
_GIVEN: dict[str, Callable] = {}


def give(function: Callable, name: str | None = None) -> str:
    """Returns a name by which `load_function` finds a function in this process.

    Other processes find it too if it stands at the top level of a module that has a file.

    Args:
        function: What is to be found.
        name: What to call it if it is no function of a file; its own name if None.
    """
    module = sys.modules.get(getattr(function, "__module__", None))
    own = getattr(function, "__qualname__", "")
    file = getattr(module, "__file__", None)
    if name is None and file and own.isidentifier() and module.__name__ != "__main__":
        found = f"{pathlib.Path(file).resolve()}:{own}"
    else:
        stem = f"{_OBJECT}:{name or own}"
        found = next(
            candidate
            for candidate in itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
            if _GIVEN.get(candidate, function) is function
        )
    _GIVEN[found] = function
    return found


def refuse_other_processes(name: str, field: str) -> None:
    """Raises UserError if a process that this one starts could not load `name`."""
    if name.startswith(f"{_OBJECT}:"):
        raise UserError(
            f"the {field} of the run was given as an object ({name}), which the processes that "
            "are started here do not have; put its function into a file, and give the function or "
            "its name, path/to/file.py:function."
        )


def loaded() -> frozenset[str]:
    """Returns the names of the modules that `load_function` has loaded."""
    return frozenset(_LOADED)


def allow(name: str, *, is_trusted: bool, where: str) -> None:
    """Lets code run that the user's own flags do not name, or refuses it before it is loaded.

    Args:
        name: As for `load_function`.
        is_trusted: Whether the user asked for it. Then a line on stderr says what will run.
        where: What names it, such as "config.json of runs/mine".

    Raises:
        UserError: It is not trusted, or there is no such file.
    """
    if name in _GIVEN:
        return
    path = _find(name.rpartition(":")[0])
    if path is None:
        raise UserError(
            f"{where} names {name}, and there is no such file or module here; get the code that "
            "the run was made with."
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    what = f"{where} names {name}, which is {path} (sha256 {digest})"
    if not is_trusted:
        raise UserError(
            f"{what}, and a run directory can come from anybody; read that file, and give "
            "--trust_code to run it."
        )
    print(f"note: {what}; it is run, as --trust_code says.", file=sys.stderr)


def _find(source):
    """Returns the file that `source` stands for, without running any code, or None."""
    if source.endswith(".py") or "/" in source:
        path = pathlib.Path(source).expanduser().resolve()
        return path if path.is_file() else None
    folders = ["", *sys.path]
    spec = None
    for part in source.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, folders)
        if spec is None:
            return None
        folders = spec.submodule_search_locations or []
    return pathlib.Path(spec.origin).resolve() if spec.origin else None


def load_function(name: str, flag: str) -> Callable:
    """Returns the function that `name` stands for.

    Args:
        name: `package.module:function` or `path/to/file.py:function`.
        flag: The flag that it came from, for messages; for example `--model`.

    Raises:
        UserError: if the file or module does not exist, cannot be imported, or has no such
            function.
    """
    if name in _GIVEN:
        return _GIVEN[name]
    source, _, attribute = name.rpartition(":")
    if source == _OBJECT:
        raise UserError(
            f"{flag}={name} was an object in the process that made this run, and there is none of "
            "that name in this one; give it again, or name path/to/file.py:function."
        )
    if not source or not attribute:
        raise UserError(
            f"{flag}={name} is not of the form module:function or path/to/file.py:function; "
            "name both the source and the function."
        )
    if source.endswith(".py") or "/" in source:
        module = _load_file(source, name, flag)
    else:
        module = _import_module(source, name, flag)
    _LOADED.add(module.__name__)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UserError(
            f"{flag}={name}: {source} has no function {attribute!r}; define it or correct the name."
        )
    return function


def _load_file(source, name, flag):
    path = pathlib.Path(source).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"{flag}={name}: there is no file {source}; correct the path.")
    # Files of one name in different folders are different modules.
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    module_name = f"tfpriv_user_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None:
        raise UserError(f"{flag}={name}: {source} is not a Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    # Keras looks classes up by module when it saves a subclassed model.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise UserError(
            f"{flag}={name}: {source} could not be imported ({type(error).__name__}: {error}); "
            "run it with Python to see where."
        ) from error
    return module


def _import_module(source, name, flag):
    sys.path.insert(0, "")  # A module in the current folder counts, as with `python -m`.
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name and f"{source}.".startswith(f"{error.name}."):
            raise UserError(
                f"{flag}={name}: there is no module {source!r}; install it, put it in the current "
                "folder, or give path/to/file.py:function."
            ) from error
        raise UserError(
            f"{flag}={name}: {source} needs the module {error.name!r}, which is not installed; "
            "install it."
        ) from error
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{flag}={name}: {source} could not be imported ({type(error).__name__}: {error}); "
            "run it with Python to see where."
        ) from error
    finally:
        sys.path.remove("")
