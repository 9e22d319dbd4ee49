"""Functions and objects of the user's own: given in Python, or named by a flag or in a run.

A config holds names alone: `module:function` or `path/to/file.py:function`, with settings behind
it if the function takes some: `path/to/file.py:function,alpha=0.1,steps=3`. A function that is
given in Python gets the name of its file, so that other processes find it too; one that has none,
and any other object, is known to this process only.
"""

import ast
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import itertools
import pathlib
import re
import sys
from collections.abc import Callable
from typing import TypeVar

from tfpriv.errors import UserError

_Result = TypeVar("_Result")


def is_user_code(name: str) -> bool:
    """Says whether `name` has the form `module:function` or `path/to/file.py:function`."""
    return ":" in name


# Of what has no file.
_OBJECT = "object"

_FORM = re.compile(r"(.+?):([A-Za-z_]\w*)((?:,\w+=[^,]*)*)", re.DOTALL)

_LOADED: set[str] = set()
_GIVEN: dict[str, Callable] = {}


def give(function: Callable, name: str | None = None) -> str:
    """Returns a name by which `load_function` finds a function in this process.

    Other processes find it too if it stands at the top level of a module that has a file.

    Args:
        function: What is to be found.
        name: What to call it if it is no function of a file; its own name if None.
    """
    if isinstance(function, functools.partial) and name is None:
        with_settings = _name_of_partial(function)
        if with_settings is not None:
            return with_settings
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    own_name = getattr(function, "__qualname__", "")
    file = getattr(module, "__file__", None)
    if (
        name is None
        and module
        and file
        and own_name.isidentifier()
        and module.__name__ != "__main__"
    ):
        known_name = f"{pathlib.Path(file).resolve()}:{own_name}"
    else:
        stem = f"{_OBJECT}:{name or own_name}"
        known_name = next(
            candidate
            for candidate in itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
            if _GIVEN.get(candidate, function) is function
        )
    _GIVEN[known_name] = function
    return known_name


def _name_of_partial(function):
    """Returns the name of a function of a file with its settings; None if it cannot be told."""
    base = give(function.func)
    words = [f"{name}={value!r}" for name, value in function.keywords.items()]
    written = ",".join([base, *words])
    if base.startswith(f"{_OBJECT}:") or function.args or _split(written) is None:
        return None
    return written if _split(written)[2] == function.keywords else None


def _split(name):
    """Returns source, function and settings of a name; None if it has another form."""
    form = _FORM.fullmatch(name)
    if form is None:
        return None
    source, function, settings = form.groups()
    pairs = (setting.split("=", 1) for setting in settings.split(",")[1:])
    return source, function, {key: _literal(value) for key, value in pairs}


def _literal(text):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


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
    source, _, _ = _split(name) or (name, "", {})
    path = _find(source)
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
    return pathlib.Path(spec.origin).resolve() if spec and spec.origin else None


def load_function(name: str, flag: str) -> Callable:
    """Returns the function that `name` stands for.

    Args:
        name: `package.module:function` or `path/to/file.py:function`, and perhaps settings.
        flag: The flag that it came from, for messages; for example `--model`.

    Raises:
        UserError: if the file or module does not exist, cannot be imported, or has no such
            function.
    """
    if name in _GIVEN:
        return _GIVEN[name]
    source, attribute, settings = _split(name) or ("", "", {})
    if name.startswith(f"{_OBJECT}:"):
        raise UserError(
            f"{flag}={name} was an object in the process that made this run, and there is none of "
            "that name in this one; give it again, or name path/to/file.py:function."
        )
    if not source:
        raise UserError(
            f"{flag}={name} is not of the form module:function or path/to/file.py:function, with "
            "settings behind it as ,name=value; name both the source and the function."
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
    return _with_settings(function, settings, name, flag) if settings else function


def _with_settings(function, settings, name, flag):
    taken = inspect.signature(function).parameters.values()
    names = [parameter.name for parameter in taken]
    unknown = set(settings) - set(names)
    if unknown and all(parameter.kind != parameter.VAR_KEYWORD for parameter in taken):
        raise UserError(
            f"{flag}={name}: the function has no argument {min(unknown)!r}; it has "
            f"{', '.join(names) or 'none'}."
        )
    return functools.partial(function, **settings)


def _load_file(source, name, flag):
    path = pathlib.Path(source).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"{flag}={name}: there is no file {source}; correct the path.")
    # Files of one name in different folders are different modules.
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    module_name = f"tfpriv_user_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
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


def call(
    name: str, flag: str, kind: type[_Result] | tuple[type[_Result], ...], /, **known: object
) -> _Result:
    """Returns what a function of the user's own makes of what it is given.

    Args:
        name: As for `load_function`.
        flag: As for `load_function`.
        kind: What the result must be an instance of.
        **known: The function's arguments.

    Raises:
        UserError: as `load_function`; or the result is something else.
    """
    result = load_function(name, flag)(**known)
    if not isinstance(result, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(
            f"{kind_of_result.__module__}.{kind_of_result.__qualname__}" for kind_of_result in kinds
        )
        raise UserError(f"{flag}={name} returned a {type(result).__name__}; return a {wanted}.")
    return result
