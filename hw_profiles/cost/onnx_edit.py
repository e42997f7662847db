"""Changes to an ONNX graph: nodes are changed in place or added in any order, and what is no longer read falls out."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import networkx as nx
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
"""The domain of the operators that only ONNX Runtime has."""


class Editor:
    """A graph while it is changed."""

    def __init__(self, content: bytes) -> None:
        self.model = onnx.load_from_string(content)
        self.tensors = {t.name: t for t in self.model.graph.initializer}
        self._nodes: dict[int, NodeProto] = {}
        self._readers: dict[str, list[NodeProto]] = {}
        self._made: dict[Any, str] = {}
        for node in self.model.graph.node:
            self._add(node)
        self._own()

    def readers(self, tensor: str) -> list[NodeProto]:
        return list(self._readers.get(tensor, ()))

    def array(self, name: str) -> NDArray[Any]:
        """The values of an initializer."""
        return numpy_helper.to_array(self.tensors[name])

    def constant(self, values: NDArray[Any]) -> str:
        """An initializer with these values; equal ones are one."""
        return self._once(TensorProto.UNDEFINED, values, lambda name: numpy_helper.from_array(values, name))

    def narrow(self, values: NDArray[np.int8]) -> str:
        """An int8 tensor of values from -8 to 7 that takes 4 bits each in the file; runtimes widen it at load."""
        flat = values.reshape(-1)
        low, high = flat[::2].astype(np.uint8) & 15, np.resize(flat[1::2].astype(np.uint8) & 15, -(-flat.size // 2))
        self._least_opset(21)
        result = self._raw(TensorProto.INT4, values, (low | high << 4).tobytes())
        return self.node("Cast", [result], to=TensorProto.INT8)

    def float8(self, values: NDArray[np.int8]) -> str:
        """A tensor of e4m3 floats, whose bytes these are."""
        self._least_opset(19)
        return self._raw(TensorProto.FLOAT8E4M3FN, values, values.tobytes())

    def bfloat16(self, values: NDArray[np.float32]) -> str:
        """A bfloat16 tensor."""
        content = torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.int16).numpy().tobytes()
        return self._raw(TensorProto.BFLOAT16, values, content)

    def halves(self, values: NDArray[Any]) -> str:
        """A float32 tensor that takes 16 bits each in the file."""
        return self.node("Cast", [self.constant(values.astype(np.float16))], to=TensorProto.FLOAT)

    def floats(self, values: NDArray[np.float32]) -> str:
        """A float32 tensor; in half the bytes where nothing is lost."""
        return self.halves(values) if np.array_equal(values.astype(np.float16), values) else self.constant(values)

    def node(self, op: str, inputs: Sequence[str], output: str = "", domain: str = "", **attributes: Any) -> str:
        """A new node; gives its output. The same node is made once, unless its output has a name."""
        key = (op, *inputs, *sorted((k, str(v)) for k, v in attributes.items()))
        if not output and key in self._made:
            return self._made[key]
        name = output or self._made.setdefault(key, f"quantized.{len(self._made)}")
        self._add(helper.make_node(op, inputs, [name], domain=domain, **attributes))
        if domain and domain not in {o.domain for o in self.model.opset_import}:
            self.model.opset_import.append(helper.make_opsetid(domain, 1))
        return name

    def replace(self, node: NodeProto, op: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> None:
        """Another node gives what this one gave."""
        self.drop(node)
        self.node(op, inputs, node.output[0], domain, **attributes)

    def rewire(self, node: NodeProto, slot: int, tensor: str) -> None:
        """The node reads another tensor."""
        self.drop(node)
        node.input[slot] = tensor
        self._add(node)

    def cut(self, node: NodeProto, slot: int) -> None:
        """The node reads nothing from this input on."""
        self.drop(node)
        del node.input[slot:]
        self._add(node)

    def content(self) -> bytes:
        """The file."""
        graph = self.model.graph
        kept = _needed(_ordered([*self._nodes.values()]), {o.name for o in graph.output})
        read = {name for node in kept for name in _reads(node)} | {o.name for o in graph.output}
        tensors = [t for t in self.tensors.values() if t.name in read]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(kept)
        graph.initializer.extend(tensors)
        return bytes(self.model.SerializeToString())

    def _own(self) -> None:
        """The TorchScript exporter makes equal parameters one: give each its own back."""
        for node in [n for n in self._nodes.values() if n.op_type == "Identity" and n.input[0] in self.tensors]:
            copy = TensorProto()
            copy.CopyFrom(self.tensors[node.input[0]])
            copy.name = node.output[0]
            self.tensors[copy.name] = copy
            self.drop(node)

    def _add(self, node: NodeProto) -> None:
        self._nodes[id(node)] = node
        for name in node.input:
            self._readers.setdefault(name, []).append(node)

    def drop(self, node: NodeProto) -> None:
        del self._nodes[id(node)]
        for name in node.input:
            self._readers[name] = [n for n in self._readers[name] if n is not node]

    def _once(self, kind: int, values: NDArray[Any], make: Any) -> str:
        key = (kind, values.dtype.str, values.shape, values.tobytes())
        if key not in self._made:
            name = self._made[key] = f"quantized.{len(self._made)}"
            self.tensors[name] = make(name)
        return self._made[key]

    def _raw(self, kind: int, values: NDArray[Any], content: bytes) -> str:
        """An initializer of a kind that numpy has not, shaped as `values`."""
        return self._once(kind, values, lambda name: helper.make_tensor(name, kind, values.shape, content, raw=True))

    def _least_opset(self, version: int) -> None:
        for opset in self.model.opset_import:
            if opset.domain in ("", "ai.onnx") and opset.version < version:
                # The operators that the exporters write are the same in 18 to 21, but for the types that they take.
                opset.version = version
                self.model.ir_version = max(self.model.ir_version, 10)


def _reads(node: NodeProto) -> Iterator[str]:
    """Names that a node and the bodies of its loops read."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _reads(inner)


def _ordered(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Each after all that it reads."""
    maker = {name: i for i, node in enumerate(nodes) for name in node.output}
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(nodes)))
    graph.add_edges_from((maker[n], i) for i, node in enumerate(nodes) for n in _reads(node) if n in maker)
    return [nodes[i] for i in nx.lexicographical_topological_sort(graph)]


def _needed(nodes: Iterable[NodeProto], read: set[str]) -> list[NodeProto]:
    """Nodes whose outputs are read, in order."""
    kept = []
    for node in reversed(list(nodes)):
        if read.intersection(node.output):
            kept.append(node)
            read.update(_reads(node))
    return kept[::-1]
