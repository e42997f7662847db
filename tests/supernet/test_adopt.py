"""Trained models as supernets: the largest net is the model, to the bit; every net generates as it computes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS, GENERATIVE, TOKENS, inputs, model, supernet, tokens
from torch import nn

import nas
from nas.errors import UserError
from nas.search_space.locate import describe_space, space_from

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_largest_net_is_the_model_to_the_bit(kind: str) -> None:
    adopted = supernet(kind)
    largest = adopted.extract(adopted.space.largest)
    with torch.no_grad():
        expected = model(kind)(**inputs(kind))[0]
        assert torch.equal(adopted(architecture=adopted.space.largest, **inputs(kind))[0], expected)
        assert torch.equal(largest(**inputs(kind))[0], expected)
    assert type(largest) is type(model(kind))
    assert largest.state_dict().keys() == model(kind).state_dict().keys()


@pytest.mark.parametrize("kind", CONFIGS)
def test_small_nets_are_corners(kind: str) -> None:
    adopted = supernet(kind)
    assert adopted.space.check(inputs(kind)) == []
    net = adopted.extract(adopted.space.smallest)
    assert sum(p.numel() for p in net.parameters()) < 0.8 * sum(p.numel() for p in model(kind).parameters())


@pytest.mark.parametrize("kind", GENERATIVE)
def test_every_net_generates_with_its_cache_as_without(kind: str) -> None:
    adopted, rng, x = supernet(kind), np.random.default_rng(0), tokens()
    settings = {"max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(x)}
    for architecture in [adopted.space.sample(rng) for _ in range(4)] + [adopted.space.smallest]:
        net = adopted.extract(architecture)
        plain = net.generate(x, use_cache=False, **settings)
        assert torch.equal(net.generate(x, use_cache=True, **settings), plain)
        with adopted.filled(adopted.skeleton(architecture), architecture) as subnet:
            assert torch.equal(subnet.generate(x, **settings), plain)


def test_a_layer_left_out_has_no_parameters_and_changes_nothing_else() -> None:
    adopted = supernet("LlamaForCausalLM")
    without = dict.fromkeys(("layers.1.heads", "layers.1.ffn"), 0)
    architecture = adopted.space.architecture({**adopted.space.largest, **without})
    net = adopted.extract(architecture)
    assert not [name for name, _ in net.named_parameters() if ".layers.1." in name]
    reference = transformers.LlamaForCausalLM(net.config).eval()
    names = {"model.layers.2.": "model.layers.1."}
    state = {n.replace("model.layers.2.", names["model.layers.2."]): t for n, t in net.state_dict().items()}
    reference.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(net(tokens()).logits, reference(tokens()).logits)


def test_the_description_of_an_adopted_space_builds_it_again() -> None:
    space = supernet("LlamaForCausalLM").space
    again = space_from(describe_space(space.function, (9,), TOKENS))
    assert again.genes == space.genes
    x, architecture = tokens(), space.smallest
    assert again.skeleton(architecture).config.num_hidden_layers == 1
    assert space.build(architecture)(x).logits.shape == (2, 9, TOKENS)


def test_uniform_sizes_are_one_gene_for_all_layers() -> None:
    space = nas.adopt(model("LlamaForCausalLM"), ffn=(0.5, 1.0), heads=(1.0,), group=(1.0,), uniform=True).space
    assert {name: gene.options for name, gene in space.genes.items()} == {
        "ffn": (32, 64),
        "layers.1.keep": (0, 1),
        "layers.2.keep": (0, 1),
    }


def test_a_model_of_ones_own_with_its_space_function() -> None:
    def function(trial):
        width = trial.suggest_categorical("hidden", [4, 8])
        return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2))

    class Full:
        def suggest_categorical(self, _, options):
            return options[-1]

    trained = function(Full())
    trained(torch.randn(64, 3) + 2)
    trained.eval()
    adopted, x = nas.adopt(trained, function), torch.randn(5, 3)
    assert torch.equal(adopted(x, adopted.space.largest), trained(x))
    with pytest.raises(UserError, match=r"0.bias has shape \(8,\) there and \(6,\) in the model"):
        nas.adopt(nn.Sequential(nn.Linear(3, 6)), function)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: nas.adopt("no/such", ffn=(0.5,)), "no/such is no folder here and cannot be had from the hub"),
        (lambda: nas.adopt("./missing"), "./missing is no model: give a folder with config.json"),
        (lambda: nas.adopt(nn.Linear(2, 2)), "Linear is no model of the transformers library"),
        (lambda: nas.adopt(model("LlamaForCausalLM"), ffn=(1.5,)), "less than or equal to 1"),
        (lambda: nas.adopt(model("LlamaForCausalLM"), depth=(1,)), "depth: Extra inputs"),
    ],
)
def test_wrong_input_is_one_sentence(call, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call()


def test_a_folder_runs_no_code_of_its_author_and_unpickles_nothing(tmp_path: Path) -> None:
    model("LlamaForCausalLM").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    classes = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\nclass Model: ...\n")
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": classes}))
    with pytest.raises(UserError, match="cannot be opened"):
        nas.adopt(tmp_path)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").unlink()
    torch.save(model("LlamaForCausalLM").state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be opened"):
        nas.adopt(tmp_path)


def test_a_description_names_a_model_class() -> None:
    space = supernet("LlamaForCausalLM").space
    description = describe_space(space.function, (9,), TOKENS)
    for name in ("NoSuchModel", "AutoTokenizer", "logging"):
        other = {**description, "adopted": {**description["adopted"], "architecture": name}}
        with pytest.raises(UserError, match=f"no model class '{name}'"):
            space_from(other)
