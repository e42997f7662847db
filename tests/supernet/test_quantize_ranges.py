"""Numbers that half precision or no code holds: one sentence that names the part and its range."""

import pytest
import torch
from torch import Tensor, nn

import nas
from nas.hw_profiles.cost.onnx_file import to_onnx
from nas.search_space.quantization import Scheme, quantizable
from nas.supernet.quantize.packed import from_tensors, to_tensors


def net_of(scheme: str, weight: float = 1.0, first: float = 1.0) -> nn.Sequential:
    """Two layers of 4 units: the first multiplies its inputs by `first`, the second adds them, times `weight`."""
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).eval()
    with torch.no_grad():
        net[0].get_parameter("weight").copy_(first * torch.eye(4))
        net[1].get_parameter("weight").fill_(weight)
    for part in quantizable(net).values():
        vars(part)["quantization"] = Scheme.parse(scheme)
    return net


def inputs(size: float = 1.0) -> Tensor:
    return size * torch.linspace(-1, 1, 32).reshape(8, 4)


@pytest.mark.parametrize(
    ("net", "x", "sentence"),
    [
        (
            net_of("fp16", first=70000),
            inputs(0.001),
            r"the weights of 0 reach from 0 to 70,000, and fp16 .* 65,504.*bf16",
        ),
        (net_of("fp16"), inputs(70000), r"the inputs of 0 reach from -70,000 to 70,000, and fp16 .*keep='0'"),
        (net_of("fp16", weight=30000), inputs(), r"the outputs of 1 reach from -108,387 to 108,387"),
        (net_of("w8a8", first=1e9), inputs(1e-6), "the scales of 0 as w8a8 are not finite"),
    ],
)
def test_what_half_precision_does_not_hold_is_named(net: nn.Module, x: Tensor, sentence: str) -> None:
    with pytest.raises(nas.UserError, match=sentence):
        nas.quantize(net, x)


def test_the_largest_number_is_held_and_bfloat16_holds_more() -> None:
    assert nas.quantize(net_of("fp16", first=65504.0), inputs(0.01)).module[0].weight.max() == 65504  # type: ignore[index]
    net = net_of("bf16", weight=1e30)
    assert nas.quantize(net, inputs()).module(inputs()).isfinite().all()


def test_a_file_does_not_hold_infinity_for_a_weight() -> None:
    with pytest.raises(nas.UserError, match=r"the weights of 1 reach from 100,000 to 100,000, and fp16"):
        to_onnx(net_of("fp16", weight=1e5), inputs())


def test_an_extreme_number_among_many_inputs_is_seen() -> None:
    """Ranges are fitted to some of the rows; the largest of all rows counts here."""
    x = torch.zeros(5000, 4)
    x[4999, 3] = 1e5
    with pytest.raises(nas.UserError, match=r"the inputs of 0 reach from 0 to 100,000"):
        nas.quantize(net_of("fp16"), x)


@pytest.mark.parametrize("scheme", ["w8a8", "w4a16", "fp16", "fp8"])
def test_weights_that_are_not_finite_are_named(scheme: str) -> None:
    net = net_of(scheme)
    with torch.no_grad():
        net[1].get_parameter("weight")[0, 0] = torch.nan
    with pytest.raises(nas.UserError, match=r"1\.weight holds NaN or infinity"):
        nas.quantize(net, inputs())


@pytest.mark.parametrize("scheme", ["w8a8", "w4a16"])
def test_stored_scales_that_are_not_finite_are_named(scheme: str) -> None:
    tensors = to_tensors(nas.quantize(net_of(scheme), inputs()))
    tensors["0.weight.scale"] = torch.full_like(tensors["0.weight.scale"], torch.inf)
    with pytest.raises(nas.UserError, match=r"the scales of 0 as w.a.* are not finite"):
        from_tensors(net_of(scheme), tensors)
