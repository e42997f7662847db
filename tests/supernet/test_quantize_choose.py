"""The choice of granularity and symmetry: by the error that the loss feels, of a block where layouts change."""

from dataclasses import replace

import onnxruntime
import pytest
import torch
from example_spaces import Block, ViT
from torch import Tensor, nn

from nas.hw_profiles.cost.onnx_file import quantized_onnx
from nas.search_space.quantization import Scheme, quantizable
from nas.supernet.quantize.blockwise import choose, feel
from nas.supernet.quantize.observers import fit
from nas.supernet.quantize.packed import from_tensors, to_tensors
from nas.supernet.quantize.post_training import quantize
from nas.supernet.quantize.settings import PostTraining


def images(n: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def net_of(scheme: str) -> nn.Module:
    torch.manual_seed(0)
    net = ViT(32, [Block(32, 1, 48, "softmax")]).eval()
    for part in quantizable(net).values():
        vars(part)["quantization"] = Scheme.parse(scheme)
    return net


def test_the_cheapest_within_the_slack_is_taken_and_none_that_is_worse_than_what_was():
    errors = {"cheap": 1.04, "better": 1.0, "given": 1.02}
    assert choose(["cheap", "better"], "given", errors.__getitem__) == "better"
    assert choose(["cheap", "better"], "given", errors.__getitem__, slack=0.05) == "better"  # cheap is worse than given
    assert choose(["cheap", "better"], "given", (errors | {"given": 2.0}).__getitem__, slack=0.05) == "cheap"
    assert choose([], "given", errors.__getitem__) == "given"


def test_importance_is_the_diagonal_of_the_hessian():
    """Of a linear layer as the answer, the cross-entropy's is p (1 - p); the mean over draws and samples comes near."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 3))
    x = torch.randn(6, generator=torch.Generator().manual_seed(1)).expand(4000, 6)
    p = net(x)[0].softmax(-1).detach()
    felt = feel(net, x, ["0"]).felt["0"]
    assert torch.allclose(felt.importance.mean(0), p * (1 - p), atol=0.01)
    assert torch.allclose(felt.channels(net[0]), p * (1 - p), atol=0.01)


class Deaf(nn.Module):
    """A net whose loss feels only the first of two layers that are alike, and of that only one output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.first(x).mul_(torch.eye(4)[1]) + 0 * self.second(x))
        return y


def test_only_what_the_loss_feels_counts():
    torch.manual_seed(0)
    net = Deaf().requires_grad_(False)
    felt = feel(net, torch.randn(32, 8), ["first", "second", "head"]).felt
    assert list(felt) == ["first", "second", "head"]
    heard = felt["first"].channels(net.first)
    assert heard[1] > 0
    assert heard[[0, 2, 3]].eq(0).all()
    assert felt["first"].y[:, 0].any()  # as it was before it was changed in place
    assert felt["second"].importance.eq(1).all()


def test_the_parts_beside_a_change_of_layout_are_one_block():
    net = net_of("w4a4")
    blocks = feel(net, images(), list(quantizable(net)))
    assert blocks.bridge("stem") == ["blocks.0.q", "blocks.0.k", "blocks.0.v"]
    assert blocks.bridge("blocks.0.q") == blocks.bridge("head") == []
    found = quantize(net, images()).parts["stem"]
    assert blocks.error("stem", found) > 0
    with torch.no_grad():
        seen = {
            n: m.register_forward_hook(lambda _, __, y, n=n: ends.update({n: y}))
            for n, m in net.blocks[0].named_children()
        }
        ends: dict[str, Tensor] = {}
        weight = net.stem.weight.clone()
        net.stem.weight.copy_(found.weight.decode(found.codes))
        handle = net.stem.register_forward_pre_hook(lambda _, x: found.activation(x[0]))
        net(images())
        handle.remove()
        net.stem.weight.copy_(weight)
    assert len(seen) > 3
    expected = sum(blocks.felt[f"blocks.0.{n}"].error(ends[n]) for n in "qkv")
    assert blocks.error("stem", found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scheme", ["w4a4", "w6a6", "w8a8", "w4a16", "w16a16"])
def test_no_part_is_worse_than_without_the_choice(scheme):
    net = net_of(scheme)
    settings = PostTraining(reparameterized=False, compensated=4 * (scheme == "w4a4"))
    default, chosen = (quantize(net, images(), replace(settings, choose=by_loss)) for by_loss in (False, True))
    blocks = feel(net, images(), list(quantizable(net)))
    with torch.no_grad():
        pairs = [(blocks.error(n, chosen.parts[n]), blocks.error(n, p)) for n, p in default.parts.items()]
    assert all(ours <= theirs * (1 + 1e-6) for ours, theirs in pairs)
    for part in chosen.parts.values():
        for affine in (part.weight, part.activation):
            assert affine is None or ((affine.zero >= affine.low) & (affine.zero <= affine.high)).all()
    assert scheme == "w16a16" or sum(ours for ours, _ in pairs) < sum(theirs for _, theirs in pairs)
    words = chosen.policy()
    assert words.keys() >= chosen.parts.keys()
    assert scheme != "w4a4" or len({v["activations"] for n, v in words.items() if n in chosen.parts}) > 1
    assert scheme != "w6a6" or quantize(net, images(), replace(settings, choose=True)).policy() == words


def test_the_choice_follows_the_data():
    """Inputs that are all far from 0 want a zero of their own; rows that differ a scale each."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 8))
    with torch.no_grad():
        net[0].weight[:4] *= 50
    vars(net[0])["quantization"] = Scheme.parse("w4a4")
    x = torch.rand(64, 16, generator=torch.Generator().manual_seed(0))
    words = quantize(net, x, PostTraining(compensated=0, choose=True)).policy()["0"]
    assert words["activations"] == "4 bits, one scale for all, asymmetric"
    with torch.no_grad():
        net[0].weight.copy_(torch.sign(net[0].weight))
    words = quantize(net, x - 0.5, PostTraining(compensated=0, choose=True)).policy()["0"]
    assert words["weights"] == "4 bits, one scale for all, symmetric"


def test_a_zero_never_overflows():
    far = torch.randn(100, dtype=torch.float64) * 0.01 + 5  # its own range alone would need a zero of about -20,000
    for symmetric in (True, False):
        affine = fit("mse", far, 8, symmetric=symmetric)
        assert affine.low <= affine.zero <= affine.high
        assert float((affine(far) - far).square().mean()) < 0.05**2


@torch.no_grad()
@pytest.mark.parametrize("scheme", ["w8a8", "w4a8", "w4a16", "w4a4", "w6a6"])
def test_what_was_chosen_is_stored_and_shipped(scheme):
    torch.manual_seed(1)
    found = quantize(net_of(scheme), images(32), PostTraining(choose=True))
    assert {part.scheme for part in found.parts.values()} != {Scheme.parse(scheme)}  # something else was better
    back = from_tensors(net_of(scheme), to_tensors(found))
    x = images(64, seed=2)
    assert back.module(x).equal(found.module(x))
    assert {n: p.scheme for n, p in back.parts.items()} == {n: p.scheme for n, p in found.parts.items()}
    assert back.policy().keys() == found.policy().keys()
    if Scheme.parse(scheme).activations >= 8:
        content = quantized_onnx(found.floats(), x, found.integers())
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (outputs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert (torch.from_numpy(outputs) - found.module(x)).abs().max() < 0.02 * found.module(x).abs().max()
