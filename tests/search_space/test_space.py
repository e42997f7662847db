"""SearchSpace and GeneSpace: discovery, drawing, counting, encoding, refusal."""

import itertools

import numpy as np
import optuna
import pytest
import torch
from example_spaces import GPT_LAYOUTS, gpt, rnn, vit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.errors import UserError
from nas.search_space.architecture import Architecture
from nas.search_space.encoding import columns, encode
from nas.search_space.gene_space import GeneSpace
from nas.search_space.space import SearchSpace

VIT = SearchSpace(vit)


def heads_and_groups(trial):
    """Options that depend on other genes: no fixed rule fits, so the function is replayed."""
    heads = trial.suggest_categorical("heads", [2, 4])
    kv_heads = trial.suggest_int("kv_heads", 1, heads)
    return nn.Sequential(nn.Linear(4, heads * 4), nn.Linear(heads * 4, kv_heads))


def either(trial):
    """A gene that exists under one choice or another: an OR, which conditions cannot say."""
    a = trial.suggest_categorical("a", ["x", "y"])
    b = trial.suggest_categorical("b", ["x", "y"])
    width = trial.suggest_int("width", 1, 3) if a == "x" or b == "x" else 1
    return nn.Linear(4, width)


def chain(trial):
    """Conditions three deep."""
    layers = []
    for i in range(trial.suggest_int("depth", 0, 2)):
        if trial.suggest_categorical(f"{i}.kind", ["linear", "none"]) == "linear" and trial.suggest_categorical(
            f"{i}.gated", [True, False]
        ):
            trial.suggest_int(f"{i}.gate", 1, 3)
        layers.append(nn.Linear(4, 4))
    return nn.Sequential(*layers)


SPACES = {
    "vit": VIT,
    "gpt": SearchSpace(gpt, layouts=GPT_LAYOUTS),
    "rnn": SearchSpace(rnn),
    "replayed": SearchSpace(heads_and_groups),
    "either": SearchSpace(either),
    "chain": SearchSpace(chain),
    "genes": GeneSpace({"lr": [0.1, 0.01], "act": ["gelu", "relu"], "n": [1, 2, 3]}),
}


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
@pytest.mark.parametrize("name", SPACES)
def test_whatever_is_drawn_is_a_member(name, seed):
    space, rng = SPACES[name], np.random.default_rng(seed)
    a, b = space.sample(rng), space.sample(rng)
    mutant, child = space.mutate(a, rng), space.crossover(a, b, rng)
    assert all(m in space for m in (a, mutant, child))
    assert mutant != a
    assert Architecture.from_json(a.to_json()) == a
    assert Architecture.from_json(a.to_json()).id == a.id


def test_neighbours_are_other_members(space):
    neighbours = space.neighbours(space.largest)
    assert neighbours
    assert all(n in space and n != space.largest for n in neighbours)
    assert len(set(neighbours)) == len(neighbours)


def test_extremes_are_members_and_bound_the_parameters():
    count = {a.id: sum(p.numel() for p in VIT.skeleton(a).parameters()) for a in map(VIT.sample, range(20))}
    smallest, largest = (sum(p.numel() for p in VIT.skeleton(a).parameters()) for a in (VIT.smallest, VIT.largest))
    assert all(smallest <= n <= largest for n in count.values())


def test_size_of_the_vit_is_exact():
    assert VIT.size_is_exact
    assert VIT.size == 3 * sum((3 * 4 * 2) ** depth for depth in range(3, 7))


def test_size_equals_enumeration(space):
    if space.size > 5000:
        pytest.skip("too large to enumerate")
    listed = list(space.enumerate())
    assert len(listed) == len(set(listed))
    if space.size_is_exact:
        assert len(listed) == space.size
    else:
        assert len(listed) <= space.size


def test_the_count_of_chained_conditions():
    # a layer: none, or linear and ungated, or linear and one of three gates
    assert SPACES["chain"].size == sum(5**depth for depth in range(3))


@pytest.mark.parametrize(("name", "size"), [("replayed", 2 + 4), ("either", 3 * 3 + 1)])
def test_spaces_that_no_rule_fits_are_replayed(name, size):
    assert len(list(SPACES[name].enumerate())) == size


def test_genes_of_absent_layers_are_not_kept():
    shallow = VIT.architecture({**VIT.largest, "depth": 3})
    assert not any(name.startswith("layers.3") for name in shallow)
    assert shallow == VIT.architecture({**VIT.smallest, **shallow})


def test_seeds_draw_the_same():
    assert [VIT.sample(s) for s in range(5)] == [VIT.sample(s) for s in range(5)]
    assert len({VIT.sample(s) for s in range(20)}) == 20


def test_sampling_is_uniform_over_options():
    draws = [VIT.sample(np.random.default_rng(i))["width"] for i in range(600)]
    assert all(150 < draws.count(w) < 250 for w in (64, 80, 96))


def test_a_real_optuna_trial_builds_the_net():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    net = vit(trial)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert set(VIT.architecture(trial.params)) == set(trial.params)


def test_encoding_masks_absent_genes_and_tells_nets_apart():
    names = columns(VIT)
    drawn = [VIT.sample(i) for i in range(50)]
    matrix = encode(VIT, drawn)
    assert matrix.shape == (50, len(names))
    assert len({row.tobytes() for row in matrix}) == len(set(drawn))
    shallow = VIT.architecture({**VIT.largest, "depth": 3})
    row = dict(zip(names, encode(VIT, [shallow])[0], strict=True))
    assert all(row[n] == 0 for n in names if n.startswith("layers.5"))
    assert row["layers.0.mixer=softmax"] == 1
    assert row["width"] == 1


def test_requirements_are_respected_and_violations_named():
    space = SearchSpace(gpt, layouts=GPT_LAYOUTS)
    space.require(lambda a: a["hidden"] >= 2 * a["n_embd"], "hidden must be at least twice n_embd")
    for seed in range(30):
        a = space.sample(seed)
        assert a["hidden"] >= 2 * a["n_embd"]
        assert space.mutate(a, seed)["hidden"] >= 64
    assert space.smallest == {"n_embd": 32, "n_head": 1, "n_layer": 1, "hidden": 64}
    assert space.size == 3 * 3 * 3
    with pytest.raises(UserError, match="hidden must be at least twice n_embd"):
        space.architecture({"n_embd": 48, "n_head": 1, "n_layer": 1, "hidden": 32})


def test_a_requirement_that_nothing_meets_is_said_at_once():
    space = GeneSpace({"a": [1, 2]})
    with pytest.raises(UserError, match="a must be 3"):
        space.require(lambda a: a["a"] == 3, "a must be 3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widht": 64}, "unknown gene 'widht'; valid: width"),
        ({"width": 65}, "gene 'width' has no option 65; valid: 64, 80, 96"),
    ],
)
def test_wrong_choices_are_named(change, message):
    with pytest.raises(UserError, match=message):
        VIT.architecture({**VIT.largest, **change})


def test_a_missing_gene_is_named():
    with pytest.raises(UserError, match="'width' is missing"):
        VIT.architecture({"depth": 3})


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": [1]}'])
def test_text_that_is_no_architecture(text):
    with pytest.raises(UserError, match="not an architecture"):
        Architecture.from_json(text)


def test_a_function_that_returns_no_module():
    with pytest.raises(UserError, match="must return a torch"):
        SearchSpace(lambda trial: trial.suggest_int("a", 1, 2))


def test_discovery_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    SearchSpace(gpt, layouts=GPT_LAYOUTS)
    assert torch.equal(before, torch.random.get_rng_state())


def test_enumeration_is_the_product_where_nothing_is_conditional():
    listed = {tuple(a.values()) for a in SPACES["genes"].enumerate()}
    assert listed == set(itertools.product([0.01, 0.1], ["gelu", "relu"], [1, 2, 3]))
