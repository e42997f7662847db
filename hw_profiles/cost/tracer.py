"""The eye of the cost model: a torch mode that sees every aten operator of a forward pass on the meta device."""

from collections.abc import Iterable
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...search_space.quantization import Scheme
from ...search_space.watching import Watching
from .aten import elements, flops_of, is_free, kind_of
from .flow import Move
from .liveness import KeyValues, Liveness, Piece
from .operators import PRODUCTS, WEIGHT_BYTES, Kind, OperatorCost, block_sizes, bytes_per_element

OVERWRITING = frozenset(("copy_", "fill_", "zero_"))
"""In-place operators that do not read what their output held."""


def tensors_of(values: Iterable[Any]) -> list[Tensor]:
    """Tensors among arguments, and one level down in lists (cat, index)."""
    results: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            results.append(value)
        elif isinstance(value, list | tuple):
            results.extend(item for item in value if isinstance(item, Tensor))
    return results


def _width_of(weight: Tensor, scheme: Scheme) -> float:
    """Bytes of an element of a quantized weight; scales take 4, zeros as much as a weight."""
    if scheme.weights == 16:
        return 2.0
    row, rows, width = weight.numel() / len(weight), len(weight), scheme.weights / 8
    scales = 1 if scheme.whole else rows * ceil(row / (scheme.group or row))
    return width + scales * (4 + width * scheme.zeros) / weight.numel()


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
    inputs = tensors_of(thawed) + tensors_of(named.values())
    kind = kind_of(func.overloadpacket.__name__, inputs, tensors_of(out if isinstance(out, tuple | list) else (out,)))
    return _Call(_freeze(out), kind, flops_of(func, kind, tuple(thawed), named, out))


class Tracer(Watching):
    """Records one row for each kernel, and when each activation is born and read last."""

    def __init__(
        self,
        precision: str,
        weights: Iterable[Tensor],
        inputs: Iterable[Tensor],
        schemes: Iterable[tuple[Tensor, Scheme]] = (),
    ) -> None:
        """schemes: of the weights that have one."""
        super().__init__()
        self.rows: list[OperatorCost] = []
        self.moves: list[Move] = []  # they hold their tensors, so that no key is given to two storages
        self.key_values = KeyValues()
        self._float_bytes = bytes_per_element(precision)
        self._weight_bytes = WEIGHT_BYTES[precision]
        self._weights = {self._key(w) for w in weights}
        self._schemes = {self._key(w): (scheme, _width_of(w, scheme)) for w, scheme in schemes}
        self._liveness = Liveness()
        inputs = list(inputs)
        self._has_values = not all(t.is_meta for t in inputs)
        self._touch(inputs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = tensors_of(args) + tensors_of(kwargs.values())
        if not any(t.is_meta for t in inputs):
            return self._run(func, args, self._kept_here(func, kwargs, inputs), inputs)
        if not all(t.is_meta for t in inputs):
            # Constants held as plain attributes, or made on the CPU inside the forward.
            args, kwargs = tuple(map(self._on_meta, args)), {k: self._on_meta(v) for k, v in kwargs.items()}
            inputs = tensors_of(args) + tensors_of(kwargs.values())
        if func.is_view or func._schema.is_mutable or is_free(func):
            return self._run(func, args, kwargs, inputs)
        call = _call(func, _freeze(args), tuple((key, _freeze(value)) for key, value in kwargs.items()))
        out = _thaw(call.out)
        self._note(func, call, inputs, out)
        return out

    def _kept_here(self, func: Any, kwargs: dict[str, Any], inputs: list[Tensor]) -> dict[str, Any]:
        """A mask that has values keeps them where a forward moves it to the device of its weights."""
        moved = (
            func.overloadpacket is torch.ops.aten._to_copy
            and torch.device(kwargs.get("device") or "cpu").type == "meta"
        )
        if self._has_values and moved and not inputs[0].is_floating_point():
            return {**kwargs, "device": inputs[0].device}
        return kwargs

    def _on_meta(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            copy = value.to("meta")
            self.moves.append(Move(None, [value], [copy]))
            return copy
        return [self._on_meta(item) for item in value] if isinstance(value, list) else value

    def _run(self, func: Any, args: Any, kwargs: Any, inputs: list[Tensor]) -> Any:
        """Views and in-place operators must see the very tensors; constants are computed."""
        out = func(*args, **kwargs)
        if not is_free(func):
            outputs = tensors_of(out if isinstance(out, tuple | list) else (out,))
            kind = kind_of(func.overloadpacket.__name__, inputs, outputs)
            self._note(func, _Call(None, kind, flops_of(func, kind, args, kwargs, out)), inputs, out)
        return out

    def _note(self, func: Any, call: _Call, inputs: list[Tensor], out: Any) -> None:
        outputs = tensors_of(out if isinstance(out, tuple | list) else (out,))
        # Mean and deviation, the other outputs of a normalization, are kept for training alone.
        outputs = outputs[:1] if call.kind == "normalization" else outputs
        self.record(func.overloadpacket.__name__, call.kind, call.flops, (inputs, outputs))

    def record(self, name: str, kind: Kind, flops: float, moved: tuple[list[Tensor], list[Tensor]]) -> None:
        inputs, outputs = moved
        written = sum(map(self.bytes_of, outputs))
        scheme = self._scheme_of(inputs)
        sizes = block_sizes(kind, flops, outputs[0].shape if outputs else ())
        self.moves.append(Move(len(self.rows), inputs[1:] if name in OVERWRITING else inputs, outputs))
        narrow = scheme is not None and scheme.activations <= 8 and kind in PRODUCTS
        precision = scheme.precisions[0] if scheme is not None and narrow else ""
        self.rows.append(
            OperatorCost(name, kind, flops, self._read(kind, moved, scheme), written, **sizes, precision=precision)
        )
        self._touch((*inputs, *outputs))
        if outputs:
            pieces = [self._piece(t) for t in inputs]
            self.key_values.see(len(self.rows) - 1, self.rows[-1], pieces, self._piece(outputs[0]))

    def _scheme_of(self, inputs: Iterable[Tensor]) -> Scheme | None:
        """Of the weight among them."""
        if not self._schemes:
            return None
        return next((self._schemes[key][0] for key in map(self._key, inputs) if key in self._schemes), None)

    def _read(self, kind: Kind, moved: tuple[list[Tensor], list[Tensor]], scheme: Scheme | None) -> float:
        inputs, outputs = moved
        rest = sum(map(self.bytes_of, inputs[1:]))
        if kind == "gather":  # reads the rows that it gives and its indices, not its whole table
            return rest + sum(elements(t) * self._width(inputs[0] if scheme else t) for t in outputs)
        if scheme is None or kind not in PRODUCTS or scheme.activations > 8:
            return rest + sum(map(self.bytes_of, inputs[:1]))
        return rest + elements(inputs[0]) * scheme.activations / 8

    def peak_activation_bytes(self, outputs: Iterable[Tensor]) -> float:
        """Bytes of the largest set of activations alive at once; the model's outputs live to the end."""
        self._touch(outputs)
        return self._liveness.peak()

    def _touch(self, tensors: Iterable[Tensor]) -> None:
        now = max(len(self.rows) - 1, 0)
        for tensor in tensors:
            key = self._key(tensor)
            if key in self._weights:
                continue
            self._liveness.touch(
                key, tensor.untyped_storage().nbytes() / tensor.element_size() * self._width(tensor), now
            )

    def _piece(self, tensor: Tensor) -> Piece:
        key = self._key(tensor)
        return Piece(key, tensor.storage_offset(), self.bytes_of(tensor), key in self._weights)

    def _key(self, tensor: Tensor) -> int:
        return int(tensor.untyped_storage()._cdata)

    def _width(self, tensor: Tensor) -> float:
        if not tensor.is_floating_point():
            return tensor.element_size()
        key = self._key(tensor)
        if key in self._schemes:
            return self._schemes[key][1]
        return self._weight_bytes if key in self._weights else self._float_bytes

    def bytes_of(self, tensor: Tensor) -> float:
        """Bytes that a tensor takes in memory at the traced precision."""
        return elements(tensor) * self._width(tensor)
