"""Nets of an adopted model are fitted to it in closed form."""

from copy import deepcopy

import pytest
import torch
from tiny_models import model, tokens
from torch import nn

import nas
from nas.errors import UserError
from nas.supernet.adopt.refit import fit, refit

pytest.importorskip("transformers")
TEXT = tokens(24, 12)
TASK = nas.Task.of(
    (TEXT[:, :-1], TEXT[:, 1:]), (TEXT[:, :-1], TEXT[:, 1:]), loss=nn.functional.cross_entropy, output="logits"
)


def stream(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net(x, output_hidden_states=True).hidden_states[-1]


def redundant() -> nn.Module:
    """A Llama whose hidden channels come in pairs that compute the same."""
    net = deepcopy(model("LlamaForCausalLM"))
    with torch.no_grad():
        for layer in net.model.layers:
            for part in (layer.mlp.gate_proj, layer.mlp.up_proj):
                part.weight[len(part.weight) // 2 :] = part.weight[: len(part.weight) // 2]
    return net


def halved(supernet: nas.Supernet) -> nas.Architecture:
    genes = supernet.space.genes
    half = {name: min(g.options) for name, g in genes.items() if name.endswith("ffn")}
    return supernet.space.architecture({**supernet.space.largest, **half})


@torch.no_grad()
def test_what_redundant_channels_put_out_is_taken_over_exactly() -> None:
    original = redundant()
    supernet = nas.adopt(original, ffn=(0.5, 1.0))
    net = supernet.extract(halved(supernet))
    before = (stream(net, TEXT) - stream(original, TEXT)).abs().max()
    fit(net, original, supernet.space.function.stacks[0], TEXT, ridge=1e-9)
    after = (stream(net, TEXT) - stream(original, TEXT)).abs().max()
    assert after < 1e-3 * before


def without(supernet: nas.Supernet, *indices: int) -> nas.Architecture:
    left_out = {f"layers.{i}.{part}": 0 for i in indices for part in ("heads", "ffn")}
    return supernet.space.architecture({**supernet.space.largest, **left_out})


@torch.no_grad()
@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "GPT2LMHeadModel"])
def test_a_net_without_layers_comes_nearer_to_the_original(kind: str) -> None:
    supernet = nas.adopt(deepcopy(model(kind)))
    architecture, largest = without(supernet, 1), supernet.extract(supernet.space.largest)

    def distance() -> float:
        return float((stream(supernet.extract(architecture), TEXT) - stream(largest, TEXT)).square().mean())

    before = distance()
    refit(supernet, architecture, TASK, samples=24)
    assert distance() < 0.9 * before


@torch.no_grad()
def test_the_largest_net_has_nothing_to_make_up_for() -> None:
    supernet = nas.adopt(deepcopy(model("LlamaForCausalLM")))
    before = {name: p.clone() for name, p in supernet.store.named_parameters()}
    refit(supernet, supernet.space.largest, TASK)
    for name, p in supernet.store.named_parameters():
        torch.testing.assert_close(p, before[name])


@pytest.mark.parametrize("kind", ["BertModel", "Gemma3ForCausalLM"])
def test_nets_that_cannot_be_fitted_are_refused(kind: str) -> None:
    normed = nas.adopt(deepcopy(model(kind)))
    before = {name: p.detach().clone() for name, p in normed.store.named_parameters()}
    with pytest.raises(UserError, match="do not add what their FFNs put out"):
        refit(normed, without(normed, 1), TASK)
    assert all(torch.equal(p, before[name]) for name, p in normed.store.named_parameters())


def test_a_space_of_ones_own_has_no_ffns_to_fit() -> None:
    own = nas.adopt(nn.Sequential(nn.Linear(2, 2)), lambda _: nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(UserError, match=r"adopt one with nas\.adopt"):
        refit(own, own.space.largest, TASK)


def test_a_training_for_one_net_begins_with_it() -> None:
    fitted, trained = (nas.adopt(deepcopy(model("LlamaForCausalLM"))) for _ in range(2))
    architecture = without(fitted, 1)
    refit(fitted, architecture, TASK, samples=16)
    nas.train(trained, TASK, nets=[architecture], steps=1, lr=1e-12, check=False)
    for name, p in trained.store.named_parameters():
        torch.testing.assert_close(p, fitted.store.get_parameter(name))
