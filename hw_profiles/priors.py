"""What is known of a kind of device before any measurement on it.

Each share is, roughly, the geometric mean of what the roofline reached, fitted to published batch-1 latencies, over the
devices of the kind that have a datasheet: Jetson AGX Orin and Nano (TensorRT, EfficientViT), T4 and A100
(FasterTransformer), Raspberry Pi 4 and 5 (ncnn; the compute share is lowered, for ncnn computes in fp16 and the stated
peak is that of fp32). Neural engines (iPhone 12, Galaxy S24) and desktop CPUs (i7-12700H, i9-10940X) state no usable
peak: there the prior is the rate that such devices reached, and it is weaker.

`FACTOR` comes from predicting each of the eight devices with its partner's shares alone: the predictions were off by
0.27 to 2.5 times; the root mean square of the log bias, 0.79, times Student's 1.9 for eight devices gives a factor 4.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .operators import KINDS as OPERATOR_KINDS

FACTOR = 4.5
"""90 % interval of a latency that rests on a datasheet: from 1 / 4.5 to 4.5 times the mean."""


@dataclass(frozen=True)
class Rates:
    """What a device reaches at batch 1."""

    flops_per_s: float
    bytes_per_s: float
    launch_us: float
    launch_factors: tuple[float, ...] = (1.0,) * len(OPERATOR_KINDS)
    """A launch of each kind of operator, in units of `launch_us`. In eager PyTorch they differ by a factor 5."""

    def log(self) -> NDArray[np.float64]:
        """Log of F, B, launch and the factors, in one vector."""
        return np.log([self.flops_per_s, self.bytes_per_s, self.launch_us, *self.launch_factors])

    @classmethod
    def exp(cls, theta: NDArray[np.float64]) -> Self:
        """The rates whose `log()` is theta."""
        flops, moved, launch, *factors = (float(v) for v in np.exp(theta))
        return cls(flops, moved, launch, tuple(factors))


@dataclass(frozen=True)
class Prior:
    """Expected rates, their log standard deviations, and the factor of the 90 % interval of a latency."""

    rates: Rates
    spread: tuple[float, float, float] = (1.0, 1.0, 0.7)
    factor: float = FACTOR
    kind_spread: float = 0.0
    """Log standard deviation of the launch factors; 0: they are not fitted."""


@dataclass(frozen=True)
class KindPrior:
    """Shares of the stated peak and bandwidth that a kind reaches, and the rates where neither is stated."""

    compute: float
    memory: float
    launch_us: float
    typical: tuple[float, float]
    """FLOP/s and bytes/s."""


KINDS: Mapping[str, KindPrior] = {
    "server-gpu": KindPrior(0.24, 0.29, 1.5, (3.3e13, 2.0e11)),
    "embedded-gpu": KindPrior(0.45, 0.19, 6.0, (1.9e12, 1.4e10)),
    "npu": KindPrior(0.5, 0.7, 2.0, (6.9e12, 7.7e10)),
    "cpu": KindPrior(0.7, 0.19, 5.0, (5.9e11, 1.6e10)),
}


def prior_of(kind: str, peak_flops: float | None, bandwidth: float | None) -> Prior:
    """The prior of a device of a kind; a rate that its datasheet does not state is the kind's, and more uncertain."""
    known = KINDS[kind]
    flops = known.compute * peak_flops if peak_flops else known.typical[0]
    memory = known.memory * bandwidth if bandwidth else known.typical[1]
    missing = (not peak_flops) + (not bandwidth)
    spread = (1.0 if peak_flops else 1.5, 1.0 if bandwidth else 1.5, 0.7)
    return Prior(Rates(flops, memory, known.launch_us), spread, FACTOR ** sqrt(1 + missing / 2))
