"""What it costs to serve a causal language model: the time to the first token, the time for each one after it, memory.

A request is a prompt that is read at once (prefill: one call, which fills the key/value cache and gives the first
token), and then a call for each further token (a step: one token in, one out, all keys and values read).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_least
from ..search_space.adopted.cache import advance, check_generates, copy_of, new_cache, resized, tensors_of_cache
from ..values import TPOT, TTFT, Estimate
from .cost import Cost, trace_cost
from .cost.operators import bytes_per_element
from .device import Device


@dataclass(frozen=True)
class Request:
    """batch: prompts that are served at a time. prompt: tokens of each. generate: tokens that follow, at least 2."""

    prompt: int = 64
    generate: int = 32
    batch: int = 1

    def __post_init__(self) -> None:
        check_least(1, prompt=self.prompt, batch=self.batch)
        check_least(2, generate=self.generate)

    @property
    def steps(self) -> int:
        """Calls after the prefill, which gives the first token."""
        return self.generate - 1

    @property
    def text(self) -> str:
        return f"{self.prompt} tokens of prompt, {self.generate} generated, batch {self.batch}"


@dataclass(frozen=True)
class ServingCost:
    """Counted. prefill: the call with the prompt. step: a call in the middle of the generation.

    cache_bytes: of keys and values when the last token is given. beside_bytes: activations of a step beside these.
    """

    request: Request
    prefill: Cost
    step: Cost
    cache_bytes: float
    beside_bytes: float

    @cached_property
    def whole(self) -> Cost:
        """Of the request: the kernels of the prefill and of all steps; what is held at once, with the full cache."""
        steps = [replace(op, count=op.count * self.request.steps) for op in self.step.operators]
        peak = max(self.prefill.peak_activation_bytes, self.cache_bytes + self.beside_bytes)
        return replace(
            self.prefill,
            operators=(*self.prefill.operators, *steps),
            peak_activation_bytes=peak,
            kv_cache_bytes=self.cache_bytes,
        )

    def ttft(self, device: Device) -> Estimate:
        """Time to first token, by the device's latency model."""
        return replace(device.latency(self.prefill), metric=TTFT)

    def tpot(self, device: Device) -> Estimate:
        """Time per output token after the first."""
        return replace(device.latency(self.step), metric=TPOT)


def trace_serving(net: nn.Module, request: Request | None = None, precision: str = "fp32") -> ServingCost:
    """What serving a request costs, traced on the meta device as `trace_cost` does.

    Error: a net without a key/value cache.
    """
    request = request or Request()
    check_generates(net, "serving costs")
    tokens = torch.zeros(request.batch, request.prompt, dtype=torch.long)
    first = _Prefill(net)
    prefill = trace_cost(first, (tokens,), precision)
    middle, end = (resized(net, first.cache, request.prompt + n) for n in (request.steps // 2, request.steps))
    held, full = (_bytes(tensors_of_cache(cache), precision) for cache in (middle, end))
    step = trace_cost(_Step(net, middle), (tokens[:, :1], *tensors_of_cache(middle)), precision)
    return ServingCost(request, prefill, step, full, max(step.peak_activation_bytes - held, 0.0))


def _bytes(tensors: list[Tensor], precision: str) -> float:
    return float(sum(t.numel() for t in tensors) * bytes_per_element(precision))


class _Prefill(nn.Module):
    """The call with the prompt, which leaves its cache."""

    cache: Any

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        self.cache = new_cache(self.net)
        return advance(self.net, tokens, self.cache), *tensors_of_cache(self.cache)


class _Step(nn.Module):
    """A call with one token and a filled cache, whose tensors are inputs, too."""

    def __init__(self, net: nn.Module, cache: Any) -> None:
        super().__init__()
        self.net, self.cache = net, cache

    def forward(self, token: Tensor, *held: Tensor) -> tuple[Tensor, ...]:
        del held  # the cache holds them; as inputs they count as alive from the start
        cache = copy_of(self.cache)
        return advance(self.net, token, cache), *tensors_of_cache(cache)
