"""Which outputs of norms get a scale for each channel: those where inputs that were not calibrated on gain by it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.search_space.quantization import Scheme
from nas.supernet.quantize import norms
from nas.supernet.quantize.post_training import quantize
from nas.supernet.quantize.quantizers import Affine
from nas.supernet.quantize.settings import PostTraining


def net_of(scheme: str, outlier: float) -> nn.Module:
    """Tokens, a norm with one channel that is `outlier` times as large as the others, and a layer that reads it."""
    torch.manual_seed(0)
    norm, linear = nn.LayerNorm(32), nn.Linear(32, 16)
    nn.init.constant_(norm.weight[3], outlier)
    vars(linear)["quantization"] = Scheme.parse(scheme)
    return nn.Sequential(norm, linear).eval()


def inputs(seed: int, samples: int) -> Tensor:
    return torch.randn(samples, 16, 32, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def error(net: nn.Module, settings: PostTraining, x: Tensor) -> tuple[float, bool]:
    """On inputs that are new, and whether the norm was rewritten."""
    twin = quantize(net, inputs(0, 32), settings).module
    return float((twin(x) - net(x)).norm() / net(x).norm()), not torch.equal(twin[0].weight, net[0].weight)  # type: ignore[index]


@pytest.mark.parametrize("scheme", ["w8a4", "w8a6"])
def test_an_outlier_among_the_channels_is_taken_out(scheme: str) -> None:
    net, new = net_of(scheme, 20.0), inputs(1, 256)
    with_scales, rewritten = error(net, PostTraining(), new)
    without, _ = error(net, PostTraining(reparameterized=False), new)
    assert rewritten
    assert with_scales < 0.8 * without


def test_scales_that_only_fit_the_calibration_data_are_not_taken() -> None:
    """Channels alike: of 8 bits, ranges of each that are seen on few rows clip more than they gain."""
    net, new = net_of("w8a8", 1.0), inputs(1, 256)
    _, rewritten = error(net, PostTraining(), new)
    assert not rewritten


CONVOLUTIONS = {
    "square": {"kernel_size": 3, "padding": 1},
    "not square": {"kernel_size": (3, 1), "stride": (2, 1)},
    "as wide as its kernel": {"kernel_size": (1, 8)},
    "groups": {"kernel_size": 3, "groups": 2, "padding": "same"},
    "depthwise": {"kernel_size": 3, "groups": 16, "padding": "valid"},
    "reflected": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "of one pixel": {"kernel_size": 1},
}


def on_maps(scheme: str, **options: Any) -> tuple[nn.Module, Tensor]:
    """A batch norm one channel of which is far larger than the others, and the convolution behind it."""
    torch.manual_seed(0)
    norm, conv = nn.BatchNorm2d(16), nn.Conv2d(16, 32, **options)
    norm.running_mean, norm.running_var = torch.randn(16), 0.5 + torch.rand(16)
    with torch.no_grad():
        norm.weight[3] *= 20
        norm.bias.copy_(torch.linspace(-1, 2, 16))
    vars(conv)["quantization"] = Scheme.parse(scheme)
    return nn.Sequential(norm, conv).eval(), torch.randn(32, 16, 9, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=list(CONVOLUTIONS))
@torch.no_grad()
def test_a_convolution_takes_the_scales_of_its_input_channels(options: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(norms, "GAIN", math.inf)
    net, x = on_maps("w8a4", **options)
    found: Any = quantize(net, x)
    assert found.parts["1"].folded
    assert not torch.equal(found.module[0].weight, net[0].weight)  # type: ignore[index]
    shifts = not torch.allclose(found.module[0].bias / found.module[0].weight, net[0].bias / net[0].weight)  # type: ignore[index]
    assert shifts == (options.get("padding") not in (1, "same") or "padding_mode" in options)
    without = quantize(net, x, PostTraining(reparameterized=False)).module
    assert (found.module(x) - net(x)).norm() < 0.9 * (without(x) - net(x)).norm()
    monkeypatch.setattr(Affine, "__call__", lambda _, x: x)
    monkeypatch.setattr("nas.supernet.quantize.quantized.decoded", lambda _, weight: weight)
    unrounded = quantize(net, x).module
    assert torch.allclose(unrounded(x), net(x), atol=1e-5 * float(net(x).abs().max()), rtol=0)


class Bare(nn.Module):
    """A norm with another number of channels than what its reader takes for channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.LayerNorm(32), nn.Conv1d(16, 4, 3)
        vars(self.conv)["quantization"] = Scheme.parse("w8a4")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.norm(x))
        return y


def test_norms_over_something_else_are_left_alone() -> None:
    net = Bare()
    assert torch.equal(quantize(net, inputs(0, 32)).module.norm.weight, net.norm.weight)  # type: ignore[union-attr,arg-type]
    plain, x = on_maps("w8a4", kernel_size=3)
    plain[0] = nn.BatchNorm2d(16, affine=False).eval()  # type: ignore[operator]
    assert not quantize(plain, x).parts["1"].folded
    square = nn.Sequential(
        nn.LayerNorm(16), nn.Conv1d(16, 4, 3)
    )  # over the length, which is as long as there are channels
    vars(square[1])["quantization"] = Scheme.parse("w8a4")
    nn.init.constant_(square[0].weight[3], 30.0)  # type: ignore[index]
    assert not quantize(square, inputs(0, 32)[..., :16]).parts["1"].folded


def test_a_depthwise_convolution_with_as_many_channels_as_taps_has_the_nearest_codes() -> None:
    """Its weights are not the readers of one input each, as GPTQ would take them."""
    conv = nn.Conv2d(9, 9, 3, groups=9)
    vars(conv)["quantization"] = Scheme.parse("w4a8")
    found = quantize(conv, torch.randn(16, 9, 5, 5, generator=torch.Generator().manual_seed(0))).parts[""]
    assert found.weight is not None
    assert found.codes is not None
    assert torch.equal(found.codes.flatten(1).int(), found.weight.codes(conv.weight.detach().flatten(1)))


@pytest.mark.parametrize("biased", [(True, False), (False, True), (False, False)], ids=str)
def test_norms_and_readers_without_a_bias_have_scales_too(biased: tuple[bool, bool]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.LayerNorm(32, bias=biased[0]), nn.Linear(32, 16, bias=biased[1])).eval()
    with torch.no_grad():
        net[0].weight[3] *= 20  # type: ignore[index]
        if biased[0]:
            net[0].bias.copy_(torch.linspace(-0.5, 0.5, 32))  # type: ignore[operator,union-attr]
    vars(net[1])["quantization"] = Scheme.parse("w8a4")
    assert quantize(net, inputs(0, 32)).parts["1"].folded
    without, _ = error(net, PostTraining(reparameterized=False), inputs(1, 256))
    assert error(net, PostTraining(), inputs(1, 256))[0] < 0.8 * without
