"""Requests to a language model, timed on this machine: prefills and steps, as PyTorch runs them with the cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...search_space.adopted.cache import advance, check_generates, copy_of, new_cache
from ...search_space.quantization import policy_of
from ...search_space.temporary import evaluating
from ...values import LATENCY, MEMORY, TPOT, TTFT, Estimate
from ..device import Device
from ..serving import Request, ServingCost, trace_serving
from .measure import own_threads
from .timing import Measurement, Protocol, time_in_turns


@dataclass(frozen=True)
class Served(Measurement):
    """A request: the median prefill and as many median steps; its 95th percentile as of independent calls.

    ttft_ms, tpot_ms and their 95th percentiles: of single prefills, and of single steps at all lengths of the cache.
    """

    ttft_ms: float = 0.0
    ttft_p95_ms: float = 0.0
    tpot_ms: float = 0.0
    tpot_p95_ms: float = 0.0

    @classmethod
    def of(cls, request: Request, first: Measurement, each: Measurement) -> "Served":
        whole = first.median_ms + request.steps * each.median_ms
        tail = (first.p95_ms - first.median_ms) ** 2 + request.steps * (each.p95_ms - each.median_ms) ** 2
        noise = (first.noise * first.median_ms + each.noise * (whole - first.median_ms)) / whole
        left_out = max(first.left_out, each.left_out)
        parts = (first.median_ms, first.p95_ms, each.median_ms, each.p95_ms)
        return cls(whole, whole + sqrt(tail), noise, min(first.repeats, each.repeats), left_out, *parts)


class _Server:
    """A net that serves a request again and again: random tokens, the likeliest token next."""

    def __init__(self, net: nn.Module, request: Request, threads: int) -> None:
        self.net, self.request, self.threads = net, request, threads
        embedding: Any = net.get_input_embeddings()  # type: ignore[operator]
        shape, generator = (request.batch, request.prompt), torch.Generator().manual_seed(0)
        self.prompt = torch.randint(embedding.num_embeddings, shape, generator=generator)
        self.token, self.cache, self.left = self.prompt[:, :1], new_cache(net), 0
        self.filled: tuple[Tensor, Any] | None = None

    @torch.inference_mode()
    def prefill(self) -> None:
        """The prompt at once, and the first token."""
        self._with_threads()
        self.cache = new_cache(self.net)
        self.token = advance(self.net, self.prompt, self.cache)[:, -1:].argmax(-1)

    @torch.inference_mode()
    def step(self) -> None:
        """One more token; after the last one of a request comes the first step of the next."""
        self._with_threads()
        if self.left == 0:
            if self.filled is None:
                self.prefill()
                self.filled = self.token, self.cache
            self.token, self.cache, self.left = self.filled[0], copy_of(self.filled[1]), self.request.steps
        self.token = advance(self.net, self.token, self.cache)[:, -1:].argmax(-1)
        self.left -= 1

    def _with_threads(self) -> None:
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)


def measure_serving(
    nets: Sequence[nn.Module],
    request: Request | None = None,
    *,
    protocol: Protocol | None = None,
    threads: int | None = None,
) -> list[Served]:
    """Time prefills and steps of each net in turns, the first net's prefill for reference.

    Errors: a net without a key/value cache; one with a quantization policy, which PyTorch does not run.
    """
    for net in nets:
        check_generates(net, "serving is timed with a cache")
        if policy_of(net):
            raise UserError("requests are timed with PyTorch, and it does not run quantized nets; leave quantize out")
    request, count = request or Request(), threads or torch.get_num_threads()
    with evaluating(*nets), own_threads():
        calls: list[Callable[[], object]] = []
        for net in nets:
            calls += [_Server(net, request, count).prefill, _Server(net, request, count).step]
        taken, _ = time_in_turns(calls, None, protocol)
    return [Served.of(request, *taken[at : at + 2]) for at in range(0, len(taken), 2)]


@dataclass(frozen=True)
class Serving:
    """What serving a request takes. ttft, tpot: time to first token, and for each one after it. latency: of all.

    memory: the most that is held at once, with the cache. cost: what is counted: kernels, FLOPs, `cache_bytes`.
    measured: with 95th percentiles, where it was timed here; None: times are of a device's latency model.
    """

    request: Request
    cost: ServingCost
    ttft: Estimate
    tpot: Estimate
    latency: Estimate
    memory: Estimate
    measured: Served | None = None

    @property
    def text(self) -> str:
        times = ", ".join(f"{x.metric.title} {x.text}" for x in (self.ttft, self.tpot, self.latency, self.memory))
        return f"{self.request.text}: {times}, of it keys and values {self.cost.cache_bytes / 2**20:.3g} MiB"


def serving(
    net: nn.Module, device: Device | None = None, *, prompt: int = 64, generate: int = 32, batch: int = 1
) -> Serving:
    """What it takes to serve a language model: time to first token, time per output token, memory with its cache.

    net: a causal language model of the transformers library; where a device is given it may be without values.
    device: whose latency model says the times. None: they are measured here, with PyTorch and torch's threads.
    prompt, generate, batch: tokens that are read, tokens that are written, and for how many prompts at a time.
    Errors: a net without a key/value cache; a device that gives no latencies.

    >>> import transformers
    >>> config = transformers.LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    ...                                   num_attention_heads=4)
    >>> result = nas.serving(transformers.LlamaForCausalLM(config), device, prompt=16, generate=8)
    >>> result.cost.cache_bytes  # 16 + 7 tokens, 2 layers, keys and values of 32 channels of 2 bytes
    5888.0
    """
    request = Request(prompt, generate, batch)
    cost = trace_serving(net, request, device.precision if device else "fp32")
    if device is not None:
        latency, memory = device.latency(cost.whole), _memory(cost, device)
        return Serving(request, cost, cost.ttft(device), cost.tpot(device), latency, memory)
    (timed,) = measure_serving([net], request)
    times = zip((TTFT, TPOT, LATENCY), (timed.ttft_ms, timed.tpot_ms, timed.median_ms), strict=True)
    ttft, tpot, whole = (Estimate(m, ms, ms * (1 - timed.noise), ms * (1 + timed.noise), "measured") for m, ms in times)
    return Serving(request, cost, ttft, tpot, whole, _memory(cost), timed)


def _memory(cost: ServingCost, device: Device | None = None) -> Estimate:
    """As the device's profile says if it measured any; else counted."""
    if device is not None and device.memory_model is not None:
        return device.memory(cost.whole)
    return Estimate.counted(MEMORY, cost.whole.memory_bytes / 2**20)
