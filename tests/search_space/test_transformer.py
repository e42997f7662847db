"""The general transformer as a space."""

import pickle
from itertools import product
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from nas.errors import UserError
from nas.search_space.architecture import GeneValue
from nas.search_space.operators.base import Context
from nas.search_space.operators.stems.tokens import EMBEDDING
from nas.search_space.space import SearchSpace
from nas.search_space.transformer import Transformer, TransformerFunction, TransformerSpace
from nas.search_space.trial import Gene, RecordingTrial

IMAGE, CLASSES = (1, 8, 8), 10


def rich(**fields: Any) -> TransformerFunction:
    """A small space with every kind of gene."""
    options: dict[str, Any] = {
        "patch": 2,
        "width": [16, 32],
        "layers": 3,
        "least_layers": 1,
        "head_dim": 4,
        "kv_heads": [1, 2],
        "group": [1, 2],
        "mixer": ["softmax", "linear", "window", "pool", "conv", "none"],
        "ffn": ["mlp", "swiglu", "none"],
        "ffn_ratio": [0.125, 0.5, 1],
        "expansion": [2, 4],
        "activation": ["gelu", "relu2"],
        "norm": ["layernorm", "rmsnorm"],
        "position": ["learned", "none"],
        "readout": ["mean", "cls"],
        "genes": {"window": [2, 3], "kernel": [3, 5]},
    }
    return TransformerSpace(**{**options, **fields}).bind(IMAGE, CLASSES)


def build(function: TransformerFunction, **choices: GeneValue) -> tuple[Transformer, RecordingTrial]:
    """The net of `choices` (dots are written as __), all else at its top."""
    wanted = {name.replace("__", "."): value for name, value in choices.items()}
    trial = RecordingTrial(lambda gene: wanted.get(gene.name, gene.top))
    return function(trial), trial


def images(n: int = 2) -> torch.Tensor:
    return torch.randn(n, *IMAGE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("seed", range(20))
def test_random_nets_run_and_have_no_dead_parameter(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def choose(gene: Gene) -> GeneValue:
        return gene.options[int(rng.integers(len(gene.options)))]

    net = rich()(RecordingTrial(choose))
    y = net(images())
    assert y.shape == (2, CLASSES)
    (y * torch.randn(y.shape)).sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("kept", list(product([True, False], repeat=2)))
def test_any_subset_of_layers_keeps_its_names(kept: tuple[bool, bool]) -> None:
    net, trial = build(rich(), layers__1__keep=kept[0], layers__2__keep=kept[1])
    present = ["0"] + [str(i) for i, keep in enumerate(kept, 1) if keep]
    assert list(net.layers) == present
    asked = {name.split(".")[1] for name in trial.values if name.startswith("layers.") and not name.endswith("keep")}
    assert asked == set(present)
    assert net(images()).shape == (2, CLASSES)


def test_layers_see_the_index_of_the_supernet() -> None:
    net, _ = build(rich(), layers__1__keep=False)
    seen = []
    for block in net.layers.values():
        block.register_forward_pre_hook(lambda _module, args: seen.append(args[1].layer))
    net(images())
    assert seen == [0, 2]


def test_first_k_depth_is_one_gene() -> None:
    function = rich(depth="first")
    net, trial = build(function, depth=2)
    assert list(net.layers) == ["0", "1"]
    assert trial.genes["depth"].options == (1, 2, 3)
    assert not [name for name in trial.values if name.endswith("keep") or name.startswith("layers.2")]


@pytest.mark.parametrize(
    ("mixer", "asked"),
    [
        ("softmax", {"kv_heads", "group"}),
        ("linear", {"kv_heads", "group"}),
        ("window", {"kv_heads", "group", "window"}),
        ("conv", {"kernel"}),
        ("pool", set()),
        ("none", set()),
    ],
)
def test_only_the_chosen_operators_genes_are_asked(mixer: str, asked: set[str]) -> None:
    _, trial = build(rich(), layers__0__mixer=mixer)
    mine = {name.removeprefix("layers.0.") for name in trial.values if name.startswith("layers.0.")}
    assert mine == asked | {"mixer", "ffn", "expansion", "ffn_ratio"}


def test_a_gene_with_one_option_is_not_asked() -> None:
    _, trial = build(TransformerSpace(width=[16], kv_heads=2).bind(IMAGE, CLASSES))
    assert trial.values == {}


def test_activation_is_asked_only_where_it_acts() -> None:
    assert "activation" not in build(rich(ffn="swiglu"))[1].values
    assert "activation" in build(rich(ffn="mlp"))[1].values


def test_a_branch_that_is_none_leaves_no_norm() -> None:
    net, _ = build(rich(), layers__0__mixer="none", layers__0__ffn="none")
    assert not [name for name, _ in net.named_parameters() if name.startswith("layers.0.")]


@pytest.mark.parametrize(
    ("ratio", "expansion", "width", "hidden"),
    [(1, 4, 32, 128), (0.125, 4, 32, 16), (0.125, 2, 16, 8), (0.5, 2, 16, 16)],
)
def test_hidden_units(ratio: float, expansion: float, width: int, hidden: int) -> None:
    net, _ = build(rich(), width=width, layers__0__ffn_ratio=ratio, layers__0__expansion=expansion)
    assert net.get_parameter("layers.0.ffn.up.weight").shape == (hidden, width)


def test_attentions_share_their_names() -> None:
    names = [
        {n: p.shape for n, p in build(rich(), layers__0__mixer=m)[0].named_parameters() if "layers.0.mixer." in n}
        for m in ("softmax", "linear", "window")
    ]
    assert names[0] == names[1] == names[2]


def test_cls_reads_a_prefix_token_that_sees_the_image() -> None:
    for mixer in ("softmax", "linear", "window", "conv"):
        net, _ = build(rich(mixer=mixer, readout="cls"))
        assert net.prefix is not None
        assert net(images(2)).diff(dim=0).abs().max() > 1e-6, mixer
    assert build(rich(readout="mean"))[0].prefix is None


def test_a_causal_language_model() -> None:
    space = TransformerSpace(stem="tokens", causal=True, readout="dense", width=16, mixer=["softmax", "none"])
    net = space.bind((9,), classes=7, vocabulary=7)(RecordingTrial(lambda gene: gene.top)).eval()
    x = torch.arange(9).remainder(7)[None]
    y, changed = net(x), net(torch.where(torch.arange(9) < 5, x, 0))
    assert y.shape == (1, 9, 7)
    assert torch.allclose(y[:, :5], changed[:, :5], atol=1e-6)
    assert not torch.allclose(y[:, 5:], changed[:, 5:])


def test_optuna_asks_the_same_genes() -> None:
    function = rich()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        net = function(trial)
        recorded = RecordingTrial(lambda gene, params=trial.params: params[gene.name])
        again = function(recorded)
        assert recorded.values == trial.params
        assert {n: p.shape for n, p in net.named_parameters()} == {n: p.shape for n, p in again.named_parameters()}


def test_the_function_is_a_value() -> None:
    function = rich()
    assert pickle.loads(pickle.dumps(function)) == function
    assert TransformerSpace(**function.space.model_dump(mode="json")) == function.space


@pytest.mark.slow
def test_every_axis_of_the_space_is_really_one() -> None:
    space = SearchSpace(rich())
    assert space.check(images()) == []


def test_distinct_nets_are_counted() -> None:
    space = SearchSpace(
        TransformerSpace(layers=3, least_layers=1, mixer=["softmax", "pool"], kv_heads=[1, 2]).bind(IMAGE, 3)
    )
    per_layer = 2 + 1
    assert space.size == per_layer * (1 + per_layer) ** 2
    assert space.size_is_exact


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"mixer": ["softmax", "windw"]}, "field 'mixer': unknown mixer 'windw'; valid: window"),
        ({"stem": "tokens", "mixer": "window"}, "mixer 'window' does not work on a sequence of tokens; of this kind"),
        ({"mixer": "linear", "causal": True}, "mixer 'linear' does not work on a causal space; of this kind"),
        ({"readout": "cls", "causal": True}, "readout 'cls' does not work on a causal space"),
        (
            {"stem": "tokens", "position": "rotary", "mixer": "pool"},
            "position 'rotary' acts through the mixers dconv, ",
        ),
        (
            {"stem": "features", "position": "none", "readout": "tied"},
            "readout 'tied' does not work on a set of tokens; of this kind",
        ),
        ({"widht": 3}, "unknown field 'widht'; valid: width"),
        ({"width": []}, "field 'width': needs one option or several different ones"),
        ({"width": [32, 32]}, "field 'width': needs one option or several different ones"),
        ({"kv_heads": [0, 1]}, "field 'kv_heads.0': input should be greater than 0"),
        ({"layers": 2, "least_layers": 3}, "field 'least_layers': 3 is above the number of layers; give 1 to 2"),
        ({"activation": "gleu"}, "field 'activation': unknown activation 'gleu'; valid: gelu"),
        ({"genes": {"windw": [2]}, "mixer": "window"}, "unknown gene of an operator 'windw'; valid: window"),
    ],
)
def test_errors_are_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        TransformerSpace(**fields)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_patch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="patch 3 does not divide"):
        build(TransformerSpace(patch=3).bind(IMAGE, CLASSES))


def test_a_tied_head_has_no_weights_of_its_own_and_needs_an_output_for_each_token():
    space = TransformerSpace(stem="tokens", readout="tied", causal=True, width=16, kv_heads=1)
    net = space.bind((9,), 50, vocabulary=50)(RecordingTrial(lambda gene: gene.top))
    assert not list(net.readout.parameters())
    tokens = torch.arange(9)[None]
    hidden = net.norm(net.layers["3"](torch.zeros(1, 9, 16), Context(causal=True)), Context())
    assert net(tokens).shape == (1, 9, 50)
    logits = net.readout(hidden, Context(memory={EMBEDDING: net.stem.embedding.weight}))
    assert torch.allclose(logits, hidden @ net.stem.embedding.weight.T / 4, atol=1e-6)
    with pytest.raises(UserError, match="each of the 50 tokens of the vocabulary, and the task has 3"):
        space.bind((9,), 3, vocabulary=50)(RecordingTrial(lambda gene: gene.top))


def test_the_vocabulary_of_token_stems_is_stated_in_the_space():
    space = TransformerSpace(stem="tokens", vocabulary=50, width=16)
    assert space.bind((9,), 3)(RecordingTrial(lambda gene: gene.top)).stem.embedding.num_embeddings == 50
    assert space.bind((9,), 3, vocabulary=7).vocabulary == 7
    with pytest.raises(UserError, match="state `vocabulary: N` in the space"):
        TransformerSpace(stem="tokens", width=16).bind((9,), 3)(RecordingTrial(lambda gene: gene.top))
