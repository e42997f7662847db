"""What a runtime makes of a cost: operators that it runs inside others have neither launch nor traffic of their own.

A fusion is data: patterns over the sequence of operators. Each operator is one word, `kind:name`; an element-wise one
also says how many tensors of full size it reads (`elementwise1:gelu`, `elementwise2:add`; an added bias is no tensor of
full size). A new runtime is one more entry of `FUSIONS`.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from .operators import Cost, Kind, OperatorCost


@dataclass(frozen=True)
class Rule:
    """A sequence of operators that becomes one kernel: of the kind and name of the first, unless it says otherwise."""

    pattern: str
    kind: Kind | None = None
    name: str | None = None
    closed: bool = False
    """What the later operators read was made, or first read, inside the pattern."""


@dataclass(frozen=True)
class Fusion:
    """How a family of runtimes fuses, and how we know."""

    runtimes: tuple[str, ...]
    rules: tuple[Rule, ...]
    source: str
    folds_constants: bool = True
    """Tensors that are made from nothing (arange, zeros) are made once, when the net is loaded."""


_BATCH_NORM = r"normalization:\S*batch_?norm\S* "
_EPILOGUES = rf"(?:elementwise\d:\S+ |{_BATCH_NORM})+"
_ATTENTION = Rule(
    r"matmul:\S+ (?:elementwise\d:\S+ )*normalization:\S*softmax\S* (?:elementwise\d:\S+ )*matmul:\S+ ",
    "attention",
    "attention",
)
# Activations that exporters write out, x f(x): x is read once.
_WRITTEN_OUT = (
    Rule(r"elementwise1:(?:div|mul) elementwise1:erf elementwise1:add elementwise2:mul elementwise1:mul ", closed=True),
    Rule(r"elementwise1:sigmoid_? elementwise2:mul_? ", closed=True),
)
_ACTIVATIONS = r"(?:relu|leaky_?relu|sigmoid|tanh|clip|clamp|hardtanh|hard_?sigmoid|hard_?swish)_?"

FUSIONS: Mapping[str, Fusion] = {
    "eager": Fusion(("pytorch eager", "torch", "pytorch"), (), "each operator is a kernel", folds_constants=False),
    "full": Fusion(
        ("tensorrt", "coreml", "qnn", "qairt"),
        (
            *_WRITTEN_OUT,
            _ATTENTION,
            Rule(rf"(?:matmul|convolution|depthwise|attention|normalization|elementwise\d):\S+ {_EPILOGUES}"),
        ),
        "NVIDIA TensorRT developer guide, types of fusions: point-wise epilogues and chains, multi-head attention",
    ),
    "torch.compile": Fusion(
        ("torch.compile", "inductor"),
        (*_WRITTEN_OUT, _ATTENTION, Rule(r"(?:elementwise\d:\S+ |normalization:\S+ ){2,}")),
        "Inductor's default: point-wise operators and reductions in one kernel; products come from libraries",
    ),
    "onnxruntime": Fusion(
        ("onnxruntime", "ort"),
        (
            *_WRITTEN_OUT,
            Rule(r"matmul:\S+ (?:elementwise1:(?:add|mul|div)_? )+"),
            Rule(rf"(?:convolution|depthwise):\S+ (?:{_BATCH_NORM}|elementwise1:{_ACTIVATIONS} )+"),
        ),
        "the optimised graphs that ONNX Runtime 1.31 writes for its CPU provider, static shapes: bias into Gemm, scale "
        "into FusedMatMul, batch norm and simple activations into Conv, GELU and SiLU in one piece; residual sums, "
        "attention and pre-norm layer norms stay apart",
    ),
    "openvino": Fusion(
        ("openvino",),
        (
            *_WRITTEN_OUT,
            _ATTENTION,
            Rule(rf"(?:matmul|convolution|depthwise|attention|elementwise\d):\S+ {_EPILOGUES}"),
        ),
        "OpenVINO CPU plugin documentation: activations, scales and sums into Convolution and FullyConnected; snippets "
        "for element-wise chains and multi-head attention",
    ),
}


def fusion_of(runtime: str) -> Fusion:
    """The fusion of a runtime by its name, in any spelling and with its version; one that is not listed fuses fully,
    as runtimes for inference do."""
    plain = _plain(runtime)
    if runtime in FUSIONS:
        return FUSIONS[runtime]
    results = [(len(word), f) for f in FUSIONS.values() for word in map(_plain, f.runtimes) if plain.startswith(word)]
    return max(results, key=lambda pair: pair[0])[1] if results else FUSIONS["full"]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def fused(cost: Cost, runtime: str = "full") -> Cost:
    """The cost as a runtime executes it: its rules in turn, each on what the one before has left.

    "full": an element-wise operator, or a batch norm, that follows a matmul, convolution, attention, normalization or
    another element-wise operator is an epilogue of it: no launch, and of its traffic only what does not pass from one
    to the other. Matmul, softmax, matmul is one attention, whose scores are not written.
    """
    fusion = fusion_of(runtime)
    free = fusion.folds_constants
    operators = [op for op in cost.operators if not (free and op.kind == "other" and op.bytes_read == 0)]
    for rule in fusion.rules:
        operators = list(_applied(rule, operators))
    return replace(cost, operators=tuple(operators))


def _applied(rule: Rule, operators: Sequence[OperatorCost]) -> Iterator[OperatorCost]:
    words = [_word(op) for op in operators]
    ends = list(accumulate(map(len, words)))
    done = 0
    for match in re.finditer(rule.pattern, "".join(words)):
        first, last = bisect_left(ends, match.start() + 1), bisect_left(ends, match.end())
        yield from operators[done:first]
        yield from _merged(rule, operators[first : last + 1])
        done = last + 1
    yield from operators[done:]


def _word(op: OperatorCost) -> str:
    arity = (2 if op.bytes_read > 1.5 * op.bytes_written else 1) if op.kind == "elementwise" else ""
    return f"{op.kind}{arity}:{re.sub('[^a-z0-9_.]', '_', op.name.lower())} "


def _merged(rule: Rule, group: Sequence[OperatorCost]) -> list[OperatorCost]:
    """One kernel, or several where a merged table holds more heads than epilogues."""
    if rule.kind and len({op.count for op in group}) > 1:
        return list(group)
    merged = [group[0]]
    for op in group[1:]:
        merged += _absorb(merged.pop(), replace(op, bytes_read=0.0) if rule.closed else op)
    return [replace(op, kind=rule.kind or op.kind, name=rule.name or op.name) for op in merged]


def _absorb(head: OperatorCost, op: OperatorCost) -> list[OperatorCost]:
    """`op.count` epilogues shared out evenly among `head.count` kernels."""
    each, more = divmod(op.count, head.count)
    parts = [(each, head.count - more), (each + 1, more)]
    return [_chain(head, op, length, count) for length, count in parts if count]


def _chain(head: OperatorCost, op: OperatorCost, length: int, count: int) -> OperatorCost:
    """`count` kernels, each a head and a chain of `length` alike epilogues."""
    if not length:
        return replace(head, count=count)
    read = max(0.0, op.bytes_read - head.bytes_written) + (length - 1) * max(0.0, op.bytes_read - op.bytes_written)
    flops = head.flops + length * op.flops
    read += head.bytes_read
    return replace(head, flops=flops, bytes_read=read, bytes_written=op.bytes_written, count=count)
