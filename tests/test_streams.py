"""Streams that are drawn from one seed for different purposes are different streams."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]


def test_no_two_streams_have_the_same_number():
    streams = {}
    for path in sorted((ROOT / "tfpriv").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                for target in node.targets:
                    if getattr(target, "id", "").endswith("_STREAM"):
                        streams.setdefault(node.value.value, []).append(path.name)
    assert len(streams) >= 15
    assert {number: files for number, files in streams.items() if len(files) > 1} == {}


def test_every_stream_of_a_generator_has_a_name():
    """Seeds are pairs of a number that is given and of a stream, never of a bare number."""
    bare = []
    for path in sorted((ROOT / "tfpriv").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "default_rng":
                for argument in node.args:
                    if isinstance(argument, ast.Tuple):
                        bare += [
                            f"{path.name}:{node.lineno}"
                            for element in argument.elts[1:]
                            if isinstance(element, ast.Constant)
                        ]
    assert bare == []
