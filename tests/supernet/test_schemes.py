"""Every scheme: evaluated, stored and shipped as the same net, and in the kernels that it is meant for."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

import nas
from nas.hw_profiles.cost.onnx_file import quantized_onnx, to_onnx
from nas.search_space.quantization import Scheme, quantizable
from nas.supernet.quantize.floats import LARGEST, Float8
from nas.supernet.quantize.packed import from_tensors, packed_bytes, to_tensors
from nas.supernet.quantize.post_training import quantize
from nas.supernet.quantize.quantized import Quantized, apply
from nas.supernet.quantize.quantizers import Affine
from nas.supernet.quantize.rounding import gptq, hessian, nearest, reconstruction

INTEGERS = ("w8a8", "w8a8t", "w8a8z", "w8a8s", "w8a8tz", "w8a8ts", "w8a8zs", "w8a8tzs")
BESIDE_INTEGERS = ("w4a8", "w4a8t", "w4a8tz", "w3a8zs", "w6a8z")
BESIDE_FLOATS = (
    "w8a16",
    "w8a16t",
    "w8a16z",
    "w8a16g32z",
    "w5a16tz",
    "w4a16",
    "w4a16t",
    "w4a16z",
    "w4a16g64z",
    "w2a16tz",
)
SCHEMES = (*INTEGERS, *BESIDE_INTEGERS, *BESIDE_FLOATS, "fp16", "bf16", "fp8")


class Net(nn.Module):
    """A table, a convolution, a norm with readers, odd sizes, a layer without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.stem = nn.Embedding(13, 24), nn.Conv1d(24, 33, 3, padding=1)
        self.norm, self.up = nn.LayerNorm(33), nn.Linear(33, 67)
        self.down, self.head = nn.Linear(67, 33, bias=False), nn.Linear(33, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.stem(self.table(tokens).transpose(1, 2)).transpose(1, 2)
        x = x + self.down(self.up(self.norm(x)).relu())
        out: Tensor = self.head(x.mean(1))
        return out


def net_of(scheme: str) -> nn.Module:
    torch.manual_seed(0)
    net = Net().eval()
    for part in quantizable(net).values():
        vars(part)["quantization"] = Scheme.parse(scheme)
    return net


def tokens(n: int) -> Tensor:
    return torch.randint(0, 13, (n, 9), generator=torch.Generator().manual_seed(n))


def run(content: bytes, x: Tensor, optimized: Path | None = None) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return np.asarray(found)


def outputs(net: Quantized, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(net.module(x).numpy())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_twin_the_stored_and_the_shipped_net_are_one(scheme: str) -> None:
    net = net_of(scheme)
    found, x = quantize(net, tokens(32)), tokens(7)
    expected = outputs(found, x)
    with torch.no_grad():
        plain = net(x).numpy()
    bits = Scheme.parse(scheme)
    close = {2: 1.0, 3: 0.4, 4: 0.3, 5: 0.1, 6: 0.05, 8: 0.08 if scheme == "fp8" else 0.03, 16: 0.01}[bits.weights]
    assert 0 < np.linalg.norm(expected - plain) < close * np.linalg.norm(plain)

    content = save(to_tensors(found))
    assert len(content) == packed_bytes(net)
    again = from_tensors(net_of(scheme), load(content))
    assert np.array_equal(outputs(again, x), expected)
    assert {n: p.scheme for n, p in again.parts.items()} == {n: p.scheme for n, p in found.parts.items()}
    assert save(to_tensors(again)) == content

    error = np.abs(run(quantized_onnx(found.floats(), x, found.integers()), x) - expected) / np.abs(expected).max()
    assert error.max() < 0.05  # a number between two codes may go either way
    assert np.median(error) < 1e-5


@pytest.mark.parametrize("scheme", [*(pytest.param(s, marks=pytest.mark.slow) for s in SCHEMES[:-1]), "fp8"])
def test_the_batch_of_a_shipped_file_is_free(scheme: str) -> None:
    found, x = quantize(net_of(scheme), tokens(32)), tokens(7)
    content = quantized_onnx(found.floats(), x[:1], found.integers(), free_batch=True)
    assert np.median(np.abs(run(content, x) - outputs(found, x))) < 1e-5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_timed_without_data_is_near_the_net(scheme: str) -> None:
    net, x = net_of(scheme), tokens(3)
    with torch.no_grad():
        plain = net(x).numpy()
    assert np.abs(run(to_onnx(net, x), x) - plain).max() < (1.0 if "w2" in scheme else 0.4) * np.abs(plain).max()


@pytest.mark.parametrize("scheme", [*INTEGERS, "w4a8tz", "w4a16g32z", "w4a16t"])
def test_products_run_on_kernels_for_integers(scheme: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 7, bias=False)), torch.randn(9, 40)
    for part in quantizable(net).values():
        vars(part)["quantization"] = Scheme.parse(scheme)
    found = quantize(net, x)
    run(quantized_onnx(found.floats(), x, found.integers()), x, tmp_path / "net.onnx")
    kernels = Counter(node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node)
    assert kernels["MatMulIntegerToFloat" if "a8" in scheme else "MatMulNBits"] == 2
    assert not {"MatMul", "Gemm", "FusedMatMul", "DequantizeLinear"} & kernels.keys()


@pytest.mark.parametrize("scheme", INTEGERS)
def test_convolutions_that_follow_each_other_run_as_integers(scheme: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    between = nn.Identity() if "s" in scheme else nn.ReLU()
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), between, nn.Conv2d(8, 8, 3)), torch.randn(4, 3, 9, 9)
    for part in quantizable(net).values():
        vars(part)["quantization"] = Scheme.parse(scheme)
    found = quantize(net, x)
    given = run(quantized_onnx(found.floats(), x, found.integers()), x, tmp_path / "net.onnx")
    assert Counter(node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node)["QLinearConv"] == 1
    assert np.abs(given - outputs(found, x)).max() < 0.02  # ONNX Runtime rounds biases


def linear(scheme: str, weight: Tensor, x: Tensor) -> Quantized:
    net = nn.Sequential(nn.Linear(*weight.T.shape, bias=False))
    net[0].weight = nn.Parameter(weight)
    vars(net[0])["quantization"] = Scheme.parse(scheme)
    return quantize(net, x)


def test_letters_mean_what_they_say() -> None:
    torch.manual_seed(0)
    weight, x = torch.rand(16, 40) * torch.logspace(-1, 1, 16)[:, None] + 0.5, torch.rand(64, 40)
    errors = {}
    for scheme in ("w8a8", "w8a8t", "w8a8z", "w8a8s"):
        (part,) = linear(scheme, weight, x).parts.values()
        assert isinstance(part.weight, Affine)
        assert isinstance(part.activation, Affine)
        assert part.codes is not None
        errors[scheme] = float((part.weight.decode(part.codes) - weight).square().mean())
        assert part.weight.scale.shape == (() if "t" in scheme else (16,))
        assert bool(part.weight.zero.any()) == ("z" in scheme)
        assert (part.activation.signed, int(part.activation.zero)) == (("s" in scheme), 0)
    assert errors["w8a8t"] > 2 * errors["w8a8"] > 5 * errors["w8a8z"]  # half the step is a quarter of the squares


def test_weights_that_make_up_for_each_other_may_have_zeros() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 48) @ torch.randn(48, 48)
    weight = torch.rand(20, 48) + 0.2
    (part,) = linear("w4a16g16z", weight, x).parts.values()
    assert isinstance(part.weight, Affine)
    assert part.codes is not None
    assert part.weight.zero.any()
    second = hessian(x)
    careful, plain = (part.weight.decode(c) for c in (part.codes, nearest(weight, part.weight)))
    assert reconstruction(weight, careful, second).sum() < 0.5 * reconstruction(weight, plain, second).sum()
    assert torch.equal(part.codes.int(), gptq(weight, second, part.weight))


def test_floats_of_8_bits_saturate_and_keep_what_they_can_say() -> None:
    known = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    known = known[known.isfinite()]
    one = Float8(torch.tensor(1.0))
    assert torch.equal(one(known), known)
    assert one(torch.tensor([1e9, -460.0])).tolist() == [LARGEST, -LARGEST]
    x = torch.randn(50, 30, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, 50)[:, None]
    rounded = Float8.of(x, rows=True)(x)
    assert ((rounded - x).abs() <= x.abs() / 16 + x.abs().amax(1, keepdim=True) * 2.0**-10 / LARGEST).all()
    with pytest.raises(nas.UserError, match="not a finite number"):
        Float8.of(torch.tensor([1.0, torch.nan]))


def test_codes_of_one_byte_do_not_overflow_beside_one_zero() -> None:
    affine = Affine(8, torch.tensor(0.5), torch.tensor(100, dtype=torch.int32), signed=True)
    assert affine.decode(torch.tensor([-100, 100], dtype=torch.int8)).tolist() == [-100.0, 0.0]


def test_a_part_may_be_carried_out_in_another_way_than_its_policy_says() -> None:
    found, x = quantize(net_of("w8a8"), tokens(32)), tokens(7)
    down = found.parts["down"]
    assert isinstance(down.activation, Affine)
    signed = replace(down.activation, signed=True, zero=down.activation.zero - 128)
    chosen = {**quantize(net_of("w8a8tz"), tokens(32)).parts, "down": replace(down, activation=signed)}
    mixed = apply(net_of("w8a8"), chosen)
    again = from_tensors(net_of("w8a8"), to_tensors(mixed))
    assert np.array_equal(outputs(again, x), outputs(mixed, x))
    assert {part.scheme.text for part in again.parts.values()} == {"w8a8tz", "w8a8"}
    error = run(quantized_onnx(mixed.floats(), x, mixed.integers()), x) - outputs(mixed, x)
    assert np.median(np.abs(error)) < 1e-5


def test_tensors_have_the_types_of_their_schemes(tmp_path: Path) -> None:
    found = quantize(net_of("fp8"), tokens(32))
    files = nas.export(found, tokens(2), tmp_path, ("safetensors",))
    stored = load(files["safetensors"].read_bytes())
    assert stored["up.weight.codes"].dtype == torch.float8_e4m3fn
    assert stored["up.activation"].shape == (1,)
    stored = to_tensors(quantize(net_of("bf16"), tokens(32)))
    assert stored["up.weight"].dtype == torch.bfloat16
    stored = to_tensors(quantize(net_of("w4a16z"), tokens(32)))
    assert stored["up.weight.zero"].dtype == torch.uint8
    assert stored["up.weight.zero"].numel() == 67  # two groups a row, two zeros a byte
