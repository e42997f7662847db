"""Presets: every file is a space that can be built."""

from pathlib import Path

import pytest
import torch
from example_spaces import preset_function
from torch import nn

from nas.errors import UserError
from nas.search_space.presets import load_preset, load_space_file, preset_names
from nas.search_space.space import SearchSpace

OUTPUTS = {  # the others: (2, 10)
    "vit-shapes": (2, 10, 24, 24),
    "byte-lm": (2, 16, 10),
    "byte-tagger": (2, 16, 10),
    "matlm": (2, 16, 256),
}


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in {"vit-mobile", "matlm"})) for n in preset_names()]
)
def test_builds_its_largest_smallest_and_random_nets(name: str) -> None:
    preset = load_preset(name)
    assert preset.summary.endswith(".")
    function = preset_function(name)
    shape, tokens = function.input_shape, function.vocabulary > 0
    space = SearchSpace(function)
    sizes = []
    for architecture in (space.smallest, space.sample(0), space.sample(1), space.largest):
        net = space.build(architecture, "meta")
        sizes.append(parameters(net))
        x = torch.empty(2, *shape, device="meta")
        assert net(x.long() if tokens else x).shape == OUTPUTS.get(name, (2, 10))
    assert sizes[0] == min(sizes)
    assert sizes[-1] == max(sizes)
    assert sizes[0] < sizes[-1]
    x = torch.randint(256, (1, *shape)) if tokens else torch.randn(1, *shape)
    assert space.build(space.sample(2))(x).isfinite().all()


def test_digits_are_small_and_have_every_kind_of_gene() -> None:
    space = SearchSpace(load_preset("vit-digits").bind((1, 8, 8), classes=10))
    assert parameters(space.build(space.largest, "meta")) < 300_000
    kinds = {name.rsplit(".", 1)[-1] for name in space.genes}
    assert kinds >= {"width", "keep", "kv_heads", "group", "mixer", "ffn_ratio"}


def test_matformer_and_attention_mix_vary_one_thing() -> None:
    for name, gene in (("matformer", "ffn_ratio"), ("attention-mix", "mixer")):
        space = SearchSpace(load_preset(name).bind((1, 28, 28), classes=10))
        assert {n.rsplit(".", 1)[-1] for n in space.genes} == {gene}


def test_matlm_is_a_decoder_of_8_million_parameters_with_one_table_of_tokens() -> None:
    """Known count: 256 x 256 for the table; in a layer q and o, k and v (half as many heads), three maps of the FFN,
    their biases, two norms."""
    space = SearchSpace(load_preset("matlm").bind((16,), 256, 256))
    assert {gene.path[-1] for gene in space.genes.values()} == {"ffn_ratio"}
    projections = 2 * (256 * 256 + 256) + 2 * (256 * 128 + 128) + 2 * (256 * 1024 + 1024) + 1024 * 256 + 256
    assert parameters(space.build(space.largest, "meta")) == 256 * 256 + 8 * (projections + 2 * 256) + 256


def test_a_file_reads_as_a_preset_does(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("width: [16, 32]\nmixer: softmax\n")
    space = load_space_file(file)
    assert space.width == (16, 32)
    assert space.mixer == ("softmax",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("widht: 3", "unknown field 'widht'; valid: width"),
        ("width: wide", "field 'width.0': input should be a valid integer"),
        ("- width", "must be a mapping of field: options"),
        ("width: [", "is not valid YAML: did not find expected node content (line 2"),
    ],
)
def test_errors_name_the_file_and_the_field(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_space_file(file)
    assert str(caught.value).startswith(str(file))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown preset 'vit-digit'; valid: vit-digits"):
        load_preset("vit-digit")
    with pytest.raises(UserError, match="cannot be read"):
        load_space_file(tmp_path / "none.yaml")
