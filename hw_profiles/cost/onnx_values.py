"""The tensors of an ONNX graph, and the sizes of its inputs: fixed in the file, or given by an example."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, numpy_helper
from torch import Tensor

from ...errors import UserError

Example = Tensor | Sequence[Tensor] | Mapping[str, Any]
LARGEST_FOLDED = 4096
"""Elements; larger constants are weights, and only their shape is known."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph."""

    name: str
    shape: tuple[int, ...]
    element: int
    """TensorProto.DataType"""
    constant: bool = False
    data: NDArray[Any] | None = field(default=None, compare=False, repr=False)
    """Of small constants."""

    @property
    def elements(self) -> int:
        return prod(self.shape)


def input_values(inputs: Sequence[ValueInfoProto], example: Example | None) -> tuple[Value, ...]:
    """The inputs with all their sizes. Errors: a free dimension that nobody gives, an example of another shape."""
    return tuple(_sized(v, given) for v, given in zip(inputs, _sizes(inputs, example), strict=True))


def initializer_value(tensor: TensorProto) -> Value:
    small = prod(tensor.dims) <= LARGEST_FOLDED and tensor.data_location != TensorProto.EXTERNAL
    data = numpy_helper.to_array(tensor) if small else None
    return Value(tensor.name, tuple(tensor.dims), tensor.data_type, True, data)


def _sizes(inputs: Sequence[ValueInfoProto], example: Example | None) -> Iterator[Mapping[str, Any]]:
    """For each input what is said of it: {"": its shape}, or sizes by the name of the dimension."""
    if isinstance(example, Mapping):
        for value in inputs:
            yield {"": tuple(_shape(example[value.name]))} if value.name in example else example
        return
    tensors = [] if example is None else [example] if isinstance(example, Tensor) else list(example)
    if tensors and len(tensors) != len(inputs):
        names = ", ".join(value.name for value in inputs)
        raise UserError(f"the ONNX graph has {len(inputs)} inputs ({names}), the example {len(tensors)} tensors")
    for at in range(len(inputs)):
        yield {"": tuple(tensors[at].shape)} if tensors else {}


def _shape(given: Any) -> Iterable[int]:
    return given.shape if isinstance(given, Tensor | np.ndarray) else given


def _sized(value: ValueInfoProto, given: Mapping[str, Any]) -> Value:
    dims = value.type.tensor_type.shape.dim
    shape = given.get("", (None,) * len(dims))
    if len(shape) != len(dims):
        raise UserError(f"input {value.name!r} of the ONNX graph has {len(dims)} dimensions, the example {len(shape)}")
    sizes = [_size(value.name, at, dim, given, said) for at, (dim, said) in enumerate(zip(dims, shape, strict=True))]
    return Value(value.name, tuple(sizes), value.type.tensor_type.elem_type)


def _size(name: str, at: int, dim: Any, given: Mapping[str, Any], said: int | None) -> int:
    fixed = dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
    if fixed is not None and said not in (None, fixed):
        raise UserError(f"dimension {at} of input {name!r} is {fixed} in the ONNX graph, and {said} in the example")
    size = fixed or said or given.get(dim.dim_param)
    if size is None:
        free = dim.dim_param or str(at)
        raise UserError(
            f"input {name!r} of the ONNX graph has the free dimension {free!r}: give an example tensor, or its size as "
            f"example={{{free!r}: 1}}"
        )
    return int(size)
