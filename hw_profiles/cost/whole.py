"""Operators that torch would decompose on the meta device, though every real device runs them as one kernel:
attention, linear layers, RMSNorm, recurrent layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .flow import Move
from .operators import attention_flops, recurrent_flops
from .tracer import Tracer, tensors_of


class Whole(TorchFunctionMode):
    """Keeps them in one piece; the tracer beside it gets their cost."""

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
    """Scores stay on chip."""
    scores = query.shape[:-1].numel() * key.shape[-2]
    out = query.new_empty((*query.shape[:-1], value.shape[-1]))
    flops = attention_flops(scores, query.shape[-1], value.shape[-1])
    tracer.record(
        "scaled_dot_product_attention", "attention", flops, (tensors_of((query, key, value, attn_mask)), [out])
    )
    return out


def _linear(tracer: Tracer, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """One kernel, where torch shows view, transpose, addmm, view: half the time of a trace."""
    if x.shape[-1] != weight.shape[-1]:
        raise RuntimeError(f"a linear layer of {weight.shape[-1]} inputs is given {x.shape[-1]}")
    out = x.new_empty((*x.shape[:-1], *weight.shape[:-1]))
    tracer.record("linear", "matmul", 2 * x.numel() * weight.shape[:-1].numel(), (tensors_of((x, weight, bias)), [out]))
    return out


def _rms_norm(tracer: Tracer, x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    del shape, eps
    out = x.new_empty(x.shape)
    tracer.record("rms_norm", "normalization", 5 * x.numel(), (tensors_of((x, weight)), [out]))
    return out


def _recurrent(kernel: Callable[..., Any], gates: int) -> Callable[..., Any]:
    """RNN, GRU and LSTM: one kernel for each layer and direction, where torch shows thirteen for each step."""

    def rule(tracer: Tracer, x: Tensor, state: Any, weights: Any, *rest: Any) -> Any:
        # Packed sequences and projected states have other arguments.
        if not isinstance(weights, list | tuple) or weights[1].shape[0] != gates * weights[1].shape[1]:
            return kernel(x, state, weights, *rest)
        _, layers, _, _, bidirectional, _ = rest
        each = len(weights) // (layers * (1 + bidirectional))
        hidden = weights[1].shape[1]
        states = [state] if isinstance(state, Tensor) else state
        last = [s.new_empty(s.shape) for s in states]
        for layer in range(layers):
            out = x.new_empty((*x.shape[:2], hidden * (1 + bidirectional)))
            for direction in range(1 + bidirectional):
                at = (layer * (1 + bidirectional) + direction) * each
                flops = recurrent_flops(x.shape[:2].numel(), x.shape[2], hidden, gates)
                written = out.narrow(2, direction * hidden, hidden)
                tracer.record(kernel.__name__, "scan", flops, ([x, *weights[at : at + each]], [written]))
                own = [s.narrow(0, layer * (1 + bidirectional) + direction, 1) for s in last]
                tracer.moves.append(Move(len(tracer.rows) - 1, states, own))
            x = out
        return (x, *last)

    return rule


_WHOLE: dict[Any, Callable[..., Any]] = {
    F.scaled_dot_product_attention: _attention,
    F.linear: _linear,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    torch.rnn_tanh: _recurrent(torch.rnn_tanh, 1),
    torch.rnn_relu: _recurrent(torch.rnn_relu, 1),
    torch.gru: _recurrent(torch.gru, 3),
    torch.lstm: _recurrent(torch.lstm, 4),
}
