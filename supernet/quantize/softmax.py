"""Softmax outputs in few bits, wherever a net computes them: in an attention of torch's or by itself.

No module has to be written for it: while a module runs, its calls of softmax and of attention are caught. What
`nn.MultiheadAttention` does inside is seen where its projections are parts (`search_space/projections.py`).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...search_space.quantization import SHIPPED_ACTIVATIONS, policy_of, quantizable
from .observers import fit, observer
from .quantizers import SMALLEST_SCALE, Affine, LogSqrt2

How = Literal["best", "log_sqrt2", "uniform", "none"]
HOW: tuple[How, ...] = ("best", "log_sqrt2", "uniform", "none")
Rounding = LogSqrt2 | Affine
MOST_ROWS = 2048
"""Of softmax outputs that are kept of a call."""
RANGES = ("percentile_0.999", "percentile_0.9999", "percentile_0.99999")
"""Where the largest value of powers of sqrt(2) is looked for (RepQ-ViT)."""
_SOFTMAX = {F.softmax, torch.softmax, torch.Tensor.softmax, torch.special.softmax}


def sites(net: nn.Module) -> dict[str, int]:
    """The modules whose softmax outputs are to be rounded, and to how many bits: as many as their part with the most.

    Only below 8 bits: the files that run in integer kernels compute softmax in floats.
    """
    few = min(SHIPPED_ACTIVATIONS)
    if all(scheme.activations >= few for scheme in policy_of(net).values()):
        return {}
    most = {name: _most_bits(module) for name, module in net.named_modules() if next(module.children(), None)}
    return {name: bits for name, bits in most.items() if bits < few}


def _most_bits(module: nn.Module) -> int:
    """Of the activations of a module's parts; 16 where a part has no scheme. Into embeddings go no activations."""
    parts = [part for part in quantizable(module).values() if not isinstance(part, nn.Embedding)]
    schemes = [vars(part).get("quantization") for part in parts]
    return max((16 if s is None else s.activations for s in schemes), default=16)


def fit_softmax(how: How, outputs: Tensor, bits: int) -> Rounding:
    """The quantizer of softmax outputs `outputs`: even steps, powers of sqrt(2), or (`best`) what errs less in squares.

    Powers serve few outputs that are large beside many that are not; their error of up to 19 % is of all bits the same.
    The codes fit into the bits: 0 has one of them.
    """
    if how == "uniform":
        return fit("min_max", outputs, bits, symmetric=False, signed=False)
    tops = [observer(name)(outputs.flatten(), bits, False)[1].clamp(min=SMALLEST_SCALE) for name in RANGES]
    tried: list[Rounding] = [LogSqrt2(bits, top) for top in tops]
    if how == "best":
        tried.append(fit("mse", outputs, bits, symmetric=False, signed=False))
    return min(tried, key=lambda q: float((q(outputs) - outputs).square().sum()))


class _Caught(TorchFunctionMode):
    """While it is active, what softmax gives goes through `change`. Of several, the one that was entered last acts."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            with torch._C.DisableTorchFunction():
                return attention(self.change, *args, **kwargs)
        if func not in _SOFTMAX:
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            outputs: Tensor = func(*args, **kwargs)
            return self.change(outputs) if outputs.dim() > 2 else outputs  # of two: the probabilities of classes


def attention(
    change: Callable[[Tensor], Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What torch's `scaled_dot_product_attention` gives, its softmax outputs changed. A query without keys gets 0."""
    if enable_gqa:
        group = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(group, -3), value.repeat_interleave(group, -3)
    scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -math.inf)
    if attn_mask is not None:
        seen = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -math.inf) if seen else scores + attn_mask
    alone = (scores == -math.inf).all(-1, keepdim=True)
    outputs = change(scores.softmax(-1).masked_fill(alone, 0.0))
    return F.dropout(outputs, dropout_p) @ value


def round_softmax(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Change the softmax outputs of this module from now on, until `let_softmax`. Copies of it do the same."""
    mode = _Caught(change)
    module.register_forward_pre_hook(partial(_enter, mode))
    module.register_forward_hook(partial(_leave, mode), always_call=True)


def let_softmax(module: nn.Module) -> None:
    """Undo `round_softmax`."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        ours = [key for key, hook in hooks.items() if isinstance(hook, partial) and hook.func in (_enter, _leave)]
        for key in ours:
            del hooks[key]
            module._forward_hooks_always_called.pop(key, None)


def _enter(mode: _Caught, *_: Any) -> None:
    mode.__enter__()  # type: ignore[no-untyped-call]


def _leave(mode: _Caught, *_: Any) -> None:
    mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]


@contextmanager
def watching_softmax(net: nn.Module, names: Mapping[str, int]) -> Iterator[dict[str, list[Tensor]]]:
    """The softmax outputs of these modules, (rows, n) of each call, while the context is open."""
    results: dict[str, list[Tensor]] = {}

    def keep(name: str, outputs: Tensor) -> Tensor:
        rows = outputs.detach().reshape(-1, outputs.shape[-1])
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST_ROWS]
        results.setdefault(name, []).append(rows[chosen.to(rows.device)].flatten())
        return outputs

    for name in names:
        round_softmax(net.get_submodule(name), partial(keep, name))
    try:
        yield results
    finally:
        for name in names:
            let_softmax(net.get_submodule(name))
