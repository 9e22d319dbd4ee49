"""Finds what a traced function does besides making its outputs.

A graph can keep or tell what it reads in no other way than by an operation with a side effect, and
TensorFlow's registry says of each kind of operation whether it has a state. Those known to leave
nothing behind are listed here; any other counts as a side effect, also one that is not known.
"""

import dataclasses
import re
from collections.abc import Collection, Iterator

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

_CALLS = {"PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile"}
# The first input says which branch runs.
_BRANCHES = {"If", "StatelessIf", "Case", "StatelessCase"}

_HARMLESS = (
    _CALLS
    | _BRANCHES
    | {
        # Reads.
        "LookupTableFindV2",
        "LookupTableSizeV2",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "VarIsInitializedOp",
        "VariableShape",
        # Draws, by a generator inside the kernel, which moves with the sizes and is not saved.
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "StatelessRandomGetAlg",
        "TruncatedNormal",
        # Checks and others that keep nothing.
        "Assert",
        "CheckNumerics",
        "CheckNumericsV2",
        "DeviceIndex",
        "Empty",
        "GuaranteeConst",
    }
)
_HARMLESS_FAMILIES = re.compile("CudnnRNN")  # Stateful only by the seed of a dropout.

# They move a generator's counter by the size drawn, whatever the state before.
_GENERATOR_OPS = re.compile("Rng(ReadAnd)?Skip(V2)?|Stateful(Standard|Truncated|Uniform).*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideEffect:
    """One operation that can keep or tell what it reads.

    Attributes:
        op: The kind of operation.
        node: Its name in the traced graph, or that of the call that it is in. Keras begins it with
            the names of the model and the layer.
        variable: The variable that it is given first; None for none, or if that cannot be told.
    """

    op: str
    node: str
    variable: tf.Variable | None

    @property
    def runs_python(self) -> bool:
        """Whether it runs Python code, of which nothing is known."""
        return "PyFunc" in self.op


def side_effects(
    traced: tf.types.experimental.ConcreteFunction, generators: Collection[tf.Variable] = ()
) -> Iterator[SideEffect]:
    """Yields the side effects of a traced function and of all functions that it calls.

    Args:
        traced: The function.
        generators: The states of random generators from which it may draw.
    """
    graph = traced.graph.as_graph_def()
    functions = {item.signature.name: item for item in graph.library.function}
    handles = {id(variable.handle): variable for variable in traced.variables}
    captured = {
        inner.op.name: handles[id(outer)]
        for outer, inner in traced.graph.captures
        if id(outer) in handles
    }
    allowed = {id(variable) for variable in generators}
    seen = set()

    def walk(nodes, variables, caller):
        for node in nodes:
            inputs = [name.split(":")[0] for name in node.input if not name.startswith("^")]
            given = [variables.get(name) for name in inputs]
            first = given[0] if given else None
            if node.op == "Identity":
                variables[node.name] = first
            draws = _GENERATOR_OPS.fullmatch(node.op) and id(first) in allowed
            if _has_side_effect(node.op) and not draws:
                yield SideEffect(op=node.op, node=caller or node.name, variable=first)
            for name in _called(node, functions):
                arguments = given[1:] if node.op in _BRANCHES else given
                arguments = arguments if node.op in _CALLS | _BRANCHES else []
                call = name, tuple(map(id, arguments))
                if call not in seen:
                    seen.add(call)
                    names = [item.name for item in functions[name].signature.input_arg]
                    inside = dict(zip(names, arguments, strict=False))
                    yield from walk(functions[name].node_def, inside, caller or node.name)

    yield from walk(graph.node, captured, None)


def _has_side_effect(op):
    if op in _HARMLESS or _HARMLESS_FAMILIES.match(op):
        return False
    registered = op_def_registry.get(op)
    # PyFuncStateless promises to have no state, which nobody checks.
    return registered is None or registered.is_stateful or "PyFunc" in op


def _called(node, functions):
    """Returns the names of the functions that a node calls."""
    names = {node.op}
    for value in node.attr.values():
        names |= {value.func.name, *(function.name for function in value.list.func)}
    return sorted(names & functions.keys())
