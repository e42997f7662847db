"""A quantized net in torchao's tensors: the same codes and scales, the same answers."""

import sys
import warnings

import numpy as np
import pytest
import torch
from example_spaces import Block, ViT
from torch import nn

import nas
from nas.search_space.architecture import Architecture
from nas.search_space.quantization import Scheme, quantizable
from nas.supernet.export import save_bundle
from nas.supernet.quantize.post_training import quantize
from nas.supernet.quantize.settings import PLAIN


def images(n, seed=0):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def quantized(*schemes, net=None, inputs=None, settings=None):
    """A net with these schemes at its parts in turns."""
    torch.manual_seed(0)
    net = (ViT(48, [Block(48, 2, 96, "softmax"), Block(48, 1, 48, "linear")]) if net is None else net).eval()
    for i, part in enumerate(quantizable(net).values()):
        part.quantization = Scheme.parse(schemes[i % len(schemes)])
    return quantize(net, images(32) if inputs is None else inputs, settings)


def held(found):
    """In torchao's kernels; that some parts stay floats is an error here."""
    pytest.importorskip("torchao", minversion="0.18")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="torchao cannot hold")
        return nas.with_kernels(found, "torchao")


def weights_are_equal(net, found):
    parts = {n: net.get_submodule(n).weight for n, p in found.parts.items() if p.codes is not None}
    assert all(type(w.data) not in (torch.Tensor, nn.Parameter) for w in parts.values())
    return all(torch.equal(w.dequantize(), found.module.get_submodule(n).weight) for n, w in parts.items())


@torch.no_grad()
@pytest.mark.parametrize(
    "scheme", ["w8a16", "w5a16", "w4a16", "w4a16g64", "w2a16", "w16a16", "w4a4", "w4a16z", "w8a16t", "w8a8z"]
)
def test_codes_of_weights_alone_give_the_twin_to_the_bit(scheme):
    found, x = quantized(scheme), images(64, seed=1)
    net = held(found)
    assert weights_are_equal(net, found)
    assert net(x).equal(found.module(x))


@torch.no_grad()
@pytest.mark.parametrize(("scheme", "settings"), [("w8a8", None), ("w4a8", None), ("w8a8", PLAIN), ("w8a8ts", None)])
def test_integers_are_multiplied_at_the_scales_that_were_calibrated(scheme, settings):
    found, x = quantized(scheme, settings=settings), images(1000, seed=1)
    net = held(found)
    assert weights_are_equal(net, found)
    ours, theirs = found.module(x), net(x)
    assert (ours - theirs).abs().max() < 0.01 * ours.abs().max()
    assert (ours.argmax(1) == theirs.argmax(1)).float().mean() >= 0.995
    assert (found.module(100 * x) - net(100 * x)).abs().max() < 0.01 * ours.abs().max()  # clipped alike: static ranges


@torch.no_grad()
def test_tables_have_codes_too():
    net = nn.Sequential(nn.Embedding(20, 24), nn.Linear(24, 5))
    x = torch.arange(20).reshape(4, 5)
    found = quantized("w4a16", "w8a8", net=net, inputs=x)
    kept = held(found)
    assert weights_are_equal(kept, found)
    assert kept[0](x).equal(found.module[0](x))
    assert torch.allclose(kept(x), found.module(x), atol=1e-5)


@torch.no_grad()
def test_what_torchao_cannot_hold_stays_floats_and_is_named():
    pytest.importorskip("torchao", minversion="0.18")
    net = nn.Sequential(nn.Conv1d(3, 8, 3), nn.Flatten(), nn.Linear(48, 4))
    x = torch.randn(16, 3, 8, generator=torch.Generator().manual_seed(0))
    found = quantized("w8a16", net=net, inputs=x)
    with pytest.warns(UserWarning, match="cannot hold the codes of 0: these stay decoded floats"):
        kept = nas.with_kernels(found, "torchao")
    assert kept(x).equal(found.module(x))
    found = quantized("fp8", net=net, inputs=x)
    with pytest.warns(UserWarning, match="cannot hold the codes of 0, 2: these stay decoded floats"):
        kept = nas.with_kernels(found, "torchao")
    assert kept(x).equal(found.module(x))


def small(trial):
    return ViT(32, [Block(32, trial.suggest_int("heads", 1, 2), 32, "softmax")])


@torch.no_grad()
def test_a_bundle_is_loaded_into_these_kernels(tmp_path):
    space = nas.SearchSpace(small).quantized(schemes=["w8a8", "w4a16"])
    architecture = space.sample(np.random.default_rng(0))
    found = quantize(space.build(architecture).eval(), images(32))
    nas.export(found, images(1), tmp_path, ["safetensors"])
    save_bundle(tmp_path, Architecture(architecture), {}, {})
    assert nas.load(tmp_path, space)(images(9)).equal(found.module(images(9)))
    kept, expected = held(found), nas.load(tmp_path, space, kernels="torchao")
    assert kept(images(9)).equal(expected(images(9)))


def test_what_cannot_be_is_one_sentence(monkeypatch):
    found = quantized("w8a8")
    with pytest.raises(nas.UserError, match="unknown kernels 'torch_ao'; valid: torchao"):
        nas.with_kernels(found, "torch_ao")
    with pytest.raises(nas.UserError, match="the net is not quantized"):
        nas.with_kernels(quantize(nn.Linear(3, 3), torch.ones(2, 3)), "torchao")
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(nas.UserError, match=r'needs torchao 0\.18 or newer; install it: pip install "nas\[torchao\]"'):
        nas.with_kernels(found, "torchao")
