"""What anyone may call in tfpriv says what it takes and what it returns."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

CHECKED_SPECIAL = {"__init__", "__call__"}


def is_public(name):
    """Returns whether the name of a function, class or module is for others."""
    return name in CHECKED_SPECIAL or not name.startswith("_")


def public_functions(body, in_class=False):
    """Yields (function, whether it is a method) for what is public, but not inside functions."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(node.name):
            yield node, in_class
        elif isinstance(node, ast.ClassDef) and is_public(node.name):
            yield from public_functions(node.body, in_class=True)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            branches = [node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])]
            branches += [handler.body for handler in getattr(node, "handlers", [])]
            for branch in branches:
                yield from public_functions(branch, in_class)


def missing(path, source):
    """Returns one line for each argument or result of a public function without an annotation."""
    found = []
    for function, in_class in public_functions(ast.parse(source).body):
        args = function.args
        named = [*args.posonlyargs, *args.args]
        decorators = {getattr(each, "id", None) for each in function.decorator_list}
        if in_class and "staticmethod" not in decorators:
            named = named[1:]
        named += args.kwonlyargs + [each for each in (args.vararg, args.kwarg) if each]
        where = f"{path}:{function.lineno}: {function.name}"
        found += [f"{where}: {each.arg}" for each in named if each.annotation is None]
        if function.returns is None:
            found.append(f"{where}: what it returns")
    return found


def public_modules():
    """Returns the paths of the modules for others, as they are named from the root."""
    paths = (path.relative_to(ROOT) for path in (ROOT / "tfpriv").rglob("*.py"))
    return sorted(
        path.as_posix()
        for path in paths
        if not any(part.startswith("_") for part in path.with_suffix("").parts[:-1])
        and (path.name == "__init__.py" or is_public(path.stem))
    )


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def f(a: int, *b: int, c: int = 1, **d: int) -> int: ...", 0),
        ("def f(a, /, b, *c, d, **e): ...", 6),
        ("async def f(): ...", 1),
        ("def _f(a): ...", 0),
        ("def f() -> int:\n    def g(a): ...", 0),
        ("class A:\n    def __init__(self, a): ...", 2),
        ("class A:\n    def __call__(self) -> int: ...", 0),
        ("class A:\n    def __add__(self, other): ...", 0),
        ("class A:\n    @property\n    def a(self): ...", 1),
        ("class A:\n    @classmethod\n    def a(cls) -> int: ...", 0),
        ("class A:\n    @staticmethod\n    def a(b) -> int: ...", 1),
        ("class _A:\n    def a(self, b): ...", 0),
        ("class A:\n    class B:\n        def a(self): ...", 1),
        ("if True:\n    def f(): ...\nelse:\n    def g(): ...", 2),
        ("try:\n    pass\nexcept OSError:\n    def f(): ...", 1),
    ],
)
def test_finds_what_is_missing(source, count):
    """Each argument and each result counts once, and what is private does not."""
    assert len(missing("tfpriv/a.py", source)) == count


def test_finds_modules():
    """Those of packages, and of packages in packages."""
    assert {"tfpriv/settings.py", "tfpriv/noise/native/__init__.py"} <= set(public_modules())


@pytest.mark.parametrize("path", public_modules())
def test_all_is_annotated(path):
    """Every argument and every result of what is public."""
    assert missing(path, (ROOT / path).read_text()) == []
