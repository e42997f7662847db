"""Which outputs of norms get a scale for each channel: those where inputs that were not calibrated on gain by it."""

import pytest
import torch
from torch import Tensor, nn

from nas.search_space.quantization import parse_scheme
from nas.supernet.quantize.post_training import PostTraining, quantize


def net_of(scheme: str, outlier: float) -> nn.Module:
    """Tokens, a norm with one channel that is `outlier` times as large as the others, and a layer that reads it."""
    torch.manual_seed(0)
    norm, linear = nn.LayerNorm(32), nn.Linear(32, 16)
    nn.init.constant_(norm.weight[3], outlier)
    vars(linear)["quantization"] = parse_scheme(scheme)
    return nn.Sequential(norm, linear).eval()


def inputs(seed: int, samples: int) -> Tensor:
    return torch.randn(samples, 16, 32, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def error(net: nn.Module, settings: PostTraining, x: Tensor) -> tuple[float, bool]:
    """On inputs that are new, and whether the norm was rewritten."""
    twin = quantize(net, inputs(0, 32), settings).twin
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
