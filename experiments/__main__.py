"""python -m experiments: says which programs there are."""

import ast
import pathlib

_PROGRAMS = (
    "federated",
    "central",
    "audit",
    "secure_inference",
    "secure_training",
    "reproduce",
    "figure",
)

if __name__ == "__main__":
    print("Programs, each of which has a --help:\n")
    for name in _PROGRAMS:
        source = pathlib.Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        first = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        print(f"  python -m experiments.{name}\n      {first}")
