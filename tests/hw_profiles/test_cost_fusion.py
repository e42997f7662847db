"""What runtimes fuse: known answers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.hw_profiles.cost import Cost, OperatorCost, trace_cost
from nas.hw_profiles.cost.fusion import FUSIONS, fused, fusion_of


class Attention(nn.Module):
    """Grouped-query attention, whole or by hand, over tokens of width 8 with 4 heads of 2."""

    def __init__(self, kv_heads: int, whole: bool) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(8, 8), nn.Linear(8, 2 * 2 * kv_heads)
        self.kv_heads, self.whole = kv_heads, whole

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (4, 2)).transpose(1, 2)
        k, v = (t.unflatten(-1, (self.kv_heads, 2)).transpose(1, 2) for t in self.kv(x).chunk(2, -1))
        if self.whole:
            return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        k, v = (t.repeat_interleave(4 // self.kv_heads, 1) for t in (k, v))
        return torch.softmax(q @ k.transpose(-1, -2) * 0.5, -1) @ v


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_kv_cache_counts_kv_heads(kv_heads: int, whole: bool) -> None:
    cost = trace_cost(nn.Sequential(Attention(kv_heads, whole)), torch.zeros(3, 5, 8), "fp16")
    assert cost.kv_cache_bytes == 2 * (2 * 3 * kv_heads * 5 * 2)


def test_no_attention_no_cache() -> None:
    assert trace_cost(nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1)), torch.zeros(2, 4)).kv_cache_bytes == 0


def test_attention_by_hand_becomes_one_kernel_that_writes_no_scores() -> None:
    x = torch.zeros(3, 50, 8)
    cost = trace_cost(Attention(4, whole=False), x)
    (one,) = [op for op in fused(cost).operators if op.kind == "attention"]
    whole = trace_cost(Attention(4, whole=True), x).by_kind()["attention"]
    assert one.bytes_written == whole.bytes_written == 4 * 3 * 50 * 8
    assert one.bytes_read == whole.bytes_read
    assert one.flops == whole.flops + 3 * 4 * 50 * 50  # and the scale, one of each score
    assert not [op for op in fused(cost, "onnxruntime").operators if op.kind == "attention"]


def rows(*names: str) -> Cost:
    """Kernels that read and write 4 bytes, `kind:name`; names that end in 2 read another 4."""
    parts = [(name.rstrip("2").split(":"), 8 if name.endswith("2") else 4) for name in names]
    return Cost.from_operators([OperatorCost(name, kind, 1, read, 4) for (kind, name), read in parts])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("runtime", "kernels"),
    [("PyTorch eager", 9), ("TensorRT 10.3", 4), ("torch.compile", 5), ("ONNX Runtime 1.20", 6), ("OpenVINO", 5)],
)
def test_runtimes_differ(runtime: str, kernels: int) -> None:
    cost = rows(
        "convolution:conv",
        "normalization:batch_norm",
        "elementwise:relu",
        "matmul:mm",
        "elementwise:add",  # a bias
        "elementwise:add2",  # a residual
        "normalization:native_layer_norm",
        "elementwise:gelu",
        "matmul:mm",
    )
    assert fused(cost, runtime).kernels == kernels
    assert fused(cost, runtime).flops == cost.flops


def test_epilogues_of_a_merged_table_are_shared_out() -> None:
    head, epilogue = OperatorCost("mm", "matmul", 10, 8, 4, 2), OperatorCost("add", "elementwise", 1, 6, 4, 5)
    short, long = fused(Cost.from_operators([head, epilogue])).operators
    assert (short.count, short.flops, short.bytes_read) == (1, 12, 8 + 2 + 2)
    assert (long.count, long.flops, long.bytes_read) == (1, 13, 8 + 2 + 2 + 2)
    few = fused(Cost.from_operators([head, OperatorCost("add", "elementwise", 1, 6, 4, 1)])).operators
    assert [(op.count, op.flops) for op in few] == [(1, 10), (1, 11)]


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_every_fusion_is_found_by_its_names(name: str) -> None:
    fusion = FUSIONS[name]
    assert fusion_of(name) is fusion
    assert all(fusion_of(runtime.upper() + " 1.2") is fusion for runtime in fusion.runtimes)
    assert fusion.source
    cost = trace_cost(Attention(2, whole=False), torch.zeros(1, 5, 8))
    assert fused(fused(cost, name), name) == fused(cost, name)


def test_unlisted_runtimes_fuse_fully() -> None:
    assert fusion_of("ncnn") is FUSIONS["full"]
