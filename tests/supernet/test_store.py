"""Weight sharing: a subnet is the leading corner of every tensor, inside the supernet and extracted."""

from dataclasses import replace

import pytest
import torch
from example_spaces import GPT_LAYOUTS, gpt, preset_function, rnn, vit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.errors import UserError
from nas.search_space.axes import axes_of
from nas.search_space.corner import corner, cut, fits
from nas.search_space.layout import Linear
from nas.search_space.presets import load_preset, preset_names
from nas.search_space.space import SearchSpace
from nas.supernet.store import Supernet


def preset(name, *, whole=False):
    """Space and example. whole: with all its layers, which are alike; else one that always stays and one more."""
    small = {"vit-mobile": (3, 32, 32), "vit-image": (3, 32, 32)}.get(name)
    function = load_preset(name).bind(input_shape=small, classes=10) if small else preset_function(name)
    if not whole:
        least = None if function.space.least_layers is None else 1
        function = replace(function, space=function.space.model_copy(update={"layers": 2, "least_layers": least}))
    shape = function.input_shape
    return SearchSpace(function), torch.randint(256, (2, *shape)) if function.vocabulary else torch.randn(2, *shape)


SLOW = {"matlm", "vit-mobile", "vit-image", "vit-fashion"}
SPACES = {
    "vit": lambda: (SearchSpace(vit), torch.randn(2, 1, 8, 8)),
    "gpt": lambda: (SearchSpace(gpt, layouts=GPT_LAYOUTS), torch.randint(50, (2, 9))),
    "rnn": lambda: (SearchSpace(rnn), torch.randn(2, 5, 4)),
    **{name: lambda name=name: preset(name) for name in preset_names()},
}
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in SPACES]
MADE = {}
MASKABLE = {"kv_heads", "group", "heads", "n_head", "ffn", "ffn_ratio", "hidden"}


def made(name):
    """(supernet in evaluation mode with weights that are nowhere zero, example) of a space, made once."""
    if name not in MADE:
        space, x = SPACES[name]()
        supernet = Supernet(space).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in supernet.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
        MADE[name] = supernet, x
    return MADE[name]


def first(outputs):
    return outputs[0] if isinstance(outputs, tuple) else outputs


@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", NAMES)
def test_extracted_equals_elastic_to_the_bit(name, seed):
    supernet, x = made(name)
    architecture = supernet.space.sample(seed)
    with torch.no_grad():
        assert torch.equal(first(supernet(x, architecture)), first(supernet.extract(architecture)(x)))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=4, deadline=None)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_outside_the_corner_are_exactly_zero(name, seed):
    supernet, x = made(name)
    architecture = supernet.space.sample(seed)
    supernet.zero_grad()
    first(supernet(x, architecture)).square().sum().backward()
    corners = supernet.corners(architecture)
    for parameter_name, p in supernet.store.named_parameters():
        if parameter_name not in corners:
            assert p.grad is None
        elif p.grad is not None:
            outside = p.grad.clone()
            corners[parameter_name].write(torch.zeros(corners[parameter_name].shape), outside)
            assert not outside.any()


@pytest.mark.parametrize("name", NAMES)
def test_permuting_a_shared_axis_does_not_move_the_output(name):
    supernet, x = made(name)
    assert supernet.space.check(x) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_nests(name):
    space, x = preset(name, whole=True)
    assert space.check(x) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_subnet_is_the_big_net_with_the_other_units_zeroed(name):
    """The mask test, for axes inside a residual branch (a norm over the width would see the zeros)."""
    supernet, x = made(name)
    tested = 0
    for axis in axes_of(supernet.space):
        if axis.gene.rsplit(".", 1)[-1] not in MASKABLE:
            continue
        options = supernet.space.genes[axis.gene].options
        small = supernet.space.architecture({**axis.architecture, axis.gene: options[0]})
        big, kept = supernet.extract(axis.architecture), supernet.extract(small)
        members = {m.parameter for m in axis.members}
        inner = {n: corner_of(supernet, small, axis.architecture, n) for n in members & supernet.corners(small).keys()}
        with torch.no_grad():
            for n, p in big.named_parameters():
                if n in inner:
                    masked = torch.zeros_like(p)
                    inner[n].write(inner[n].of(p), masked)
                    p.copy_(masked)
            torch.testing.assert_close(first(big(x)), first(kept(x)), atol=1e-4, rtol=1e-4)
        tested += 1
    assert tested or name == "attention-mix"


def corner_of(supernet, small, large, name):
    """Where `small`'s parameter lies in `large`'s (not in the supernet's)."""
    layouts = [supernet.space.layouts(supernet.space.skeleton(a))[name] for a in (small, large)]
    return corner(*layouts)


def test_the_corner_of_a_factored_dimension_is_taken_axis_by_axis():
    full = torch.arange(2 * 3 * 4.0)
    rows = corner(((1, 2, 4),), ((2, 3, 4),))
    ends = corner(((2, 1, 2),), ((2, 3, 4),))
    assert [c.tolist() for c in cut([full, full], [rows, ends])] == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 12, 13]]
    assert [view.shape for view in ends.views(full)] == [(2, 1, 2)]
    assert not fits(((3, 1),), ((2, 4),))


def test_store_holds_the_union_at_the_largest_shape():
    supernet, _ = made("vit")
    largest = dict(supernet.extract(supernet.space.largest).named_parameters())
    state = supernet.store.state_dict()
    assert state.keys() == largest.keys()
    assert all(state[n].shape == p.shape for n, p in largest.items())


def refused(function, *parts):
    with pytest.raises(UserError) as error:
        Supernet(SearchSpace(function))
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_a_parameter_that_changes_rank_is_refused():
    def function(trial):
        deep = trial.suggest_categorical("conv", [True, False])
        return nn.ModuleDict({"f": nn.Conv1d(4, 4, 1) if deep else nn.Linear(4, 4)})

    refused(function, "f.weight", "(4, 4, 1)", "(4, 4)")


def test_a_shape_that_is_no_corner_is_refused():
    def function(trial):
        heads = trial.suggest_categorical("heads", [1, 2, 4])
        return nn.Linear(64 // heads, heads)

    refused(function, "weight", "(4, 16)", "(1, 64)")


def test_axes_that_do_not_nest_inside_one_size_are_refused():
    def function(trial):
        kv_heads = trial.suggest_categorical("kv_heads", [1, 2, 4])
        return Linear(8, (kv_heads, 4 // kv_heads, 2))

    refused(function, "weight", "(4*1*2, 8)", "(1*4*2, 8)")


def test_any_subset_of_keyed_layers_keeps_its_weights():
    def function(trial):
        kept = [str(i) for i in range(3) if trial.suggest_categorical(f"{i}.keep", [True, False])]
        return nn.Sequential(nn.ModuleDict({k: nn.Linear(2, 2) for k in kept}))

    supernet = Supernet(SearchSpace(function))
    only_last = supernet.extract({"0.keep": False, "1.keep": False, "2.keep": True})
    assert list(dict(only_last.named_parameters())) == ["0.2.weight", "0.2.bias"]
    assert torch.equal(only_last[0]["2"].weight, supernet.store.get_parameter("0.2.weight"))


def test_ties_keep_one_tensor():
    supernet, _ = made("gpt")
    net = supernet.extract(supernet.space.smallest)
    assert net.lm_head.weight is net.transformer.wte.weight


def test_constants_are_real_and_running_statistics_are_copied():
    supernet, _ = made("gpt")
    net = supernet.extract(supernet.space.smallest)
    assert torch.equal(net.transformer.h[0].attn.bias[0, 0], torch.tril(torch.ones(16, 16)))


def test_an_unknown_choice_is_not_corrected_silently():
    supernet, x = made("vit")
    with pytest.raises(UserError, match="no option 65"):
        supernet(x, {**supernet.space.largest, "width": 65})


def test_the_seed_decides_the_weights():
    space = made("rnn")[0].space
    a, b, c = (Supernet(space, seed=s).store.state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert not all(torch.equal(a[n], c[n]) for n in a)


class Recursive(nn.Module):
    """One module under two names, run several times."""

    def __init__(self, width, times):
        super().__init__()
        self.inp, self.block, self.out = nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 2)
        self.again, self.times = self.block, times

    def forward(self, x):
        x = self.inp(x)
        for i in range(self.times):
            x = x + (self.again if i % 2 else self.block)(x).tanh()
        return self.out(x)


def test_a_module_used_twice_keeps_one_tensor_and_the_skeleton_stays_empty():
    space = SearchSpace(lambda t: Recursive(t.suggest_categorical("width", [4, 8]), t.suggest_int("times", 1, 3)))
    supernet = Supernet(space)
    x = torch.randn(3, 4)
    for architecture in space.enumerate():
        assert torch.equal(supernet(x, architecture), supernet.extract(architecture)(x))
        assert all(p.is_meta for p in space.skeleton(architecture).parameters())
    assert "again.weight" not in supernet.store.state_dict()
