"""What is known of a kind of device before any measurement on it.

Each share is, roughly, what the roofline's form `rates` reached, fitted to the published batch-1 latencies of the
packaged devices of the kind. Neural engines state no usable peak, desktop CPUs none at all: there the prior is the rate
that such devices reached, and it is weaker.

`FACTOR`: from the prior alone the latencies of the 18 packaged devices that have points (Hailo-8 apart) are off by a
log bias of 0.48 (root mean square over devices) and a spread of 0.26 (over the nets of a device); times 1.73 (Student's
t) that is a factor 2.6. The shares were chosen on these very devices, so it is 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, sqrt
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..cost.operators import KINDS as OPERATOR_KINDS

FACTOR = 3.0
"""90 % interval of a latency that rests on a datasheet: from 1 / 3 to 3 times the mean."""


ONES = (1.0,) * len(OPERATOR_KINDS)


@dataclass(frozen=True)
class Rates:
    """What a device reaches: overall, and each kind of operator in units of that."""

    flops_per_s: float
    bytes_per_s: float
    launch_us: float
    launch_factors: tuple[float, ...] = ONES
    compute_factors: tuple[float, ...] = ONES
    memory_factors: tuple[float, ...] = ONES

    def log(self) -> NDArray[np.float64]:
        """Log of F, B, launch and the factors of compute, memory and launch, in one vector."""
        factors = (*self.compute_factors, *self.memory_factors, *self.launch_factors)
        return np.log([self.flops_per_s, self.bytes_per_s, self.launch_us, *factors])

    @classmethod
    def exp(cls, theta: NDArray[np.float64]) -> Self:
        """The rates whose `log()` is theta."""
        flops, moved, launch, *factors = (float(v) for v in np.exp(theta))
        n = len(OPERATOR_KINDS)
        return cls(flops, moved, launch, tuple(factors[2 * n :]), tuple(factors[:n]), tuple(factors[n : 2 * n]))


@dataclass(frozen=True)
class Prior:
    """Expected rates, their log standard deviations, and the factor of the 90 % interval of a latency."""

    rates: Rates
    spread: tuple[float, float, float] = (1.0, 1.0, 0.7)
    factor: float = FACTOR
    kind_spread: tuple[float, float, float] = (0.2, 0.2, 0.2)
    """Log standard deviation of the factors of compute, memory and launch; 0: they are not fitted."""


@dataclass(frozen=True)
class Style:
    """How a runtime treats each kind of operator: log factors of compute, memory and launch, in the order of KINDS."""

    compute: tuple[float, ...]
    memory: tuple[float, ...]
    launch: tuple[float, ...]

    def of(self, flops_per_s: float, bytes_per_s: float, launch_us: float) -> Rates:
        """The style at the pace of a device."""
        launch, compute, memory = (tuple(map(exp, v)) for v in (self.launch, self.compute, self.memory))
        return Rates(flops_per_s, bytes_per_s, launch_us, launch, compute, memory)


# Fitted to timm's published inference benchmarks (transformers and hybrids; RTX 3090, RTX 4090 and RTX Pro 6000, eager
# and compiled; Core i7-12700H and i9-10940X, compiled): rounded means over the devices of each style.
#        matmul conv  dw    attn  elem  norm  gather scan other
EAGER = Style(
    (0.10, 0.00, -0.1, 0.15, 0.00, 0.00, 0.0, 0.0, 0.0),
    (-0.4, 0.05, -0.3, 0.40, -0.5, 0.80, 0.0, 0.0, 0.0),
    (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0, 0.0, 0.0),
)
FUSED = Style(
    (0.05, 0.15, -0.15, 0.05, 0.0, 0.00, 0.0, 0.0, 0.0),
    (-0.8, -0.8, -1.00, 0.30, 0.9, 1.20, 0.0, 0.0, 0.25),
    (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0, 0.0, 0.0),
)
CPU = Style(
    (0.30, 0.25, -0.15, -0.45, 0.0, 0.00, 0.0, 0.0, 0.0),
    (-0.45, -0.4, -0.05, -0.4, 0.95, 0.90, 0.0, 0.0, -0.6),
    (0.00, 0.10, 1.25, 0.80, -1.35, -0.45, 0.0, 0.0, -0.3),
)


@dataclass(frozen=True)
class KindPrior:
    """Shares of the stated peak and bandwidth that a kind reaches, and the rates where neither is stated."""

    compute: float
    memory: float
    launch_us: float
    typical: tuple[float, float]
    """FLOP/s and bytes/s."""


KINDS: Mapping[str, KindPrior] = {
    "server-gpu": KindPrior(0.8, 0.8, 2.5, (6e13, 6e11)),
    "embedded-gpu": KindPrior(0.9, 0.4, 5.0, (5e12, 3e10)),
    "npu": KindPrior(0.5, 1.8, 5.0, (9e12, 2e11)),
    "cpu": KindPrior(0.9, 0.3, 12.0, (9e11, 4e10)),
}


INTERPRETED = 10.0
"""A launch from Python, one operator at a time, costs this much more: fairseq on a Titan Xp and two CPUs, 8 to 30."""


def prior_of(kind: str, peak_flops: float | None, bandwidth: float | None, fuses: bool = True) -> Prior:
    """The prior of a device of a kind; a rate that its datasheet does not state is the kind's, and more uncertain."""
    shares = KINDS[kind]
    flops = shares.compute * peak_flops if peak_flops else shares.typical[0]
    memory = shares.memory * bandwidth if bandwidth else shares.typical[1]
    missing = (not peak_flops) + (not bandwidth)
    spread = (1.0 if peak_flops else 1.5, 1.0 if bandwidth else 1.5, 0.7)
    style = CPU if kind == "cpu" else FUSED if fuses else EAGER
    launch = shares.launch_us if fuses else INTERPRETED * shares.launch_us
    return Prior(style.of(flops, memory, launch), spread, FACTOR ** sqrt(1 + missing / 2))


ANY_DEVICE = Prior(Rates(1e13, 1e11, 8.0), spread=(4.0, 4.0, 3.0), factor=100.0, kind_spread=(0.5, 0.5, 0.5))
"""Where nothing is known of the device, not even its datasheet."""
