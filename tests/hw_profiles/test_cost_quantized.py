"""What a quantization policy costs: bytes at the bits of its schemes, integers at their rate, refusals."""

import pytest
import torch
from example_devices import SOURCE, a_device
from torch import Tensor, nn

from nas.errors import UserError
from nas.hw_profiles.cost import Cost, trace_cost
from nas.search_space.quantization import Scheme, quantizable


def under(scheme: str, module: nn.Module) -> nn.Module:
    for part in quantizable(module).values():
        vars(part)["quantization"] = Scheme.parse(scheme)
    return module


@pytest.mark.parametrize(
    ("scheme", "weights", "inputs", "precision"),
    [
        ("w8a8", 64 * 32 + 4 * 32, 1, "int8"),
        ("w8a8ts", 64 * 32 + 4, 1, "int8"),
        ("w4a8z", 64 * 32 / 2 + 4.5 * 32, 1, "int8"),
        ("w8a16", 64 * 32 + 4 * 32, 4, ""),
        ("w4a16g16", 64 * 32 / 2 + 4 * 32 * 4, 4, ""),
        ("w4a16g16z", 64 * 32 / 2 + 4.5 * 32 * 4, 4, ""),
        ("w16a16", 2 * 64 * 32, 4, ""),
        ("bf16", 2 * 64 * 32, 4, ""),
        ("fp8", 64 * 32 + 4 * 32, 1, "fp8"),
    ],
)
def test_a_product_reads_its_weights_and_its_input_at_their_bits(
    scheme: str, weights: float, inputs: int, precision: str
) -> None:
    cost = trace_cost(under(scheme, nn.Linear(64, 32)), torch.rand(10, 64))
    (row,) = cost.operators
    assert row.bytes_read == 10 * 64 * inputs + weights + 4 * 32
    assert (row.bytes_written, row.flops, row.precision) == (10 * 32 * 4, 2 * 10 * 64 * 32, precision)
    assert cost.weight_bytes == weights + 4 * 32
    assert cost.params == 64 * 32 + 32


def test_convolutions_and_tables() -> None:
    (row,) = trace_cost(under("w8a8", nn.Conv2d(3, 8, 3, bias=False)), torch.rand(1, 3, 9, 9)).operators
    assert (row.bytes_read, row.precision) == (3 * 81 + 8 * 27 + 4 * 8, "int8")
    (row,) = trace_cost(under("w8a8", nn.Embedding(100, 16)), torch.zeros(1, 5, dtype=torch.long)).operators
    assert (row.bytes_read, row.precision) == (5 * 16 * (1 + 4 / 16) + 5 * 8, "")


def test_parts_without_a_scheme_cost_what_they_did() -> None:
    net, x = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16)), torch.rand(2, 16)
    plain = trace_cost(net, x)
    under("w8a8", net[0])
    mixed = trace_cost(net, x)
    assert mixed.operators[1:] == plain.operators[1:]
    assert mixed.operators[0] != plain.operators[0]
    assert Cost.from_operators(mixed.table()).operators == mixed.operators


def large() -> tuple[nn.Module, Tensor]:
    layers = (nn.Linear(4096, 4096, bias=False, device="meta") for _ in range(2))
    return nn.Sequential(*layers), torch.empty(4096, 4096, device="meta")


def test_integers_run_at_their_rate() -> None:
    chip, (net, x) = a_device(), large()
    plain = chip.as_run(trace_cost(net, x, "fp16"))
    quantized = chip.as_run(trace_cost(under("w8a8", net), x, "fp16"))
    assert quantized.flops == plain.flops / 2
    assert quantized.bytes < plain.bytes
    unstated = a_device(spec={"tflops": {"fp16": {"value": 100} | SOURCE}})
    assert unstated.as_run(trace_cost(net, x, "fp16")).flops == plain.flops
    before = chip.latency(trace_cost(large()[0], x, "fp16")).value
    assert 0.45 < chip.latency(net, x).value / before < 0.75


def test_a_device_without_integers_refuses_them() -> None:
    chip, (net, x) = a_device(supports={"precisions": ["fp32", "fp16"], "source": "a manual"}), large()
    chip.latency(under("w8a16", net), x)
    with pytest.raises(UserError, match=r"chip has no int8, .*; it runs fp32, fp16"):
        chip.latency(under("w8a8", net), x)


def test_floats_of_8_bits_run_at_their_rate_and_where_there_are_any() -> None:
    rates = {"fp16": {"value": 100} | SOURCE, "int8": {"value": 200} | SOURCE, "fp8": {"value": 400} | SOURCE}
    net, x = large()
    plain = a_device().as_run(trace_cost(net, x, "fp16"))
    cost = trace_cost(under("fp8", net), x, "fp16")
    assert a_device(spec={"tflops": rates}).as_run(cost).flops == plain.flops / 4
    assert cost.total.bytes_read < 0.51 * plain.total.bytes_read
    with pytest.raises(UserError, match=r"chip has no fp8, which this net's policy needs; it runs fp16, int8"):
        a_device().latency(net, x)
