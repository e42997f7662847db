"""A float ONNX graph as a policy wants it: each part that has a scheme gets its codes, and integer kernels where
ONNX Runtime has them.

    activations of 8 bits   QuantizeLinear, DequantizeLinear at the input and DequantizeLinear at the weight, which
                            runtimes run as one integer kernel (of convolutions: where quantized ones follow each other)
    dynamic                 MatMulNBits, which rounds each block of its input as it comes
    weights of 2 to 4 bits  alone: MatMulNBits, which reads them as they are
    fp8                     the input scaled, cast to e4m3 and back; a product of floats
    other weights, tables   arithmetic that ends in a float; what is constant of it runtimes do once, at load

Codes of 4 bits or less take 4 bits each, the others 8. On x86 processors without VNNI, ONNX Runtime adds two products
of unsigned inputs and signed weights in 16 bits, which saturate (its documentation of quantization). Unsigned weights
have kernels that do not, on every processor; they do not use VNNI where there is some. Weights of 7 bits or less cannot
saturate. Its integer kernels take signed and unsigned activations, weights with and without zeros, one scale or one a
row, in the same time (with zeros, convolutions take 12 % longer); but signed activations behind a ReLU leave
convolutions in floats. It treats QuantizeLinear and DequantizeLinear of e4m3 as if they were of integers, and then does
not load the file (1.31): casts give the same numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper
from torch import nn

from ...errors import UserError
from ...search_space.quantization import Scheme, policy_of
from .integers import HALF, Activation, Integers, beyond_half, plausible
from .onnx_blocks import block_of, packed
from .onnx_edit import MICROSOFT, Editor

IN_INT8 = 4
"""The accuracy level of MatMulNBits that multiplies in integers."""


@dataclass(frozen=True, eq=False)
class Part:
    """A module that has a scheme, in the graph.

    values: None where the weights stay floats of 16 bits. biased: it has a bias; exporters may compute one of zeros.
    unsigned: integer kernels read its codes of 8 bits with 128 added.
    """

    name: str
    weight: str
    scheme: Scheme
    values: Integers | None
    biased: bool
    unsigned: bool


def quantized_graph(
    content: bytes, module: nn.Module, parts: Mapping[str, Integers] | None = None, *, unsigned: bool = True
) -> bytes:
    """The file of `module`, exported without folded constants, with its policy carried out.

    parts: by the module's name; None: plausible ones, for a file that is only timed. unsigned: see `quantized_onnx`.
    Errors: what no kernel does; a part of the policy without its codes; a weight that is no plain operand.
    """
    graph = Editor(content)
    done: set[tuple[str, type[nn.Module]]] = set()
    for part, kind in _parts(module, graph, parts, unsigned):
        if (part.weight, kind) not in done:  # a weight that two modules share
            _apply(graph, part, kind, timed=parts is None)
            done.add((part.weight, kind))
    return graph.content()


def _parts(
    module: nn.Module, graph: Editor, given: Mapping[str, Integers] | None, unsigned: bool
) -> list[tuple[Part, type[nn.Module]]]:
    """Parts of the policy that occur in the graph; tied weights have one of their names in it."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    results = []
    for name, scheme in policy_of(module).items():
        part = module.get_submodule(name)
        kind = next(kind for kind in _RULES if isinstance(part, kind))
        weight = next((n for n in names.get(id(part.weight), ()) if n in graph.tensors), None)
        if weight is not None:  # else it is not called
            biased = getattr(part, "bias", None) is not None
            values = _values(name, scheme, part, given)
            results.append((Part(name, weight, scheme, values, biased, unsigned and scheme.weights == 8), kind))
    return results


def _values(name: str, scheme: Scheme, module: nn.Module, given: Mapping[str, Integers] | None) -> Integers | None:
    if scheme.activations not in (8, 16):
        raise UserError(
            f"{name or 'the net'} is to run as {scheme.text}, and no runtime here has kernels for activations of "
            f"{scheme.activations} bits; use 8 or 16"
        )
    if scheme.weights == 16:
        return None
    if given is None:
        return plausible(module.weight, scheme)  # type: ignore[arg-type]
    if name not in given:
        raise UserError(f"the policy has {scheme.text} for {name or 'the net'}, and no codes of its weights are given")
    return given[name]


def _apply(graph: Editor, part: Part, kind: type[nn.Module], timed: bool) -> None:
    uses = _uses(graph, part.weight, kind)
    for node in uses:
        _RULES[kind](graph, part, node)
    if not uses and graph.readers(part.weight):
        if not timed and part.values is not None and _rounding(part.values):
            raise UserError(
                f"the weight of {part.name} is not read by one plain operator, and its inputs cannot be integers in an "
                f"ONNX file; leave it out: keep={part.name!r}"
            )
        _elsewhere(graph, part)


def _elsewhere(graph: Editor, part: Part) -> None:
    """A weight that operators of another kind read, such as one that is cut into parts first."""
    readers = graph.readers(part.weight)
    decoded = _decoded(graph, part)
    for node in readers:
        for i, name in enumerate(node.input):
            if name == part.weight:
                graph.rewire(node, i, decoded)


def _uses(graph: Editor, weight: str, kind: type[nn.Module]) -> list[NodeProto]:
    """Nodes that do with a weight what modules of that kind do; a linear layer's has a transpose before it or none."""
    readers = graph.readers(weight)
    if kind is nn.Embedding:
        return [n for n in readers if n.op_type == "Gather" and n.input[0] == weight and not _attribute(n, "axis", 0)]
    if kind is not nn.Linear:
        return [n for n in readers if n.op_type == "Conv" and n.input[1] == weight]
    turned = [n.output[0] for n in readers if n.op_type == "Transpose"]
    products = [n for name in turned for n in graph.readers(name) if n.op_type == "MatMul" and n.input[1] == name]
    return products + [n for n in readers if n.op_type == "Gemm" and n.input[1] == weight and _plain(n)]


def _attribute(node: NodeProto, name: str, default: float) -> float:
    results = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return float(results[0]) if results else default


def _plain(gemm: NodeProto) -> bool:
    """x W^T + b."""
    defaults = {"transB": 0, "transA": 0, "alpha": 1, "beta": 1}
    return [_attribute(gemm, *pair) for pair in defaults.items()] == [1, 0, 1, 1]


def _linear(graph: Editor, part: Part, node: NodeProto) -> None:
    values = part.values
    if values is not None and (activation := _rounding(values)) and values.scheme.format is None:
        x = _quantized_input(graph, values.scheme, activation, node.input[0])
        weight = graph.node("Transpose", [_dequantized(graph, part, values)], perm=[1, 0])
        _subtract_bias(graph, _product(graph, node, lambda output: graph.node("MatMul", [x, weight], output)))
    elif values is not None and (block := block_of(values)):
        inputs = [node.input[0], *packed(graph, values, block)]
        rows, width = values.matrix.shape
        sizes = {"N": rows, "K": width, "bits": values.bits, "block_size": block}
        sizes |= {"accuracy_level": IN_INT8} if values.scheme.dynamic else {}
        _product(graph, node, lambda output: graph.node("MatMulNBits", inputs, output, MICROSOFT, **sizes))
    else:
        _round_input(graph, part, node)
        weight = _decoded(graph, part)
        turned = node.op_type == "Gemm"
        graph.rewire(node, 1, weight if turned else graph.node("Transpose", [weight], perm=[1, 0]))


def _product(graph: Editor, node: NodeProto, make: Callable[[str], str]) -> str:
    """The product in place of a MatMul, or of a Gemm, whose bias is added after it."""
    if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2]:
        product = make(f"{node.output[0]}.product")
        graph.replace(node, "Add", [product, node.input[2]])
        return product
    graph.drop(node)
    return make(node.output[0])


def _subtract_bias(graph: Editor, product: str) -> None:
    """ONNX Runtime makes MatMul and Add one Gemm before it looks for quantized ones, and finds none then: it does not
    know Sub."""
    for reader in graph.readers(product):
        biases = [name for name in reader.input if name in graph.tensors and len(graph.tensors[name].dims) == 1]
        if reader.op_type == "Add" and biases:
            graph.replace(reader, "Sub", [product, graph.constant(-graph.array(biases[0]))])


def _convolution(graph: Editor, part: Part, node: NodeProto) -> None:
    _round_input(graph, part, node)
    if part.values is not None and _rounding(part.values) and part.values.scheme.format is None:
        graph.rewire(node, 1, _dequantized(graph, part, part.values))
    else:
        graph.rewire(node, 1, _decoded(graph, part))
    if not part.biased:
        graph.cut(node, 2)


def _embedding(graph: Editor, part: Part, node: NodeProto) -> None:
    graph.drop(node)
    _decoded(graph, part, node.input[1], node.output[0])


_RULES: Mapping[type[nn.Module], Callable[[Editor, Part, NodeProto], None]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Embedding: _embedding,
}


def _rounding(values: Integers) -> Activation | None:
    """How inputs become codes. None: they do not, or it is not known, of a module whose weight something else reads
    without calling it."""
    return values.activation if values.scheme.activations == 8 else None


def _round_input(graph: Editor, part: Part, node: NodeProto) -> None:
    if part.values is not None and (activation := _rounding(part.values)):
        graph.rewire(node, 0, _quantized_input(graph, part.scheme, activation, node.input[0]))


def _quantized_input(graph: Editor, scheme: Scheme, activation: Activation, x: str) -> str:
    """Parts that read one tensor at one scale share this pair."""
    scale, zero, signed = activation
    step = graph.constant(np.array(scale, dtype=np.float32))
    if scheme.format == "fp8":
        code = graph.node("Cast", [graph.node("Div", [x, step])], to=TensorProto.FLOAT8E4M3FN)
        return graph.node("Mul", [graph.node("Cast", [code], to=TensorProto.FLOAT), step])
    how = [step, graph.constant(np.array(zero, dtype=np.int8 if signed else np.uint8))]
    return graph.node("DequantizeLinear", [graph.node("QuantizeLinear", [x, *how]), *how])


def _dequantized(graph: Editor, part: Part, values: Integers) -> str:
    """The weight as runtimes look for it: one scale for each output channel, or one for all."""
    scale, zero = values.by_group(values.scale), values.by_group(values.zero)
    if scale.shape[1] > 1:
        raise UserError(
            f"{part.name or 'the net'}: weights beside activations of 8 bits have one scale a row, no groups"
        )
    entries = 0 if values.whole else slice(None)
    zeros, step = np.asarray(zero[entries, 0], dtype=np.int8), np.asarray(scale[entries, 0], dtype=np.float32)
    codes = graph.constant(_shifted(values.codes)) if part.unsigned else _codes(graph, values)
    how = [graph.constant(step), graph.constant(_shifted(zeros) if part.unsigned else zeros)]
    return graph.node("DequantizeLinear", [codes, *how], axis=0)


def _shifted(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """With 128 added."""
    return codes.view(np.uint8) ^ np.uint8(128)


def _codes(graph: Editor, values: Integers) -> str:
    if values.scheme.format == "fp8":
        return graph.float8(values.codes)
    return graph.narrow(values.codes) if values.bits == 4 else graph.constant(values.codes)


def _decoded(graph: Editor, part: Part, rows: str = "", output: str = "") -> str:
    """The weight as a float, or only these rows of it: scale x (code - zero)."""
    if part.values is None:
        floats = graph.array(part.weight)
        if part.scheme.format is None and not np.abs(floats).max(initial=0) <= HALF:
            raise beyond_half(part.name, "weights", float(floats.min()), float(floats.max()))
        half = graph.bfloat16(floats) if part.scheme.format == "bf16" else graph.constant(floats.astype(np.float16))
        return graph.node("Cast", [_taken(graph, half, rows)], output, to=TensorProto.FLOAT)
    values = part.values
    if values.scheme.format == "fp8":  # ONNX Runtime takes no rows of e4m3
        codes = _taken(graph, graph.node("Cast", [_codes(graph, values)], to=TensorProto.FLOAT), rows)
    else:
        codes = graph.node("Cast", [_taken(graph, _codes(graph, values), rows)], to=TensorProto.FLOAT)
    if values.zero.any():
        codes = graph.node("Sub", [codes, _spread(graph, values, values.zero, rows)])
    return graph.node("Mul", [codes, _spread(graph, values, values.scale, rows)], output)


def _taken(graph: Editor, tensor: str, rows: str) -> str:
    return graph.node("Gather", [tensor, rows]) if rows else tensor


def _spread(graph: Editor, values: Integers, numbers: NDArray[Any], rows: str) -> str:
    """Scales or zeros, to meet the weights of their groups."""
    table, shape = values.by_group(numbers).astype(np.float32), values.codes.shape
    if values.whole:
        return graph.floats(table[0, 0])
    if table.shape[1] == 1:
        return _taken(graph, graph.floats(table.reshape(-1, *[1] * (len(shape) - 1))), rows)
    groups = graph.constant(np.arange(values.matrix.shape[1]) // values.group)
    wide = graph.node("Gather", [_taken(graph, graph.floats(table), rows), groups], axis=-1)
    return wide if len(shape) == 2 else graph.node("Reshape", [wide, graph.constant(np.array(shape))])
