"""Softmax outputs beside activations of few bits: caught wherever a net computes them, rounded, stored; else floats."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from example_spaces import Block, GPTBlock, ViT
from safetensors.torch import save
from torch import Tensor, nn

import nas
from nas.search_space.quantization import Scheme, quantizable
from nas.supernet.export import save_bundle
from nas.supernet.quantize.packed import from_tensors, packed_bytes, to_tensors
from nas.supernet.quantize.post_training import quantize
from nas.supernet.quantize.quantizers import Affine, LogSqrt2
from nas.supernet.quantize.settings import PLAIN, PostTraining
from nas.supernet.quantize.softmax import attention, fit_softmax, let_softmax, round_softmax, sites
from nas.supernet.shipped import quantized_for

WAYS = ("best", "log_sqrt2", "uniform")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def few(net: nn.Module, *schemes: str) -> nn.Module:
    for i, part in enumerate(quantizable(net).values()):
        vars(part)["quantization"] = Scheme.parse(schemes[i % len(schemes)])
    return net.eval()


def vit(*schemes: str) -> nn.Module:
    torch.manual_seed(0)
    return few(ViT(48, [Block(48, 2, 96, "softmax"), Block(48, 1, 48, "linear")]), *schemes)


def mask(kind: str) -> Tensor:
    seen = normal(2, 1, 6, 6, seed=5) > 0
    seen[0, 0, 2] = False  # a query that sees nothing
    return seen if kind == "bool" else normal(2, 1, 6, 6, seed=6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": mask("bool")},
        {"attn_mask": mask("float")},
        {"enable_gqa": True},
    ],
    ids=lambda o: "-".join(o) or "plain",
)
def test_attention_computed_in_steps_is_torchs(options):
    heads = 1 if "enable_gqa" in options else 2
    q, k, v = normal(2, 2, 6, 8), normal(2, heads, 6, 8, seed=1), normal(2, heads, 6, 8, seed=2)
    ours = attention(lambda outputs: outputs, q, k, v, **options)
    theirs = F.scaled_dot_product_attention(q, k, v, **options)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert attention(lambda outputs: outputs, q[:, :, :4], k, v).shape == (2, 2, 4, 8)


class Own(nn.Module):
    """Attention that computes its softmax in a module of its own, scores (B, N, N)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.o, self.softmax, self.head = (
            nn.Linear(16, 48),
            nn.Linear(16, 16),
            nn.Softmax(-1),
            nn.Linear(16, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        y: Tensor = self.head(self.o(self.softmax(q @ k.mT) @ v).mean(1)).softmax(-1)  # of classes: stays a float
        return y


@pytest.mark.parametrize("how", WAYS)
def test_a_softmax_of_a_custom_module_is_rounded_once(how):
    torch.manual_seed(0)
    net, x, seen = few(Own(), "w4a4"), normal(32, 6, 16), []
    found = quantize(net, x, PostTraining(softmax=how))
    assert list(found.softmax) == [""]
    assert found.policy()[""]["softmax"].startswith("4 bits")
    round_softmax(found.module.softmax, lambda outputs: seen.append(outputs) or found.softmax[""](outputs))
    y = found.module(x)
    let_softmax(found.module.softmax)
    assert torch.equal(y, found.module(x))  # the innermost acts, and alone
    assert len(found.softmax[""](seen[0]).unique()) <= 16
    assert len(y.unique()) > 16
    for copied in (copy.deepcopy(found.module), pickle.loads(pickle.dumps(found.module))):
        assert torch.equal(copied(x), y)
    unrounded = quantize(net, x, PostTraining(softmax="none"))
    assert not unrounded.softmax
    assert not torch.equal(unrounded.module(x), y)
    assert torch.equal(found.floats()(x), unrounded.floats()(x))


def test_a_failing_forward_leaves_no_rounding_behind():
    torch.manual_seed(0)
    twin = quantize(few(Own(), "w4a4"), normal(8, 6, 16), PostTraining(softmax="uniform")).module
    with pytest.raises(RuntimeError):
        twin(normal(2, 6, 15))
    p = normal(2, 3, 4).softmax(-1)
    assert torch.equal(normal(2, 3, 4).softmax(-1), p)
    assert len(p.unique()) > 16


def test_where_softmax_outputs_are_rounded():
    assert set(sites(vit("w4a4"))) == {"", "blocks", "blocks.0", "blocks.1"}
    assert sites(vit("w8a8")) == sites(vit("w4a16")) == {}
    net = vit("w4a4")
    vars(net.blocks[0].q)["quantization"] = Scheme.parse("w4a6")
    del vars(net.blocks[1].o)["quantization"]
    assert sites(net) == {"blocks.0": 6}
    assert list(quantize(net, torch.rand(8, 1, 8, 8)).softmax) == ["blocks.0"]


@pytest.mark.parametrize("scheme", ["w8a8", "w4a8", "w4a16", "w16a16"])
def test_nets_that_runtimes_have_kernels_for_stay_as_they_were(scheme):
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    twins = [quantize(vit(scheme), x, PostTraining(compensated=0, softmax=how)).module for how in ("best", "none")]
    assert torch.equal(*[twin(x) for twin in twins])
    assert not any(m._forward_hooks for twin in twins for m in twin.modules())
    assert "quantize.softmax" not in to_tensors(quantize(vit(scheme), x))


@pytest.mark.parametrize("settings", [PLAIN, *(PostTraining(softmax=how) for how in (*WAYS, "none"))], ids=str)
def test_stored_softmax_scales_give_the_same_twin_to_the_bit(settings):
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = quantize(vit("w6a4", "w5a3"), x, settings)
    tensors = to_tensors(found)
    again = from_tensors(vit("w6a4", "w5a3"), tensors)
    assert torch.equal(again.module(x), found.module(x))
    assert {n: type(q) for n, q in again.softmax.items()} == {n: type(q) for n, q in found.softmax.items()}
    assert settings.per_channel is False or len(save(tensors)) == packed_bytes(vit("w6a4", "w5a3"))
    older = from_tensors(vit("w6a4", "w5a3"), {n: t for n, t in tensors.items() if n != "quantize.softmax"})
    assert not older.softmax
    assert torch.equal(older.module(x), again.module(x)) != bool(found.softmax)
    with pytest.raises(nas.UserError, match="do not fit"):
        from_tensors(vit("w6a4", "w5a3"), tensors | {"quantize.softmax": torch.zeros(1, 2)})


def test_a_bundle_of_few_bits_computes_what_was_evaluated(tmp_path):
    task, plain = nas.load_task("digits"), nas.load_preset("vit-digits")
    space = nas.SearchSpace(plain.bind(input_shape=task.input_shape, classes=task.classes)).quantized(schemes=["w6a4"])
    torch.manual_seed(0)
    found = quantized_for(space.build(space.largest), task)
    assert found.softmax
    nas.export(found, task.example, tmp_path, ("safetensors",))
    save_bundle(tmp_path, space.largest, {}, {})
    assert torch.equal(nas.load(tmp_path, space)(task.test.inputs[:64]), found.module(task.test.inputs[:64]))


def test_a_causal_net_with_a_mask_of_its_own():
    torch.manual_seed(0)
    net = few(GPTBlock(16, 1, 32, 8), "w8a4")
    (quantizer,) = quantize(net, normal(16, 8, 16)).softmax.values()
    assert float(getattr(quantizer, "delta", 1.0)) == pytest.approx(1.0)  # the first token sees itself alone


def test_powers_serve_what_is_peaked_and_even_steps_what_is_not():
    peaked, flat = ((factor * normal(64, 196)).softmax(-1).flatten() for factor in (4.0, 0.1))
    assert isinstance(fit_softmax("best", peaked, 4), LogSqrt2)
    assert isinstance(fit_softmax("best", flat, 4), Affine)
    for outputs in (peaked, flat):
        errors = {how: float((fit_softmax(how, outputs, 4)(outputs) - outputs).square().sum()) for how in WAYS}
        assert errors["best"] == min(errors.values())
    powers = fit_softmax("log_sqrt2", peaked, 4)
    assert powers.codes(peaked).max() == 15
    assert math.isfinite(float(fit_softmax("log_sqrt2", torch.zeros(8), 4)(torch.zeros(8)).sum()))
    with pytest.raises(nas.UserError, match="unknown way to round softmax outputs 'log2'"):
        PostTraining(softmax="log2")
