"""What the local machine reaches, from a benchmark of about a second: matmul rate, memory bandwidth, launch costs."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cost.operators import KINDS, Kind
from .models.priors import Rates

SECONDS = 0.3
"""For each of the three measurements."""
IN_A_NET = 1.7
"""A launch inside a net costs this much more than in the benchmark's turns, for the net's own Python and colder caches.
Between what two families of small nets showed on one machine, 1.3 and 2.2; `calibrate` replaces it."""


@lru_cache(maxsize=1)
def local_rates() -> Rates:
    """Rates of PyTorch (fp32, its current threads) on this machine; measured once in a process."""
    generator = torch.Generator().manual_seed(0)
    # As small as the matmuls of a small transformer.
    tokens, weight = torch.rand(64, 128, generator=generator), torch.rand(512, 128, generator=generator)
    large = torch.rand(8_000_000, generator=generator)
    copied = torch.empty_like(large)
    calls = _tiny(torch.rand(1, 4, 4, 4, generator=generator))
    with torch.inference_mode():
        matmul = _seconds(lambda: F.linear(tokens, weight))
        copy = _seconds(lambda: copied.copy_(large))
        launches = _in_turns([calls[kind] for kind in KINDS])
    one = launches[0]
    factors = tuple(launch / one for launch in launches)
    return Rates(2 * tokens.numel() * weight.shape[0] / matmul, 2 * large.nbytes / copy, 1e6 * IN_A_NET * one, factors)


def _tiny(x: Tensor) -> dict[Kind, Callable[[], object]]:
    """One operator of each kind that computes next to nothing: what is left is its launch, with the module's Python."""
    linear, norm = nn.Linear(4, 4), nn.LayerNorm(4)
    convolution, depthwise = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4)
    embedding, index = nn.Embedding(4, 4), torch.zeros(1, dtype=torch.long)
    return {
        "matmul": lambda: linear(x),
        "convolution": lambda: convolution(x),
        "depthwise": lambda: depthwise(x),
        "attention": lambda: F.scaled_dot_product_attention(x, x, x),
        "elementwise": lambda: x + x,
        "normalization": lambda: norm(x),
        "gather": lambda: embedding(index),
        "scan": lambda: x.cumsum(1),
        "other": lambda: x.mean(1),
    }


def _seconds(call: Callable[[], object]) -> float:
    return _in_turns([call])[0]


def _in_turns(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Median time of each call, one after the other as in a net: alone in a loop an operator finds its code cached."""
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    end = perf_counter() + SECONDS
    while perf_counter() < end or not times[0]:
        for call, taken in zip(calls, times, strict=True):
            start = perf_counter()
            call()
            taken.append(perf_counter() - start)
    return [median(taken) for taken in times]
