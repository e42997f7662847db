"""Names as paths: layers are counted and compared by numbers, not by text."""

import pytest

from nas.search_space.paths import group_of, kind_of, numbers_in, path_of, text_of
from nas.search_space.trial import make_gene


@pytest.mark.parametrize(
    ("name", "path", "group"),
    [
        ("layers.3.ffn", ("layers", 3, "ffn"), ("layers", 3)),
        ("stages.0.layers.12.attn.heads", ("stages", 0, "layers", 12, "attn", "heads"), ("stages", 0, "layers", 12)),
        ("stem.width", ("stem", "width"), ("stem",)),
        ("depth", ("depth",), ()),
        ("depths.2", ("depths", 2), ("depths",)),
        ("fc1.width", ("fc1", "width"), ("fc1",)),
    ],
)
def test_a_name_is_a_path(name, path, group):
    assert make_gene(name, [1, 2]).path == path_of(name) == path
    assert group_of(path) == group
    assert text_of(path) == name


@pytest.mark.parametrize(
    ("name", "numbers", "kind", "first"),
    [
        ("layers.3.ffn", [3], "layers.*.ffn", "layers.*.ffn"),
        ("stages.0.layers.12.fc2", [0, 12, 2], "stages.*.layers.*.fc*", "stages.*.layers.12.fc2"),
        ("n_units_l7", [7], "n_units_l*", "n_units_l*"),
        ("width", [], "width", "width"),
    ],
)
def test_names_of_alike_layers_are_of_one_kind(name, numbers, kind, first):
    assert numbers_in(name) == numbers
    assert kind_of(name) == kind
    assert kind_of(name, 1) == first


def test_the_path_of_a_gene_is_no_part_of_its_identity():
    seen, fresh = make_gene("layers.0.ffn", [1, 2]), make_gene("layers.0.ffn", [1, 2])
    assert seen.path[1] == 0
    assert seen == fresh
    assert hash(seen) == hash(fresh)
