"""Costs against closed forms, and that tracing leaves no trace."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from nas.errors import UserError
from nas.hw_profiles.cost import KINDS, Cost, OperatorCost, fused, trace_cost

sizes = st.integers(1, 40)


def only(cost: Cost) -> OperatorCost:
    (operator,) = cost.operators
    return operator


@settings(max_examples=20, deadline=None)
@given(sizes, sizes, sizes)
def test_linear(rows: int, inputs: int, outputs: int) -> None:
    cost = trace_cost(nn.Linear(inputs, outputs), torch.zeros(rows, inputs))
    op = only(cost)
    assert op.kind == "matmul"
    assert op.flops == 2 * rows * inputs * outputs
    assert op.bytes_read == 4 * (rows * inputs + inputs * outputs + outputs)
    assert op.bytes_written == 4 * rows * outputs
    assert (op.length, op.channels) == (inputs, outputs)
    assert cost.params == inputs * outputs + outputs
    assert cost.peak_activation_bytes == 4 * rows * (inputs + outputs)
    assert cost.memory_bytes == cost.weight_bytes + cost.peak_activation_bytes


@pytest.mark.parametrize(("groups", "kind"), [(1, "convolution"), (2, "convolution"), (8, "depthwise")])
def test_convolution(groups: int, kind: str) -> None:
    op = only(trace_cost(nn.Conv2d(8, 16, 3, padding=1, groups=groups, bias=False), torch.zeros(2, 8, 10, 12)))
    assert op.kind == kind
    assert op.flops == 2 * 2 * 16 * (8 // groups) * 9 * 10 * 12
    assert op.bytes_read == 4 * (2 * 8 * 120 + 16 * 8 // groups * 9)
    assert (op.length, op.channels) == (8 // groups * 9, 16)


def test_layer_norm_reads_and_writes_once() -> None:
    op = only(trace_cost(nn.LayerNorm(32), torch.zeros(5, 32)))
    assert (op.kind, op.flops) == ("normalization", 5 * 5 * 32)
    assert (op.bytes_read, op.bytes_written) == (4 * (5 * 32 + 64), 4 * 5 * 32)


def test_rms_norm_is_one_kernel() -> None:
    assert only(trace_cost(nn.RMSNorm(32), torch.zeros(5, 32))).kind == "normalization"


class Attention(nn.Module):
    def __init__(self, heads: int, kv_heads: int, whole: bool) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.whole = heads, kv_heads, whole

    def forward(self, x: Tensor) -> Tensor:
        q = x.expand(1, self.heads, *x.shape)
        k = x[:7].expand(1, self.kv_heads, 7, x.shape[1])
        if self.whole:
            return F.scaled_dot_product_attention(q, k, k, enable_gqa=self.heads != self.kv_heads)
        return torch.softmax(q @ k.transpose(-1, -2), -1) @ k


def test_attention_is_one_operator() -> None:
    op = only(trace_cost(Attention(4, 2, whole=True), torch.zeros(9, 16)))
    assert op.kind == "attention"
    assert op.flops == 4 * 9 * 7 * (2 * 16 + 2 * 16 + 5)
    assert op.bytes_written == 4 * 4 * 9 * 16


def test_attention_by_hand_counts_its_matmuls() -> None:
    by_kind = trace_cost(Attention(4, 4, whole=False), torch.zeros(9, 16)).by_kind()
    assert by_kind["matmul"].flops == 2 * (2 * 4 * 9 * 7 * 16)
    assert by_kind["normalization"].flops == 5 * 4 * 9 * 7


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(100, 8), nn.Linear(8, 100, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("positions", torch.ones(5, 8))
        self.scale = torch.full((8,), 2.0)  # a constant that is neither parameter nor buffer

    def forward(self, ids: Tensor) -> Tensor:
        x: Tensor = self.head(self.embedding(ids) * self.scale + self.positions)
        return x


def test_tied_weights_are_counted_once_and_gathers_read_rows() -> None:
    cost = trace_cost(Tied(), torch.zeros(2, 5, dtype=torch.long))
    assert cost.params == 800
    assert cost.weight_bytes == 4 * (800 + 40)
    assert cost.by_kind()["gather"].bytes_read == 8 * 10 + 4 * 10 * 8


def block() -> nn.Sequential:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True, dropout=0.1)
    return nn.Sequential(nn.Linear(8, 32), layer, layer, nn.Dropout(0.5), nn.Linear(32, 3))


def test_tracing_leaves_the_module_untouched() -> None:
    module = block().train()
    module[1].eval()
    before = [(name, p.data_ptr(), p.device) for name, p in module.named_parameters()]
    modes, random = [m.training for m in module.modules()], torch.get_rng_state()
    trace_cost(module, torch.zeros(2, 5, 8))
    assert [m.training for m in module.modules()] == modes
    assert [(name, p.data_ptr(), p.device) for name, p in module.named_parameters()] == before
    assert torch.equal(torch.get_rng_state(), random)


def test_real_and_meta_modules_cost_the_same_and_again() -> None:
    module, example = block(), torch.zeros(2, 5, 8)
    real = trace_cost(module, example)
    assert real == trace_cost(module.to("meta"), example.to("meta"))
    assert real.params == sum(p.numel() for p in module.parameters())
    assert sum(op.flops for op in real.by_kind().values()) == pytest.approx(real.flops)
    assert {op.kind for op in real.operators} <= set(KINDS)


@pytest.mark.parametrize(("precision", "width"), [("fp32", 4), ("fp16", 2), ("bf16", 2), ("int8", 1)])
def test_bytes_scale_with_precision(precision: str, width: int) -> None:
    full, other = (trace_cost(block(), torch.zeros(2, 5, 8), p) for p in ("fp32", precision))
    assert other.bytes * 4 == full.bytes * width
    assert other.memory_bytes * 4 == full.memory_bytes * width
    assert other.flops == full.flops


def test_peak_is_the_largest_set_alive() -> None:
    # 10 -> 1000 -> 10: the peak is one large tensor with its neighbour, not the sum over the net.
    chain = nn.Sequential(*(nn.Linear(a, b) for a, b in ((10, 1000), (1000, 10), (10, 1000), (1000, 10))))
    assert trace_cost(chain, torch.zeros(1, 10)).peak_activation_bytes == 4 * 1010


def test_views_are_free() -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(2, 8).t().unsqueeze(0).expand(3, 8, 2)[:, :4]

    assert trace_cost(Views(), torch.zeros(16)).operators == ()


def test_fusion_removes_epilogues_and_no_work() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4), nn.GELU()
    )
    cost = trace_cost(module, torch.zeros(1, 3, 8, 8))
    whole = fused(cost)
    assert (cost.kernels, whole.kernels) == (5, 2)
    assert whole.flops == cost.flops
    assert whole.bytes < cost.bytes
    assert whole.operators[1].bytes_written == 4 * 4
    assert fused(whole) == whole


class Peeking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


@pytest.mark.parametrize(
    ("module", "example", "words"),
    [(Peeking(), torch.zeros(3), "values"), (nn.Linear(3, 2), torch.zeros(1, 4), "3 inputs")],
)
def test_a_forward_that_cannot_be_traced_says_why(module: nn.Module, example: Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        trace_cost(module, example)


class Masked(nn.Module):
    """Moves its mask to its weights and, as transformers' models do, reads there whether it masks anything."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.embedding, self.head, self.reads = nn.Embedding(9, 8), nn.Linear(8, 3), reads

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x: Tensor = self.embedding(tokens)
        here = mask.to(device=x.device, dtype=torch.bool)
        if self.reads and not here.all():
            return self.head(x) + self.head(2 * x)
        y: Tensor = self.head(x * here[..., None])
        return y


def test_a_mask_is_read_where_the_weights_are() -> None:
    """Its values decide which branch is counted; the branch costs what it does without the question."""

    def matmuls(reads: bool, masked: int) -> float:
        inputs = torch.arange(6).view(1, 6), torch.full((1, 6), masked)
        return trace_cost(Masked(reads).to("meta"), inputs).by_kind()["matmul"].flops

    assert matmuls(True, 1) == matmuls(False, 1) == 2 * 6 * 8 * 3
    assert matmuls(True, 0) == 2 * matmuls(True, 1)


def test_a_cost_from_a_table() -> None:
    row: dict[str, Any] = {"name": "mm", "kind": "matmul", "flops": 8.0, "bytes_read": 4.0, "bytes_written": 2.0}
    cost = Cost.from_operators([row, row], params=3)
    assert (cost.flops, cost.bytes, cost.kernels, cost.params, cost.weight_bytes) == (16, 12, 2, 3, 12)
    with pytest.raises(UserError, match="matmul"):
        Cost.from_operators([row | {"kind": "matmull"}])


def test_unknown_precision_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown precision 'pf16'; valid: .*fp16"):
        trace_cost(nn.Linear(2, 2), torch.zeros(1, 2), "pf16")
