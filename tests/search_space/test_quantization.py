"""Policies as genes: of any space, only of parts that exist, and nothing else of a net changes."""

import numpy as np
import pytest
import torch
from example_spaces import preset_function, vit
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import nas
from nas.search_space.presets import preset_names
from nas.search_space.quantization import (
    GENE,
    Quantization,
    Scheme,
    group_of,
    policy_of,
    quantizable,
    schemes_of,
)


def test_texts_of_schemes_are_read_and_written():
    assert Scheme.parse("w8a8") == Scheme(8, 8)
    assert Scheme.parse(" W4A16 ") == Scheme(4, 16, 32)
    assert Scheme.parse("w4a16g64") == Scheme(4, 16, 64)
    for text in ("w8a8", "w4a8", "w4a16g32", "w16a16", "w6a6"):
        assert Scheme.parse(text).text == text
    texts = [scheme.text for scheme in schemes_of([8, 4, 16], [16, 8])]
    assert texts == ["w16a16", "w8a16", "w8a8", "w4a16g32", "w4a8"]
    assert Quantization.parse("auto").schemes == schemes_of([4, 8, 16], [8, 16])
    assert Quantization.parse("w8a8, w4a16").texts == ["w8a8", "w4a16g32"]


@pytest.mark.parametrize(
    "text",
    ["", "w8", "w9a8", "w8a1", "w16a8", "w8a8g32", "w4a16g4", "int8", "w8a8st", "w8a8tt", "bf16t", "w08a8", "fp8z"],
)
def test_schemes_that_cannot_be_are_one_sentence(text):
    with pytest.raises(nas.UserError, match=r"^quantization '.*' is not understood|a group must have"):
        Scheme.parse(text)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("w4a16g64t", "one for each group .g64.; leave one out"),
        ("w16a16t", "t and z need weights of 8 bits or fewer"),
        ("w16a16z", "t and z need weights of 8 bits or fewer"),
        ("w8a16s", "s needs activations of 8 bits or fewer"),
    ],
)
def test_letters_that_say_nothing_are_refused(text, right):
    with pytest.raises(nas.UserError, match=right):
        Scheme.parse(text)


def test_letters_and_formats_are_read():
    assert Scheme.parse("w8a8tzs") == Scheme(8, 8, whole=True, zeros=True, signed=True)
    assert Scheme.parse("w4a16z") == Scheme.parse("W4A16G32Z") == Scheme(4, 16, 32, zeros=True)
    assert Scheme.parse("w4a16t") == Scheme(4, 16, whole=True)
    assert Scheme.parse("fp16") == Scheme.parse("w16a16") == Scheme()
    assert [Scheme.parse(text).text for text in ("fp16", "BF16", "fp8")] == ["w16a16", "bf16", "fp8"]
    assert "fp8" not in Quantization.parse("auto").texts
    assert Quantization.parse("auto", lambda scheme: scheme.activations < 16).texts == ["w8a8", "w4a8", "fp8"]


BITS, LETTERS = st.integers(2, 8), st.tuples(st.booleans(), st.booleans())
INTEGERS = st.builds(lambda w, a, letters, s: Scheme(w, a, None, *letters, s), BITS, BITS, LETTERS, st.booleans())
GROUPED = st.builds(lambda w, g, z: Scheme(w, 16, g, zeros=z), BITS, st.integers(8, 256), st.booleans())
ROWS = st.builds(lambda w, letters: Scheme(w, 16, None, *letters), BITS, LETTERS)
FLOATS = st.sampled_from([Scheme(), Scheme(format="bf16"), Scheme(8, 8, format="fp8")])


@given(st.one_of(INTEGERS, GROUPED, ROWS.filter(lambda s: s.weights > 4 or s.whole), FLOATS))
def test_every_scheme_is_read_as_it_is_written(scheme):
    assert Scheme.parse(scheme.text) == Scheme.parse(f" {scheme.text.upper()} ") == scheme


LARGE = {"matlm", "vit-mobile", "vit-image", "vit-fashion", "matformer"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in preset_names()])
def test_every_preset_has_a_quantized_space_of_the_same_nets(name):
    space = nas.SearchSpace(preset_function(name))
    found = space.quantized(granularity="layer")
    policy = {gene for gene in found.genes if gene.startswith(GENE)}
    assert found.genes.keys() - policy == space.genes.keys()
    rng = np.random.default_rng(0)
    for net in (found.largest, found.smallest, *(found.sample(rng) for _ in range(3))):
        plain = space.architecture({g: v for g, v in net.items() if g not in policy})
        module, other = found.skeleton(net), space.skeleton(plain)
        assert {n: p.shape for n, p in module.named_parameters()} == {n: p.shape for n, p in other.named_parameters()}
        schemes = policy_of(module)
        assert schemes.keys() == quantizable(module).keys()
        assert {GENE + group_of(name, "layer") for name in schemes} == {g for g in net if g in policy}
        assert all(scheme.text == net[GENE + group_of(name, "layer")] for name, scheme in schemes.items())
        assert not policy_of(other)


def test_a_custom_space_keeps_what_it_is_told_to_and_its_requirements():
    space = nas.SearchSpace(vit)
    space.require(lambda a: a["width"] > min(space.genes["width"].options), "not the narrowest")
    found = space.quantized(schemes=["w8a8", "w4a16"], granularity="linear", keep=["head*", "*.q"])
    net = found.sample(0)
    names = quantizable(found.skeleton(net)).keys()
    kept = {name for name in names if name.startswith("head") or name.endswith(".q")}
    assert kept
    assert policy_of(found.skeleton(net)).keys() == names - kept
    assert found.genes[GENE + next(iter(names - kept))].options == ("w8a8", "w4a16g32")
    assert [r.message for r in found._requirements] == ["not the narrowest"]


def test_schemes_may_be_written_in_other_ways_than_the_options():
    plain = nas.SearchSpace(lambda trial: nn.Linear(trial.suggest_int("n", 2, 4), 3))
    space = plain.quantized(schemes=["w16a16", "w4a16g32"])
    net = space.smallest
    written = {n: {"w16a16": "fp16", "w4a16g32": "W4a16"}.get(v, v) for n, v in net.items()}
    assert written != net
    assert space.architecture(written) == net
    for wrong in ("w8a8", "int4"):
        with pytest.raises(nas.UserError, match=f"has no option '{wrong}'; valid: w16a16, w4a16g32"):
            space.architecture({n: wrong if n.startswith(GENE) else v for n, v in net.items()})


def test_a_supernet_serves_the_quantized_space():
    space = nas.SearchSpace(vit)
    found = space.quantized()
    plain = nas.Supernet(space)
    served = plain.serving(found)
    net = found.sample(3)
    same = space.architecture({g: v for g, v in net.items() if g in space.genes})
    for a, b in zip(served.extract(net).parameters(), plain.extract(same).parameters(), strict=True):
        assert torch.equal(a, b)
    assert served.store.get_parameter("head.weight") is plain.store.get_parameter("head.weight")
    with pytest.raises(nas.UserError, match="parameters that this supernet has not"):
        plain.serving(nas.SearchSpace(lambda trial: nn.Linear(2, trial.suggest_int("n", 2, 4))))


@pytest.mark.parametrize(
    ("name", "layer", "block"),
    [
        ("layers.3.mixer.q", "layers.3", "layers.3.mixer"),
        ("stem.proj", "stem", "stem"),
        ("head", "head", "head"),
        ("blocks.0.1.fc", "blocks.0", "blocks.0.1"),
        ("", "net", "net"),
    ],
)
def test_groups_are_layers_blocks_and_parts(name, layer, block):
    assert group_of(name, "layer") == layer
    assert group_of(name, "block") == block
    assert group_of(name, "linear") == (name or "net")


def test_what_cannot_be_quantized_is_said():
    space = nas.SearchSpace(vit)
    with pytest.raises(nas.UserError, match="keep='tail' names no linear layer"):
        space.quantized(keep=["tail"])
    with pytest.raises(nas.UserError, match="granularity 'net' is unknown; valid: layer, block, linear"):
        space.quantized(granularity="net")
    with pytest.raises(nas.UserError, match="at least one scheme"):
        Quantization(())
    with pytest.raises(nas.UserError, match="no linear layer"):
        nas.SearchSpace(lambda trial: nn.LayerNorm(trial.suggest_int("n", 2, 4))).quantized()


def test_the_largest_net_has_the_most_bits_and_the_smallest_the_fewest():
    for schemes, most, fewest in (
        (["w3a3", "w8a8", "w2a16"], "w8a8", "w2a16g32"),
        (["w4a8", "w2a4", "w8a8"], "w8a8", "w2a4"),
        (["w4a8", "fp16", "fp8"], "w16a16", "w4a8"),
    ):
        space = nas.SearchSpace(lambda _: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))).quantized(schemes=schemes)
        assert set(space.largest.values()) == {most}
        assert set(space.smallest.values()) == {fewest}
