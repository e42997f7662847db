"""A space whose front is known by enumeration: accuracy against latency with interactions that no single gene shows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pytest

import nas
from nas.search.pareto import hypervolume
from nas.search.study import Study


def loss(a: Mapping) -> float:
    """Diminishing returns of size; mixers, norms and readouts that pay only beside others."""
    quality = {"softmax": 1.0, "linear": 0.9, "window": 0.95}[a["mixer"]]
    heads = math.log2(a["heads"]) * (0.03 if a["width"] >= 128 else -0.02)
    capacity = (a["width"] * quality) ** 0.6 * a["depth"] ** 0.45 * (1 + 0.15 * math.log(a["ffn"])) * (1 + heads)
    deep_rms = 0.05 if a["norm"] == "rms" and a["depth"] >= 6 else 0.0
    cls = -0.04 if a["pool"] == "cls" and a["mixer"] == "softmax" else 0.01
    return 8 / math.sqrt(capacity) + deep_rms + cls + (0.03 if a["kv"] == 1 else 0.0)


def latency_ms(a: Mapping) -> float:
    slope, start = {"softmax": (1.0, 60), "linear": (0.7, 20), "window": (0.8, 30)}[a["mixer"]]
    attention = (slope * a["width"] + start) * (0.7 + 0.15 * a["kv"])
    odd_width = 6 * a["heads"] ** 0.7 if a["width"] % 128 else 0.0  # a kernel that likes powers of two
    layer = attention + 0.6 * a["width"] * a["ffn"] + odd_width
    return a["depth"] * layer * (1.04 if a["norm"] == "layer" else 1.0) / 1000


@dataclass(frozen=True)
class Known:
    """The space, its objectives and the hypervolume of its true front, each objective scaled to [0, 1]."""

    space: nas.GeneSpace

    @property
    def objectives(self) -> dict:
        return {"loss": nas.minimize(loss), "latency_ms": nas.minimize(latency_ms)}

    @cached_property
    def reference(self) -> list[float]:
        """A tenth of the range beyond the worst."""
        return [high + 0.1 * (high - low) for low, high in zip(*self._range, strict=True)]

    @cached_property
    def _points(self) -> list[tuple[float, float]]:
        return [(loss(a), latency_ms(a)) for a in self.space.enumerate()]

    @cached_property
    def _range(self) -> tuple[list[float], list[float]]:
        columns = list(zip(*self._points, strict=True))
        return [min(c) for c in columns], [max(c) for c in columns]

    @cached_property
    def hypervolume(self) -> float:
        return hypervolume(self._points, self.reference)

    def share(self, study: Study) -> float:
        """How much of the true hypervolume the study has found."""
        return study.hypervolume(self.reference) / self.hypervolume


@pytest.fixture(scope="session")
def known() -> Known:
    return Known(
        nas.GeneSpace(
            {
                "width": [64, 96, 128, 160],
                "depth": [2, 4, 6, 8],
                "heads": [2, 4, 8],
                "ffn": [1, 2, 3, 4],
                "kv": [1, 2],
                "mixer": ["softmax", "linear", "window"],
                "norm": ["layer", "rms"],
                "pool": ["mean", "cls"],
            }
        )
    )
