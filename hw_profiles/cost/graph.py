"""A net as a graph: its operators, and which of them reads what another made."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import networkx as nx
from torch import Tensor, nn

from ...search_space.inputs import Inputs
from .flow import Maker, Move, edges_of
from .trace import Trace, trace

_NO_COST: Mapping[str, Any] = {"flops": 0, "bytes_read": 0, "bytes_written": 0, "params": 0, "weights": ()}


def graph_of(module: nn.Module, example: Inputs, precision: str = "fp32") -> "nx.DiGraph[int]":
    """The data flow of `module(example)` in eval mode, as `trace_cost` traces it: without data, in milliseconds.

    Nodes are numbered in order of execution, which is a topological order: the inputs, one node for each operator, one
    for all outputs. Views are no operators: an edge goes from the operator that made a tensor to those that read it or
    a part of it. Attributes of a node:
    name: torch's name of the operator, "input" or "output". kind: see `cost.KINDS`; or "input", "output".
    shape: of its (first) output. flops, bytes_read, bytes_written: as in `OperatorCost`, with tensors of `precision`.
    weights: names of the parameters that it reads. Those of a module that runs twice stand at both of its operators.
    params: how many numbers there are in those that no earlier operator reads, so that the sum over the nodes is that
        of the net, less parameters that nothing reads.
    Errors: a forward that cannot run without data.

    >>> graph = nas.graph_of(net, task.example)
    >>> [kind for _, kind in graph.nodes(data="kind")]
    ['input', 'matmul', 'elementwise', 'matmul', 'output']
    """
    traced = trace(module, example, precision)
    inputs, kernels = len(traced.inputs), len(traced.tracer.rows)
    sources = dict[Maker, Tensor](traced.parameters.items()) | dict(enumerate(traced.inputs, -inputs))
    edges = edges_of(sources, [*traced.tracer.moves, Move(kernels, traced.outputs, ())])
    graph: nx.DiGraph[int] = nx.DiGraph()
    for number, tensor in enumerate(traced.inputs):
        graph.add_node(number, name="input", kind="input", shape=tuple(tensor.shape), **_NO_COST)
    for number, attributes in enumerate(_operators(traced, edges), inputs):
        graph.add_node(number, **attributes)
    shape = next((tuple(tensor.shape) for tensor in traced.outputs), ())
    graph.add_node(inputs + kernels, name="output", kind="output", shape=shape, **_NO_COST)
    graph.add_edges_from((maker + inputs, kernel + inputs) for maker, kernel in edges if isinstance(maker, int))
    return graph


def _operators(traced: Trace, edges: Iterable[tuple[Maker, int]]) -> Iterator[dict[str, Any]]:
    """The attributes of each kernel."""
    weights: defaultdict[int, list[str]] = defaultdict(list)
    for maker, kernel in edges:
        if isinstance(maker, str):
            weights[kernel].append(maker)
    shapes = {kernel: tuple(written[0].shape) for kernel, _, written in reversed(traced.tracer.moves) if written}
    unread = dict(traced.parameters)
    for kernel, row in enumerate(traced.tracer.rows):
        yield {
            **{field: getattr(row, field) for field in ("name", "kind", "flops", "bytes_read", "bytes_written")},
            "shape": shapes.get(kernel, ()),
            "weights": tuple(weights[kernel]),
            "params": sum(unread.pop(name).numel() for name in weights[kernel] if name in unread),
        }
