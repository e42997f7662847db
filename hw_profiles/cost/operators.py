"""A cost: the kernels of one forward pass, with their FLOPs and bytes, from a trace or a table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import isfinite, prod
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from ...errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal[
    "matmul", "convolution", "depthwise", "attention", "elementwise", "normalization", "gather", "scan", "other"
]
KINDS: tuple[Kind, ...] = get_args(Kind)

PRODUCTS: tuple[Kind, ...] = ("matmul", "convolution", "depthwise")

FLOPS_PER_ELEMENT: Mapping[Kind, int] = {"elementwise": 1, "normalization": 5, "scan": 1, "gather": 0, "other": 1}
"""Per element of the largest operand. Five: mean, variance, centre, scale, shift; max, subtract, exp, sum, divide."""

_FLOATS: Mapping[str, int] = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1}
PRECISION_BYTES: Mapping[str, int] = {**_FLOATS, "int8": 1, "w8a16": 2, "w4a16": 2}
"""Of an activation's element."""

WEIGHT_BYTES: Mapping[str, float] = {**PRECISION_BYTES, "w8a16": 1, "w4a16": 0.5}
"""Of a weight's element."""


def bytes_per_element(precision: str) -> int:
    """Bytes of a floating-point element. Error: a precision that does not exist."""
    if precision not in PRECISION_BYTES:
        raise unknown("precision", precision, PRECISION_BYTES)
    return PRECISION_BYTES[precision]


def attention_flops(scores: int, key_dim: int, value_dim: int) -> int:
    """Of `scores` pairs of a query and a key: two products of 2 x MACs each and a softmax of 5 FLOPs a score."""
    return scores * (2 * key_dim + 2 * value_dim + 5)


def recurrent_flops(steps: int, inputs: int, hidden: int, gates: int) -> int:
    """Of one layer and direction over `steps` tokens: the products; what is element-wise is lost beside them."""
    return 2 * steps * gates * hidden * (inputs + hidden)


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """One kernel, or `count` kernels that are alike: the FLOPs (2 x MACs) of EACH and the bytes that it reads (weights
    included) and writes.

    length, channels: of the sums and of the output of a product or convolution; 0: not stated, or it is neither.
    Kernels work in blocks, so a multiple of a large power of two runs at a better rate than its neighbour.
    """

    name: str
    kind: Kind
    flops: float
    bytes_read: float
    bytes_written: float
    count: int = 1
    length: int = 0
    channels: int = 0
    precision: str = ""
    """Of its weights and inputs, where a policy gives it another one than the rest has: int8 (or fewer bits), fp8."""

    @property
    def bytes(self) -> float:
        return self.bytes_read + self.bytes_written


def block_sizes(kind: Kind, flops: float, output: Sequence[int]) -> dict[str, Any]:
    """`length` and `channels` of an operator with an output of that shape, as fields of `OperatorCost`."""
    if kind not in PRODUCTS or not prod(output):
        return {}
    return {"length": round(flops / 2 / prod(output)), "channels": output[-1 if kind == "matmul" else 1]}


@dataclass(frozen=True, slots=True)
class Total:
    """The sum over kernels."""

    kernels: int = 0
    flops: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0

    @property
    def bytes(self) -> float:
        return self.bytes_read + self.bytes_written

    @classmethod
    def of(cls, operators: Iterable[OperatorCost]) -> Self:
        kernels, flops, read, written = 0, 0.0, 0.0, 0.0
        for op in operators:
            n = op.count
            kernels, flops = kernels + n, flops + n * op.flops
            read, written = read + n * op.bytes_read, written + n * op.bytes_written
        return cls(kernels, flops, read, written)


@dataclass(frozen=True)
class Cost:
    """The operators of one forward pass, in the order of execution, with their FLOPs (2 x multiply-adds) and bytes.

    `flops` and `bytes` are the sums, `params` counts tied parameters once, `table()` has a row for each operator.

    >>> cost = nas.trace_cost(net, task.example)
    >>> print(f"{cost.flops / 1e3:.1f} thousand FLOPs, {cost.params} parameters, {len(cost.operators)} kernels")
    2.4 thousand FLOPs, 1210 parameters, 3 kernels
    """

    operators: tuple[OperatorCost, ...] = field(repr=False)
    params: int = 0
    weight_bytes: float = 0.0
    """Parameters (tied ones once) and buffers."""
    peak_activation_bytes: float = 0.0
    """The largest set of activations alive at once, weights apart."""
    precision: str = "fp32"
    kv_cache_bytes: float = 0.0
    """Keys and values of all attention for the tokens of the example: what a decoder would keep of them."""

    @classmethod
    def from_operators(
        cls,
        rows: "Iterable[OperatorCost | Mapping[str, Any]] | pd.DataFrame",
        *,
        params: int = 0,
        precision: str = "fp32",
        peak_activation_bytes: float = 0.0,
    ) -> Self:
        """A cost from a plain table (a published trace), one row for each kernel or for `count` alike.

        Columns: kind, flops, bytes_read, bytes_written (of ONE kernel); optional: name (else the kind), count (else 1),
        length, channels and precision (see `OperatorCost`).
        Errors: a missing or unknown column, an unknown kind, a number that is negative or not finite.
        """
        operators = tuple(_operator(number, row) for number, row in enumerate(_records(rows), 1))
        bytes_per_element(precision)  # refuses one that does not exist
        return cls(operators, params, params * WEIGHT_BYTES[precision], peak_activation_bytes, precision)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.operators, self.params, self.precision))

    @cached_property
    def total(self) -> Total:
        return Total.of(self.operators)

    @property
    def flops(self) -> float:
        return self.total.flops

    @property
    def bytes(self) -> float:
        """Traffic: read (weights included) and written."""
        return self.total.bytes

    @property
    def kernels(self) -> int:
        return self.total.kernels

    @property
    def memory_bytes(self) -> float:
        """What inference holds: weights and the peak of the activations."""
        return self.weight_bytes + self.peak_activation_bytes

    def by_kind(self) -> dict[Kind, Total]:
        """The sum over the kernels of each kind that occurs, in the order of `KINDS`."""
        groups: dict[Kind, list[OperatorCost]] = {kind: [] for kind in KINDS}
        for op in self.operators:
            groups[op.kind].append(op)
        return {kind: Total.of(group) for kind, group in groups.items() if group}

    def table(self) -> "pd.DataFrame":
        """One row for each operator, in order; `from_operators` reads it back."""
        import pandas as pd

        return pd.DataFrame([asdict(op) for op in self.operators], columns=list(OperatorCost.__slots__))


_REQUIRED = ("kind", "flops", "bytes_read", "bytes_written")
_OPTIONAL = {"count": 1, "length": 0, "channels": 0}
_COLUMNS = ("name", *_REQUIRED, *_OPTIONAL, "precision")


def _records(rows: "Iterable[Any] | pd.DataFrame") -> Iterable[Any]:
    if isinstance(rows, Sequence):
        return rows
    import pandas as pd  # here: its import takes half a second

    return rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows


def _operator(number: int, row: OperatorCost | Mapping[str, Any]) -> OperatorCost:
    """Row `number` (from 1) of a table, checked."""
    fields = {column: getattr(row, column) for column in _COLUMNS} if isinstance(row, OperatorCost) else row
    if not isinstance(fields, Mapping):
        raise UserError(f"operator {number} must be a mapping with {', '.join(_REQUIRED)}, not {fields!r}")
    for column in fields:
        if column not in _COLUMNS:
            raise unknown(f"column of operator {number}", str(column), _COLUMNS)
    missing = [column for column in _REQUIRED if column not in fields]
    if missing:
        raise UserError(f"operator {number} has no {', '.join(missing)}; a row needs {', '.join(_REQUIRED)}")
    kind = fields["kind"]
    if kind not in KINDS:
        raise unknown("operator kind", str(kind), KINDS)
    flops, read, written = (_number(number, column, fields[column]) for column in _REQUIRED[1:])
    whole = {column: _whole(number, column, fields.get(column, least), least) for column, least in _OPTIONAL.items()}
    name = fields.get("name")
    precision = fields.get("precision")
    precision = precision if isinstance(precision, str) else ""  # pandas has NaN for what is empty
    if precision:
        bytes_per_element(precision)  # refuses one that does not exist
    return OperatorCost(
        name if isinstance(name, str) and name else kind, kind, flops, read, written, **whole, precision=precision
    )


def _whole(number: int, column: str, value: Any, least: int) -> int:
    result = _number(number, column, value)
    if result != int(result) or result < least:
        raise UserError(f"{column} of operator {number} must be a whole number from {least} on, not {result:g}")
    return int(result)


def _number(number: int, column: str, value: Any) -> float:
    try:
        converted = float(value)
    except (TypeError, ValueError):
        converted = float("nan")
    if not isfinite(converted) or converted < 0:
        raise UserError(f"{column} of operator {number} must be a finite number from 0 on, not {value!r}")
    return converted
