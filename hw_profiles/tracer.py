"""The eyes of the cost model: two torch modes that see every operator of a forward pass on the meta device.

`Tracer` (dispatch) sees aten operators; `Whole` (function) keeps those in one piece that torch would decompose on the
meta device, though every real device runs them as one kernel: attention, linear, RMSNorm.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .operators import Kind, OperatorCost, elements, flops_of, is_free, kind_of


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Tensors among arguments, and one level down in lists (cat, index)."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(item for item in value if isinstance(item, Tensor))
    return found


def _on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    return [_on_meta(item) for item in value] if isinstance(value, list) else value


class _Spec(NamedTuple):
    """All that a meta tensor is; hashable."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


def _freeze(value: Any) -> Any:
    """A hashable picture of an argument; numbers carry their type, for 1 == 1.0 == True."""
    if isinstance(value, Tensor):
        return _Spec(tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        return (list, tuple(map(_freeze, value)))
    return (type(value), value)


def _thaw(value: Any) -> Any:
    if isinstance(value, _Spec):
        return torch.empty_strided(value.shape, value.stride, dtype=value.dtype, device="meta")
    kind, content = value
    return [_thaw(item) for item in content] if kind is list else content


class _Call(NamedTuple):
    """What one call of an operator gives and does; a function of its arguments' shapes alone."""

    out: Any
    kind: Kind
    flops: int


@lru_cache(maxsize=20_000)
def _call(func: Any, args: Any, kwargs: Any) -> _Call:
    """Run an operator on fresh meta tensors. Torch's meta kernels are Python, ~0.3 ms each: a search asks for the
    same shapes again and again, so this cache makes a trace about five times as fast."""
    thawed = _thaw(args)
    named = {key: _thaw(value) for key, value in kwargs}
    out = func(*thawed, **named)
    inputs = _tensors(thawed) + _tensors(named.values())
    kind = kind_of(func.overloadpacket.__name__, inputs, _tensors(out if isinstance(out, tuple | list) else (out,)))
    return _Call(_freeze(out), kind, flops_of(func, kind, tuple(thawed), named, out))


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records one row for each kernel, and when each activation is born and read last."""

    def __init__(self, float_bytes: int, weights: Iterable[Tensor], inputs: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[OperatorCost] = []
        self.float_bytes = float_bytes
        self._weights = {self._key(w) for w in weights}
        self._alive: list[torch.UntypedStorage] = []  # held, so that no key is given to two storages
        self._size: dict[int, float] = {}
        self._born: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._touch(inputs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = _tensors(args) + _tensors(kwargs.values())
        if not any(t.is_meta for t in inputs):
            return self._run(func, args, kwargs, inputs)
        if not all(t.is_meta for t in inputs):
            # Constants held as plain attributes, or made on the CPU inside the forward.
            args, kwargs = tuple(map(_on_meta, args)), {k: _on_meta(v) for k, v in kwargs.items()}
            inputs = _tensors(args) + _tensors(kwargs.values())
        if func.is_view or func._schema.is_mutable or is_free(func):
            return self._run(func, args, kwargs, inputs)
        call = _call(func, _freeze(args), tuple((key, _freeze(value)) for key, value in kwargs.items()))
        out = _thaw(call.out)
        self._note(func, call, inputs, out)
        return out

    def _run(self, func: Any, args: Any, kwargs: Any, inputs: list[Tensor]) -> Any:
        """Views and in-place operators must see the very tensors; constants are computed."""
        out = func(*args, **kwargs)
        if not is_free(func):
            outputs = _tensors(out if isinstance(out, tuple | list) else (out,))
            kind = kind_of(func.overloadpacket.__name__, inputs, outputs)
            self._note(func, _Call(None, kind, flops_of(func, kind, args, kwargs, out)), inputs, out)
        return out

    def _note(self, func: Any, call: _Call, inputs: list[Tensor], out: Any) -> None:
        outputs = _tensors(out if isinstance(out, tuple | list) else (out,))
        # Mean and deviation, the other outputs of a normalization, are kept for training alone.
        outputs = outputs[:1] if call.kind == "normalization" else outputs
        self.record(func.overloadpacket.__name__, call.kind, call.flops, (inputs, outputs))

    def record(self, name: str, kind: Kind, flops: float, moved: tuple[list[Tensor], list[Tensor]]) -> None:
        inputs, outputs = moved
        written = sum(map(self.bytes_of, outputs))
        # A gather reads the rows that it gives and its indices, not its whole table.
        sources = inputs[1:] if kind == "gather" else inputs
        read = sum(map(self.bytes_of, sources)) + (written if kind == "gather" else 0)
        self.rows.append(OperatorCost(name, kind, flops, read, written))
        self._touch((*inputs, *outputs))

    def peak_activation_bytes(self, outputs: Iterable[Tensor]) -> float:
        """Bytes of the largest set of activations alive at once; the model's outputs live to the end."""
        self._touch(outputs)
        change = [0.0] * (len(self.rows) + 2)
        for key, size in self._size.items():
            change[self._born[key]] += size
            change[self._last[key] + 1] -= size
        return max(accumulate(change))

    def _touch(self, tensors: Iterable[Tensor]) -> None:
        now = max(len(self.rows) - 1, 0)
        for tensor in tensors:
            key = self._key(tensor)
            if key in self._weights:
                continue
            if key not in self._born:
                storage = tensor.untyped_storage()
                self._alive.append(storage)
                self._born[key] = now
                self._size[key] = storage.nbytes() / tensor.element_size() * self._width(tensor)
            self._last[key] = now

    def _key(self, tensor: Tensor) -> int:
        return int(tensor.untyped_storage()._cdata)

    def _width(self, tensor: Tensor) -> int:
        return self.float_bytes if tensor.is_floating_point() else tensor.element_size()

    def bytes_of(self, tensor: Tensor) -> int:
        """Bytes that a tensor takes in memory at the traced precision."""
        return elements(tensor) * self._width(tensor)


class Whole(TorchFunctionMode):
    """Keeps attention, linear layers and RMSNorm in one piece."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = _WHOLE.get(func)
        # On the CPU it is a constant's arithmetic: run, not traced.
        if rule is None or not args or not args[0].is_meta:
            return func(*args, **(kwargs or {}))
        return rule(self.tracer, *args, **(kwargs or {}))


def _attention(
    tracer: Tracer, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **__: Any
) -> Tensor:
    """Scores and weighted values, 2 x MACs each, and a softmax of 5 FLOPs a score; scores stay on chip."""
    scores = query.shape[:-1].numel() * key.shape[-2]
    out = query.new_empty((*query.shape[:-1], value.shape[-1]))
    flops = scores * (2 * query.shape[-1] + 2 * value.shape[-1] + 5)
    tracer.record("scaled_dot_product_attention", "attention", flops, (_tensors((query, key, value, attn_mask)), [out]))
    return out


def _linear(tracer: Tracer, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """One kernel, where torch shows view, transpose, addmm, view: half the time of a trace."""
    if x.shape[-1] != weight.shape[-1]:
        raise RuntimeError(f"a linear layer of {weight.shape[-1]} inputs is given {x.shape[-1]}")
    out = x.new_empty((*x.shape[:-1], *weight.shape[:-1]))
    tracer.record("linear", "matmul", 2 * x.numel() * weight.shape[:-1].numel(), (_tensors((x, weight, bias)), [out]))
    return out


def _rms_norm(tracer: Tracer, x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    del shape, eps
    out = x.new_empty(x.shape)
    tracer.record("rms_norm", "normalization", 5 * x.numel(), (_tensors((x, weight)), [out]))
    return out


_WHOLE: dict[Any, Callable[..., Tensor]] = {
    F.scaled_dot_product_attention: _attention,
    F.linear: _linear,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
}
