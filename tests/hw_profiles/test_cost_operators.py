"""What holds for the cost of every registered operator, and of blocks whose peak memory is known by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.hw_profiles.cost import FUSIONS, KINDS, Cost, fused, trace_cost
from nas.search_space.operators.base import Operator, operators
from nas.search_space.space import SearchSpace
from nas.search_space.transformer import TransformerSpace

SLOTS = ("mixer", "ffn", "norm", "position", "readout")
INPUT = (1, 8, 8)


FIELDS: dict[str, Any] = {"patch": 2, "width": [16], "layers": 2, "head_dim": 4, "kv_heads": [2], "group": [2]}
TOKENS: dict[str, Any] = {"patch": 1, "stem": ["tokens"], "position": ["rotary"], "readout": ["dense"], "causal": True}
ENTRIES = [entry for entry in operators() if entry.kind in SLOTS]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.kind}-{e.name}")
def test_costs_of_operators_are_sound(entry: Operator) -> None:
    if "grid" in entry.capabilities.layouts:
        function, example = (
            TransformerSpace(**FIELDS | {entry.kind: [entry.name]}).bind(INPUT, 3),
            torch.zeros(1, *INPUT),
        )
    else:
        function = TransformerSpace(**FIELDS | TOKENS | {entry.kind: [entry.name]}).bind((16,), 3, 3)
        example = torch.zeros(1, 16, dtype=torch.long)
    space = SearchSpace(function)
    net = space.build(space.largest, "meta")
    one, two = (trace_cost(net, example.repeat_interleave(batch, 0)) for batch in (1, 4))
    check(one)
    assert (one.params, one.weight_bytes) == (two.params, two.weight_bytes)
    assert one.flops < two.flops <= 4 * one.flops
    assert one.peak_activation_bytes < two.peak_activation_bytes <= 4 * one.peak_activation_bytes
    assert two.kv_cache_bytes == 4 * one.kv_cache_bytes
    assert (one.kv_cache_bytes > 0) == ("attention" in one.by_kind())


def check(cost: Cost) -> None:
    assert {op.kind for op in cost.operators} <= set(KINDS)
    assert all(op.flops >= 0 and op.bytes_read >= 0 and op.bytes_written > 0 for op in cost.operators)
    assert sum(total.bytes for total in cost.by_kind().values()) == cost.bytes
    assert Cost.from_operators(cost.table()).total == cost.total
    for runtime in FUSIONS:
        whole = fused(cost, runtime)
        assert whole.kernels <= cost.kernels
        assert whole.bytes <= cost.bytes
        once = sum(op.count * op.flops for op in cost.operators if op.bytes_read == 0)  # when the net is loaded
        assert whole.flops == cost.flops - (once if FUSIONS[runtime].folds_constants else 0)


class Residual(nn.Module):
    """x + W2 gelu(W1 x), widths 10 and 40, the activation in place or not."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.up, self.down, self.act = nn.Linear(10, 40), nn.Linear(40, 10), nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(self.act(self.up(x)).view(-1, 40))
        return out


@pytest.mark.parametrize(("inplace", "elements"), [(False, 10 + 40 + 40), (True, 10 + 40 + 10)])
def test_peak_of_a_residual_block_by_hand(inplace: bool, elements: int) -> None:
    # The stream lives through the block; beside it input and output of the activation, which are one if in place.
    cost = trace_cost(Residual(inplace), torch.zeros(3, 10))
    assert cost.peak_activation_bytes == 4 * 3 * elements


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_layers(kind: type[nn.RNNBase], gates: int, directions: int) -> None:
    net = kind(8, 16, num_layers=2, batch_first=True, bidirectional=directions == 2)
    cost = trace_cost(net, torch.zeros(2, 5, 8))
    total = cost.by_kind()["scan"]
    assert total.kernels == 2 * directions
    assert total.flops == 2 * (2 * 5) * gates * 16 * directions * (8 + 16 + 16 * directions + 16)
    assert total.bytes_written == 2 * (4 * 2 * 5 * 16 * directions)
    weights = 4 * cost.params
    assert total.bytes_read == weights + 4 * 2 * 5 * directions * (8 + 16 * directions)


def test_depthwise_and_separable_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.Conv2d(8, 4, 1, bias=False))
    total = trace_cost(net, torch.zeros(2, 8, 6, 5), "int8").by_kind()
    assert (total["depthwise"].flops, total["convolution"].flops) == (2 * 2 * 8 * 9 * 30, 2 * 2 * 4 * 8 * 30)
    assert (total["depthwise"].bytes_read, total["convolution"].bytes_read) == (2 * 8 * 30 + 72, 2 * 8 * 30 + 32)


@pytest.mark.parametrize(("precision", "weight"), [("fp16", 2), ("w8a16", 1), ("w4a16", 0.5)])
def test_weights_may_be_narrower_than_activations(precision: str, weight: float) -> None:
    cost = trace_cost(nn.Linear(6, 4, bias=False), torch.zeros(3, 6), precision)
    assert cost.weight_bytes == 24 * weight
    assert cost.total.bytes_read == 2 * 18 + 24 * weight
    assert cost.peak_activation_bytes == 2 * 3 * 10
