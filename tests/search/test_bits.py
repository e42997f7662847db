"""What the reports say of a quantization policy: the picture, the line of facts, the sentences, the tables."""

from xml.etree import ElementTree

import pytest

from nas.search.reporting import bits
from nas.search.reporting.drawing import draw
from nas.search.reporting.findings import MOST_OF_POLICY, importance_rows, strips
from nas.search.reporting.marginals import marginals
from nas.search.reporting.why import differences
from nas.search_space.architecture import Architecture
from nas.search_space.gene_space import GeneSpace
from nas.search_space.quantization import GRANULARITIES, Granularity, group_of, policy_genes


def named(svg: str) -> set[str]:
    return {e.attrib["data-gene"] for e in ElementTree.fromstring(svg).iter() if "data-gene" in e.attrib}


def words_of(net: Architecture) -> list[str]:
    policy = bits.policy(net, {})
    assert policy is not None
    return [words for words, _ in policy.legend]


SCHEMES = ["w16a16", "w8a8", "w4a16g32"]
PARTS = ["stem", *(f"layers.{i}.{p}" for i in range(3) for p in ("mixer.q", "mixer.k", "ffn.up")), "readout"]


def space_of(granularity: Granularity) -> GeneSpace:
    return GeneSpace({"width": [8, 16], **{f"quantize.{group_of(part, granularity)}": SCHEMES for part in PARTS}})


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_part_has_a_cell_and_the_drawing_is_of_the_other_genes(granularity: Granularity) -> None:
    space = space_of(granularity)
    whole = space.sample(0)
    smaller = Architecture({name: value for name, value in whole.items() if "layers.2" not in name})
    for net in (whole, smaller):
        picture = bits.draw_bits(net, space.genes)
        assert named(picture) == set(policy_genes(net))
        assert picture.count('class="ghost"') == len(whole) - len(net)
        assert named(draw(net, space.genes)) == {"width"}


def test_a_cell_says_the_bits_and_rows_go_up_from_the_input() -> None:
    net = Architecture(
        {"quantize.stem": "w16a16", "quantize.layers.2.ffn": "w4a16g32", "quantize.layers.10.ffn": "w8a8"}
    )
    words = [e.text for e in ElementTree.fromstring(bits.draw_bits(net, {})).iter() if e.tag.endswith("}text")]
    assert words == ["ffn", "layers.10", "w8", "a8", "layers.2", "w4g32", "a16", "stem", "w16", "a16"]
    policy = bits.policy(net, {})
    assert policy is not None
    assert policy.schemes["w4a16g32"] == ["layers.2.ffn"]
    assert "g32: 32 weights share a scale" in dict(policy.legend)


def test_letters_and_formats_are_said_and_explained() -> None:
    net = Architecture(
        {
            "quantize.layers.0.a": "w8a8ts",
            "quantize.layers.0.b": "w4a16g64z",
            "quantize.c": "fp8",
            "quantize.d": "bf16",
            "quantize.e": "w8a8d",
        }
    )
    words = {e.text for e in ElementTree.fromstring(bits.draw_bits(net, {})).iter() if e.tag.endswith("}text")}
    assert words >= {"w8t", "a8s", "w4g64z", "a16", "fp8", "bf16", "a8d"}
    explained = list(bits.DETAILS)
    assert [m for m in explained if m not in words_of(net)] == []
    assert [m for m in explained if m in words_of(Architecture({"quantize.a": "w8a8"}))] == []


def test_the_policy_is_one_line_of_facts() -> None:
    net = {"width": 3, "quantize.a": "w8a8", "quantize.b": "w16a16", "quantize.c": "w8a8", "quantize.d": "w4a16g32"}
    assert bits.in_words(net) == "w8a8 in 2 of 4 parts, float in 1, w4a16g32 in 1"
    assert bits.in_words({"width": 3}) == ""
    assert bits.policy(Architecture({"width": 3}), {}) is None


def test_the_front_folds_the_genes_of_a_policy() -> None:
    space = space_of("block")
    found = marginals(space.genes, [space.sample(seed) for seed in range(6)])
    own, folded = strips(found)
    assert [row.gene for row in own.rows] == ["width"]
    assert [row.gene for row in folded.rows] == policy_genes(m.gene.name for m in found)
    assert folded.title == f"Bits, part by part ({len(folded.rows)} genes)"


def test_genes_of_a_policy_do_not_crowd_out_the_others() -> None:
    shares = {**{f"quantize.{i}": 0.05 for i in range(9)}, "width": 0.3, "depth": 0.01}
    rows = importance_rows({"accuracy": shares})
    assert rows[0] == ("quantize.* together", [("45.0%", pytest.approx(0.45))])
    assert sum("quantize." in name for name, _ in rows) == 1 + MOST_OF_POLICY
    assert rows[-1][0] == "depth"


def test_differing_bits_are_counted_and_one_is_named() -> None:
    own = Architecture({"w": 1, **{f"quantize.{i}": "w8a8" for i in range(5)}})
    other = Architecture({"w": 2, **{f"quantize.{i}": "w4a8" for i in range(4)}})
    assert differences(own, other) == "has w=2 (here 1) and other bits in 4 parts"
    assert differences(own, Architecture({**own, "quantize.3": "w4a8"})) == "has quantize.3=w4a8 (here w8a8)"
    many = Architecture({**{f"g{i}": i for i in range(9)}, **other})
    assert differences(own, many).endswith("g0=0 (here absent), g1=1 (here absent), 7 more and other bits in 4 parts")
