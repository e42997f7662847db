"""Dimensions that mix several axes: which factors a parameter's dimension is made of.

A query projection of 4 key/value heads x 2 query heads each x 16 channels has 128 rows, but its axes are (4, 2, 16).
The corner of a smaller net is taken axis by axis, so every dimension knows its factors. A *layout* is one tuple of
factors for each dimension; the product of the factors is the size.

A dimension that concatenates parts of unequal size is a list of *segments*, each with its own factors: the input of the
third layer of a DenseNet is the stem's 16 channels, then 2 layers of `growth` channels, `[(16,), (2, growth)]`, and a
smaller growth keeps the stem and the first channels of each layer. The rule of all such layers, whose own outputs are
the growth: `{"layers.*.weight": lambda conv: {1: [(16,), (-1, conv.out_channels)]}}`. Parts of equal size are one
segment, `(2, -1)`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from math import prod
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ..errors import UserError

Factors = tuple[int, ...]
Segments = tuple[Factors, ...]
Layout = tuple[Factors | Segments, ...]
DimRule = Sequence[int] | Sequence[Sequence[int]]
FixedRule = DimRule | Mapping[int, DimRule]
Rule = FixedRule | Callable[[nn.Module], FixedRule]
"""Factors or segments of dimension 0 (`(3, -1)`, `[(16,), (2, -1)]`; one -1 is inferred), those of several dimensions
(`{0: (3, -1)}`), or a function of the module that returns either."""


@runtime_checkable
class Factored(Protocol):
    """A module that declares the layouts of its own parameters, by their local names."""

    layouts: Mapping[str, Layout]


class Linear(nn.Linear):
    """`nn.Linear` whose sides may be products of axes: `Linear(64, (kv_heads, group, head_dim))`.

    Input (..., prod(inputs)), output (..., prod(outputs)). It is `nn.Linear` that remembers its axes.

    >>> nas.Linear(64, (2, 3, 16)).weight.shape  # 2 key/value heads, 3 query heads each, 16 channels
    torch.Size([96, 64])
    """

    def __init__(self, inputs: int | Sequence[int], outputs: int | Sequence[int], bias: bool = True) -> None:
        rows, columns = _factors(outputs), _factors(inputs)
        super().__init__(prod(columns), prod(rows), bias)
        self.layouts: Mapping[str, Layout] = {"weight": (rows, columns), "bias": (rows,)}


def _factors(size: int | Sequence[int]) -> Factors:
    return (size,) if isinstance(size, int) else tuple(size)


def _fused(module: nn.Module, names: Sequence[str], parts: int) -> dict[str, Layout]:
    """Layouts of parameters that stack `parts` projections along dimension 0."""
    owned = dict(module.named_parameters(recurse=False))
    return {
        name: ((parts, parameter.shape[0] // parts), *((n,) for n in parameter.shape[1:]))
        for name, parameter in owned.items()
        if any(fnmatchcase(name, pattern) for pattern in names)
    }


def module_layouts(module: nn.Module) -> Mapping[str, Layout]:
    """Layouts that a module brings: declared by itself, or known of torch's own fused modules."""
    if isinstance(module, nn.MultiheadAttention):
        return _fused(module, ["in_proj_*"], 3)
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return _recurrent(module)
    return module.layouts if isinstance(module, Factored) else {}


def _recurrent(module: nn.Module) -> dict[str, Layout]:
    """Gates along dimension 0; behind a layer that reads in both directions, inputs from two of them."""
    gates = 4 if isinstance(module, (nn.LSTM, nn.LSTMCell)) else 3 if isinstance(module, (nn.GRU, nn.GRUCell)) else 1
    layouts = _fused(module, ["weight_?h*", "bias_?h*"], gates) if gates > 1 else {}
    if isinstance(module, nn.RNNBase) and module.bidirectional:
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith("weight_ih_l") and not name.startswith("weight_ih_l0"):
                rows = layouts.get(name, ((len(parameter),),))[0]
                layouts[name] = (rows, (2, parameter.shape[1] // 2))
    return layouts


def segments_of(dim: DimRule) -> Segments:
    """The segments of a dimension: one, unless it lists several."""
    parts = [part for part in dim if not isinstance(part, int)]
    return tuple(tuple(part) for part in parts) if parts else (tuple(dim),)  # type: ignore[arg-type]


def entries_of(layout: Layout) -> int:
    """How many entries a tensor of this layout has."""
    return prod(sum(map(prod, segments_of(dim))) for dim in layout)


def apply_rule(name: str, shape: Sequence[int], rule: FixedRule, declared: Layout) -> Layout:
    """`declared` with the dimensions of `rule` replaced. Error: factors that do not divide one."""
    layout = list(declared)
    for dim, factors in (rule if isinstance(rule, Mapping) else {0: rule}).items():
        if dim < len(shape):  # the rule of a weight also meets its bias
            segments = _filled(name, dim, shape[dim], segments_of(factors))
            layout[dim] = segments if len(segments) > 1 else segments[0]
    return tuple(layout)


def _filled(name: str, dim: int, size: int, rule: Segments) -> Segments:
    """The rule with its one -1 inferred."""
    rest = size - sum(prod(part) for part in rule if -1 not in part)
    segments = []
    for part in rule:
        fixed = prod(f for f in part if f != -1)
        segments.append(tuple(max(rest, 0) // max(fixed, 1) if f == -1 else f for f in part))
    if sum(map(prod, segments)) != size:
        text = rule[0] if len(rule) == 1 else list(rule)
        raise UserError(f"layout rule {text} does not divide dimension {dim} of {name} (size {size})")
    return tuple(segments)


def _owners(root: nn.Module) -> Iterator[tuple[str, nn.Module, Layout, Tensor]]:
    """(full name, owner, declared layout, parameter) of every parameter, each once (ties keep their first name)."""
    seen: set[int] = set()
    for prefix, module in root.named_modules():
        owned = [(local, p) for local, p in module._parameters.items() if p is not None and id(p) not in seen]
        declared = module_layouts(module) if owned else {}
        for local, parameter in owned:
            if id(parameter) not in seen:
                seen.add(id(parameter))
                plain = tuple((n,) for n in parameter.shape)
                yield f"{prefix}.{local}" if prefix else local, module, declared.get(local, plain), parameter


def layouts_of(root: nn.Module, rules: Mapping[str, Rule]) -> dict[str, Layout]:
    """The layout of every parameter by its full name. `rules` (name pattern: rule) win over what modules declare."""
    result: dict[str, Layout] = {}
    for name, module, declared, parameter in _owners(root):
        layout = declared
        for pattern, rule in rules.items():
            if fnmatchcase(name, pattern):
                plain = tuple((n,) for n in parameter.shape)
                layout = apply_rule(name, parameter.shape, rule(module) if callable(rule) else rule, plain)
        result[name] = layout
    return result
