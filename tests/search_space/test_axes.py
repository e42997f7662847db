"""Shared axes are derived from shapes; what shapes cannot show is checked by permutation."""

import pytest
import torch
from example_spaces import GPT_LAYOUTS, gpt, vit
from torch import nn

from nas.errors import UserError
from nas.search_space.axes import axes_of
from nas.search_space.layout import Linear, layouts_of
from nas.search_space.space import SearchSpace


def test_axes_of_the_vit():
    axes = {a.gene: a for a in axes_of(SearchSpace(vit))}
    assert set(axes) == {"width"} | {f"layers.{i}.{g}" for i in range(6) for g in ("heads", "ffn")}
    heads = axes["layers.0.heads"]
    assert (heads.size, heads.small, heads.unit) == (48, 16, 16)
    ffn = axes["layers.2.ffn"]
    assert {(m.parameter, m.dim) for m in ffn.members} == {
        ("blocks.2.up.weight", 0),
        ("blocks.2.up.bias", 0),
        ("blocks.2.down.weight", 1),
    }


def test_an_undeclared_fused_projection_is_found():
    (finding,) = SearchSpace(gpt).check(torch.randint(50, (2, 8)))
    assert finding.gene == "n_head"
    assert finding.layouts is not None
    assert SearchSpace(gpt, layouts=finding.layouts).check(torch.randint(50, (2, 8))) == []


def test_without_an_example_the_shapes_are_looked_at():
    findings = SearchSpace(gpt).check()
    assert {f.gene for f in findings} == {"n_head"}
    assert all("no tensor consumes" in f.message and "c_attn" in f.message for f in findings)
    assert SearchSpace(gpt, layouts=GPT_LAYOUTS).check() == []


class HeadsOfTheWidth(nn.Module):
    """Head boundaries move when the width shrinks, so rows of the projections are no axis of their own."""

    def __init__(self, width):
        super().__init__()
        self.inp, self.v, self.out = nn.Linear(3, width), nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, x):
        x = self.inp(x)
        heads = self.v(x).unflatten(-1, (2, -1)).softmax(-1)
        return self.out(heads.flatten(-2))


def test_heads_that_move_with_the_width_are_found():
    space = SearchSpace(lambda trial: HeadsOfTheWidth(trial.suggest_categorical("width", [8, 16])))
    (finding,) = space.check(torch.zeros(4, 3))
    assert "not a sub-network" in finding.message


def test_linear_remembers_its_axes():
    layer = Linear(8, (2, 3, 4))
    assert layer.weight.shape == (24, 8)
    assert layouts_of(nn.ModuleDict({"q": layer}), {}) == {"q.weight": ((2, 3, 4), (8,)), "q.bias": ((2, 3, 4),)}


def test_a_rule_that_does_not_divide():
    with pytest.raises(UserError, match=r"does not divide dimension 0 of weight \(size 8\)"):
        layouts_of(nn.Linear(4, 8), {"weight": (3, -1)})
