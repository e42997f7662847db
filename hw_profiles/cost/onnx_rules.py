"""What one ONNX operator costs: its class and its FLOPs. The same closed rules as for aten operators (`aten.py`)."""

from math import prod
from typing import NamedTuple

from .onnx_graph import Step
from .onnx_values import Value
from .operators import FLOPS_PER_ELEMENT, Kind, attention_flops, recurrent_flops


def _all(kind: Kind, names: str) -> dict[str, Kind]:
    return dict.fromkeys(names.split(), kind)


_COPIES = frozenset(_all("other", "Concat Pad Tile Cast CastLike DepthToSpace SpaceToDepth Compress Trilu"))
VIEWS = frozenset(_all("other", "Reshape Flatten Squeeze Unsqueeze Identity Dropout Transpose Slice Split Expand"))
"""Where torch has views. A runtime may copy; most fold these into a neighbour."""
RESHAPES = frozenset(_all("other", "Reshape Flatten Squeeze Unsqueeze Identity Dropout"))
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}

# Operators of a class of their own; every other operator is element-wise if its output is as large as its largest
# input, and "other" if it shrinks or grows it (reductions, pooling, upsampling).
_KIND_OF: dict[str, Kind] = {
    **_all("matmul", "MatMul Gemm Einsum MatMulInteger QLinearMatMul FusedMatMul FusedGemm MatMulNBits"),
    **_all("matmul", "DynamicQuantizeMatMul MatMulIntegerToFloat QGemm"),
    **_all("convolution", "Conv ConvTranspose ConvInteger QLinearConv FusedConv DeformConv"),
    **_all("attention", "Attention MultiHeadAttention GroupQueryAttention"),
    **_all("normalization", "LayerNormalization BatchNormalization InstanceNormalization GroupNormalization LRN"),
    **_all("normalization", "RMSNormalization LpNormalization MeanVarianceNormalization Softmax LogSoftmax Hardmax"),
    **_all("normalization", "SkipLayerNormalization SimplifiedLayerNormalization SkipSimplifiedLayerNormalization"),
    **_all("gather", "Gather GatherElements GatherND Scatter ScatterElements ScatterND EmbedLayerNormalization"),
    **_all("scan", "CumSum CumProd RNN GRU LSTM"),
    **_all("other", "AveragePool MaxPool LpPool GlobalAveragePool GlobalMaxPool"),
    **dict.fromkeys(_COPIES, "other"),
}


def kind_of(step: Step) -> Kind:
    """The class of an operator, by name; convolutions with one input channel per group are depthwise."""
    kind = _KIND_OF.get(step.op)
    if kind == "convolution" and _filters(step).shape[1] == 1 < step.attribute("group", 1):
        return "depthwise"
    if kind is not None:
        return kind
    largest = max((value.elements for value in step.given), default=0)
    return "elementwise" if step.outputs[0].elements == largest else "other"


def flops_of(step: Step, kind: Kind) -> int:
    """FLOPs (2 x MACs) of one run of an operator."""
    out = step.outputs[0]
    if kind in ("convolution", "depthwise"):
        per_pixel = prod(_filters(step).shape[1:])
        return 2 * (step.given[0] if step.op == "ConvTranspose" else out).elements * per_pixel
    if kind == "matmul":
        return _einsum_flops(step) if step.op == "Einsum" else 2 * out.elements * _inner(step)
    if kind == "attention":
        pairs = attention_of(step)
        return pairs.projection + attention_flops(pairs.scores, pairs.key_dim, pairs.value_dim)
    if step.op in _GATES:
        steps, (directions, rows, inputs) = prod(step.given[0].shape[:2]), step.given[1].shape
        return directions * recurrent_flops(steps, inputs, rows // _GATES[step.op], _GATES[step.op])
    if step.op in _COPIES:
        return 0
    return FLOPS_PER_ELEMENT[kind] * max(value.elements for value in (*step.given, out))


def _filters(step: Step) -> Value:
    return step.given[3 if step.op.startswith("QLinear") else 1]


def _inner(step: Step) -> int:
    """Length of the sums of a product."""
    turned = step.attribute("transA", 0)
    return step.given[0].shape[-2 if turned else -1]


def _einsum_flops(step: Step) -> int:
    """A MAC for each combination of all indices."""
    terms = step.attribute("equation").decode().replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, value in zip(terms, step.given, strict=True):
        before, dots, after = term.partition("...")
        rest = value.shape[len(before) : len(value.shape) - len(after)] if dots else ()
        sizes |= dict(zip(before, value.shape, strict=False))
        sizes |= dict(zip(reversed(after), reversed(value.shape), strict=False))
        sizes["..."] = max(sizes.get("...", 1), prod(rest))
    return 2 * prod(sizes.values())


class Attention(NamedTuple):
    """Sizes of one attention operator."""

    scores: int
    """Pairs of a query and a key, over batch and heads."""
    key_dim: int
    value_dim: int
    kept: tuple[int, int]
    """Elements of keys and values, earlier ones included."""
    projection: int = 0
    """FLOPs of the projections that some contributed operators contain."""


def attention_of(step: Step) -> Attention:
    """Attention of ONNX (opset 23) and of ONNX Runtime (com.microsoft), with split (4-D) or joined heads (3-D)."""
    query = step.given[0]
    heads = step.attribute("q_num_heads") or step.attribute("num_heads") or query.shape[1]
    kv_heads = step.attribute("kv_num_heads") or heads
    if step.op == "Attention" and step.node.domain == "com.microsoft":
        return _projecting(query, step.given[1], heads)
    key, value = (step.inputs[at] if len(step.inputs) > at else None for at in (1, 2))
    if key is None or value is None:  # q, k, v packed along the last dimension
        batch, tokens, width = query.shape
        dim = width // (heads + 2 * kv_heads)
        return Attention(batch * heads * tokens * tokens, dim, dim, (batch * tokens * kv_heads * dim,) * 2)
    joined = len(query.shape) == 3
    key_heads = kv_heads if joined else key.shape[1]
    dims = [v.shape[-1] // (key_heads if joined else 1) for v in (key, value)]
    past = _past(step)
    tokens = key.shape[-2] + (past.shape[-2] if past else 0)
    rows = query.shape[0] * heads * query.shape[-2]
    each = key.shape[0] * key_heads * tokens
    return Attention(rows * tokens, dims[0], dims[1], (each * dims[0], each * dims[1]))


def _past(step: Step) -> Value | None:
    at = {"Attention": 4, "GroupQueryAttention": 3, "MultiHeadAttention": 6}[step.op]
    return step.inputs[at] if len(step.inputs) > at else None


def _projecting(x: Value, weight: Value, heads: int) -> Attention:
    """com.microsoft Attention: one weight projects to queries, keys and values."""
    batch, tokens, _ = x.shape
    width = weight.shape[1] // 3
    scores, kept = batch * heads * tokens * tokens, batch * tokens * width
    return Attention(scores, width // heads, width // heads, (kept, kept), 2 * x.elements * weight.shape[1])
