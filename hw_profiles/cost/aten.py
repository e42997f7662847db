"""What one aten operator costs: its class, its FLOPs and its elements. The closed rules of the tracer, in one place.

FLOPs are 2 x MACs, from torch's own flop counter where it knows the operator; the rest is a fixed number per element.
The simple numbers are enough: these operators are bound by memory on every device, their FLOPs decide nothing.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

from .operators import FLOPS_PER_ELEMENT, Kind

_COPIES = frozenset(("clone", "copy_", "cat", "stack", "constant_pad_nd", "roll", "_to_copy", "flip", "fill_", "zero_"))

# Operators of a class of their own; every other operator is element-wise if its output is as large as its largest
# input (gelu, add, clone, cat), and "other" if it shrinks or grows it (mean, pooling, upsampling).
_KIND_OF: dict[str, Kind] = {
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm", "dot", "mv", "addmv", "_scaled_mm", "linear"), "matmul"),
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), "convolution"),
    **dict.fromkeys(
        ("native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit"), "normalization"
    ),
    **dict.fromkeys(
        ("_native_batch_norm_legit_no_training", "batch_norm", "_fused_rms_norm", "rms_norm"), "normalization"
    ),
    **dict.fromkeys(("_softmax", "_safe_softmax", "_log_softmax", "logsumexp"), "normalization"),
    **dict.fromkeys(("embedding", "index", "gather", "index_select", "take", "_embedding_bag"), "gather"),
    **dict.fromkeys(
        ("scatter", "scatter_add", "scatter_add_", "scatter_", "index_put", "index_put_", "index_add"), "gather"
    ),
    **dict.fromkeys(("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "associative_scan"), "scan"),
    **dict.fromkeys(
        ("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"), "other"
    ),
    **dict.fromkeys(_COPIES, "other"),
}
_FREE = frozenset(
    (
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "_unsafe_view",
        "detach",
        "alias",
        "lift_fresh",
        "_local_scalar_dense",
    )
)
"""Neither kernel nor traffic, although torch does not call them views."""


def is_free(op: OpOverload[..., Any]) -> bool:
    """Views and allocations move no data: `reshape`, `transpose`, `expand`, `empty`."""
    return op.is_view or op.overloadpacket.__name__ in _FREE


def elements(tensor: Tensor) -> int:
    """Elements that lie in memory: an expanded dimension (stride 0) is read once."""
    strides = tensor.stride()
    if 0 not in strides:
        return tensor.numel()
    return prod(n for n, stride in zip(tensor.shape, strides, strict=True) if stride or n == 0)


def kind_of(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> Kind:
    """The class of an aten operator, by name; convolutions with one input channel per group are depthwise."""
    kind = _KIND_OF.get(name)
    if kind == "convolution" and inputs[1].shape[1] == 1 < inputs[0].shape[1]:
        return "depthwise"
    if kind is not None:
        return kind
    largest = max((t.numel() for t in inputs), default=0)
    return "elementwise" if outputs and outputs[0].numel() == largest else "other"


def flops_of(op: OpOverload[..., Any], kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    """FLOPs (2 x MACs) of one call of an aten operator; `out` is its result."""
    formula: Callable[..., int] | None = flop_registry.get(op.overloadpacket)
    if formula is not None:
        return formula(*args, **kwargs, out_val=out)
    if op.overloadpacket.__name__ in _COPIES:
        return 0
    tensors = [t for t in (*args, out) if isinstance(t, Tensor)]
    return FLOPS_PER_ELEMENT.get(kind, 0) * max((t.numel() for t in tensors), default=0)
