"""What parties send to each other, read off the graph that they run."""

import collections
import dataclasses

import tensorflow as tf

from tfpriv.secure.parties.parties import Parties


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traffic:
    """What one run of a graph sends.

    Attributes:
        bytes_sent: By party, how many bytes of tensors it sends; without what the transport adds.
        rounds: How many messages must follow one after the other.
    """

    bytes_sent: dict[str, int]
    rounds: int

    def __add__(self, other: "Traffic") -> "Traffic":
        """The traffic of two graphs, the second after the first."""
        sent = collections.Counter(self.bytes_sent)
        sent.update(other.bytes_sent)
        return Traffic(bytes_sent=dict(sent), rounds=self.rounds + other.rounds)


def none(parties: Parties) -> Traffic:
    """Returns the traffic of parties that send nothing."""
    return Traffic(bytes_sent=dict.fromkeys(parties.devices, 0), rounds=0)


def measure(graph: tf.Graph, parties: Parties) -> Traffic:
    """Returns what is sent when a graph runs once.

    A tensor travels once to each party that has an operation which reads it, as TensorFlow sends
    it. Operations without a device are not counted: they are arguments, which lie where they were
    made, and constants, which each party has.

    Args:
        graph: A concrete function's graph, without control flow, whose tensors have known shapes.
        parties: Its parties, each with a device of its own.
    """
    if not parties.separate:
        raise ValueError("the parties share a device, so what they send cannot be told")
    party_of = {device: name for name, device in parties.devices.items()}
    sent = dict.fromkeys(parties.devices, 0)
    rounds: dict[str, int] = {}
    needed = _needed(graph)
    for op in needed:
        here = party_of.get(op.device)
        before = 0
        for tensor in op.inputs:
            there = party_of.get(tensor.op.device)
            travels = here is not None and there is not None and here != there
            before = max(before, rounds[tensor.op.name] + travels)
        rounds[op.name] = before
        if here is None:
            continue
        for tensor in op.outputs:
            readers = {party_of.get(op.device) for op in tensor.consumers() if op in needed}
            size = tensor.dtype.size * (tensor.shape.num_elements() or 0)
            sent[here] += size * len(readers - {here, None})
    return Traffic(bytes_sent=sent, rounds=max(rounds.values(), default=0))


def _needed(graph):
    """Returns what the graph's outputs depend on, each operation after those that it reads."""
    wanted = {tensor.op for tensor in graph.outputs}
    for op in reversed(graph.get_operations()):
        if op in wanted:
            wanted.update(tensor.op for tensor in op.inputs)
    return {op: None for op in graph.get_operations() if op in wanted}
