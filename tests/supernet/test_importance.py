"""Importance sorting: what matters is kept, and the largest net stays what it was, to the bit."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import nas
from nas.errors import UserError
from nas.supernet.adopt.calibration import Calibration
from nas.supernet.adopt.order import sort_axes, sortable_axes, unsort

transformers = pytest.importorskip("transformers")
TOKENS = 64


def model(kind: str = "llama") -> nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": TOKENS, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if kind == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, n_embd=24, n_layer=3, n_head=3)).eval()
    layers = {"num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 64, "initializer_range": 0.2}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **layers, **heads)).eval()


@cache
def task() -> nas.Task:
    rows = torch.randint(1, TOKENS, (24, 9), generator=torch.Generator().manual_seed(1))
    data = {"input_ids": rows[:, :-1], "labels": rows[:, 1:]}
    return nas.Task.of(train=data, validation=data, inputs={"input_ids": "input_ids"}, vocabulary=TOKENS)


def outputs(net: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return net(task().example["input_ids"]).logits


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_largest_net_stays_itself_to_the_bit_and_all_nets_compute_as_extracted(kind: str) -> None:
    trained = model(kind)
    before = outputs(trained)
    supernet = nas.adopt(trained)
    result = nas.sort_by_importance(supernet, task(), samples=8)
    assert set(result.methods) >= {"layers.*.heads", "layers.*.ffn"}
    assert all(len(losses) == 4 for losses in result.losses.values())
    space, rng = supernet.space, np.random.default_rng(0)
    assert torch.equal(outputs(supernet.extract(space.largest)), before)
    assert torch.equal(outputs(trained), before)  # the model that was adopted is left alone
    for architecture in [space.largest, *(space.sample(rng) for _ in range(4))]:
        with torch.no_grad():
            elastic = supernet(architecture=architecture, **task().example).logits
        assert torch.equal(elastic, outputs(supernet.extract(architecture)))


def test_the_half_of_an_ffn_that_does_nothing_goes_first() -> None:
    trained = model()
    with torch.no_grad():
        for layer in trained.model.layers:
            layer.mlp.down_proj.weight[:, ::2] = 0
            layer.self_attn.o_proj.weight[:, : 3 * 4] = 0  # of the first key/value head
    supernet = nas.adopt(trained)
    space = supernet.space
    half = {n: 32 if n.endswith("ffn") else 1 if n.endswith("heads") else v for n, v in space.largest.items()}
    for method in ("activation", "energy", "taylor", "fisher"):
        nas.sort_by_importance(supernet, task(), methods=[method], samples=8)
        assert torch.allclose(outputs(supernet.extract(half)), outputs(trained), atol=1e-5), method
    unsort(supernet)
    assert not torch.allclose(outputs(supernet.extract(half)), outputs(trained), atol=1e-3)


def test_a_saved_supernet_keeps_its_order(tmp_path) -> None:
    trained = model()
    supernet = nas.adopt(trained)
    nas.sort_by_importance(supernet, task(), methods=["activation"], samples=4)
    supernet.save(tmp_path)
    again = nas.Supernet.load(tmp_path, supernet.space)
    assert torch.equal(outputs(again.extract(again.space.largest)), outputs(trained))
    small = supernet.space.sample(3)
    assert torch.equal(outputs(again.extract(small)), outputs(supernet.extract(small)))
    unsort(again)
    for name, parameter in trained.named_parameters():
        assert torch.equal(parameter, dict(again.store.named_parameters())[name])


def test_gradients_reach_the_sorted_tensors() -> None:
    trained = model()
    supernet = nas.adopt(trained)
    nas.sort_by_importance(supernet, task(), methods=["activation"], samples=4)
    largest, x = supernet.space.largest, task().example
    supernet(architecture=largest, **x).logits.square().mean().backward()
    trained.zero_grad()
    trained(**x).logits.square().mean().backward()
    before = {name: p.grad for name, p in trained.named_parameters()}
    sorted_ = dict(supernet.store.named_parameters())
    orders = supernet.store.orders
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.allclose(sorted_[name].grad.index_select(0, orders[name][0]), before[name], atol=1e-7)
    supernet.train()
    for parameter in sorted_.values():
        parameter.grad = None
    supernet(architecture=largest, **x).logits.square().mean().backward()  # in the order of the tensors
    assert torch.allclose(sorted_[name].grad.index_select(0, orders[name][0]), before[name], atol=1e-6)


def test_one_gene_for_all_layers_sorts_each_by_itself() -> None:
    supernet = nas.adopt(model(), heads=(1.0,), group=(1.0,), ffn=(0.5, 1.0), uniform=True)
    axes = sortable_axes(supernet, task().example)
    assert [axis.gene for axis in axes] == ["ffn"] * 3
    assert {len(axis.members) for axis in axes} == {3}


def test_a_model_of_ones_own_with_running_statistics_and_a_shared_width() -> None:
    def function(trial):
        width, hidden = trial.suggest_categorical("width", [3, 6]), trial.suggest_categorical("hidden", [4, 8])
        norm = nn.BatchNorm1d(hidden)
        return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, hidden), norm, nn.Linear(hidden, 2))

    space = nas.SearchSpace(function)
    torch.manual_seed(0)
    trained = space.build(space.largest)
    x = torch.randn(64, 3) + 2
    trained(x)
    trained.eval()
    with torch.no_grad():
        trained[4].weight[:, :4] = 0
    own = nas.Task.of(train=(x, x[:, :2]), validation=(x, x[:, :2]), loss=nn.MSELoss())
    supernet = nas.adopt(trained, space)
    assert set(nas.sort_by_importance(supernet, own).methods) == {"width", "hidden"}
    with torch.no_grad():
        assert torch.equal(supernet(x, space.largest), trained(x))
        with pytest.warns(nas.UncalibratedWarning):  # the statistics are those of the largest net's channels
            small = supernet(x, {"width": 6, "hidden": 4})
        assert torch.allclose(small, trained(x), atol=1e-5)


def test_sorting_twice_is_sorting_once_and_any_order_can_be_put_back() -> None:
    supernet = nas.adopt(model())
    before = {name: p.clone() for name, p in supernet.store.named_parameters()}
    rng = torch.Generator().manual_seed(0)
    for _ in range(2):
        axes = sortable_axes(supernet, task().example)
        sort_axes(supernet, [(a, torch.randperm(a.size // a.unit, generator=rng)) for a in axes])
    assert not torch.equal(
        dict(supernet.store.named_parameters())["model.layers.0.mlp.up_proj.weight"],
        before["model.layers.0.mlp.up_proj.weight"],
    )
    unsort(supernet)
    assert all(torch.equal(p, before[name]) for name, p in supernet.store.named_parameters())


def test_losses_that_were_measured_are_not_measured_again(tmp_path, monkeypatch) -> None:
    first = nas.sort_by_importance(nas.adopt(model()), task(), samples=4, folder=tmp_path)
    monkeypatch.setattr(Calibration, "loss", lambda *_: pytest.fail("measured again"))
    assert nas.sort_by_importance(nas.adopt(model()), task(), samples=4, folder=tmp_path) == first


def test_layers_before_the_change_are_not_computed_again() -> None:
    supernet = nas.adopt(model())
    space = supernet.space
    resumed, whole = Calibration(supernet, task(), 8), Calibration(supernet, task(), 8)
    assert resumed.start_from(space.largest) == whole.loss(space.largest)
    for change in ({"layers.2.ffn": 0}, {"layers.1.heads": 0}, {"layers.1.heads": 1, "layers.2.ffn": 32}):
        architecture = space.walk(lambda gene, c=change: c.get(gene.name, gene.top))
        assert resumed.loss(architecture) == whole.loss(architecture)


def test_wrong_input_is_one_sentence() -> None:
    with pytest.raises(UserError, match="method"):
        nas.sort_by_importance(nas.adopt(model()), task(), methods=["taylr"])
    supernet = nas.adopt(nn.Linear(2, 4), lambda trial: nn.Linear(2, trial.suggest_categorical("width", [2, 4])))
    own = nas.Task.of((torch.randn(8, 2), torch.randn(8, 4)), (torch.randn(8, 2), torch.randn(8, 4)))
    with pytest.raises(UserError, match="no axis of this space can be sorted"):
        nas.sort_by_importance(supernet, own)
