"""Layers that are alike are tried together, and what is learnt is what trying them one by one shows."""

from functools import partial
from itertools import pairwise
from unittest import mock

import pytest
from check_spaces import CASES
from example_spaces import GPT_LAYOUTS, gpt, preset_function, rnn, vit
from torch import nn

import nas
from nas.search_space import space as space_module
from nas.search_space.copies import facts_of
from nas.search_space.discovery import discover
from nas.search_space.space import RANDOM_PROBES

KINDS = ["a", "b", "c", "d", "e"]


def learnt(function, **settings):
    """All that a space learns by running its function, with the order of everything, and the number of runs."""
    counted = mock.Mock(side_effect=nas.SearchSpace._probe, autospec=True)
    with mock.patch.object(nas.SearchSpace, "_probe", lambda *given: counted(*given)):
        space = nas.SearchSpace(function, **settings)
    probes = [[list(facts.items()) for facts in facts_of(probe)] for probe in space.probes]
    found = list(space.genes.items()), dict(space.conditions), space._sizes, space._ruled, probes
    return found, counted.call_count


def compared(function, **settings):
    """(runs, runs one by one), after a comparison of what is learnt."""
    found, runs = learnt(function, **settings)
    with mock.patch.object(space_module, "discover", partial(discover, copy=False)):
        one_by_one, all_runs = learnt(function, **settings)
    for own, other in zip(found, one_by_one, strict=True):
        assert own == other
    return runs, all_runs


class Net(nn.Module):
    """Linear layers by name."""

    def __init__(self, parts):
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.ModuleDict(layer) for name, layer in parts.items()})


def linear(kind, width=4):
    return {f"{kind}{n}": nn.Linear(width, KINDS.index(kind) + n + 1) for n in range(2)}


def kinds_of(trial, count=8, options=KINDS):
    return [trial.suggest_categorical(f"layers.{i}.kind", options) for i in range(count)]


def net(layers):
    return Net({str(i): layer for i, layer in enumerate(layers)})


def plain(trial):
    return net(linear(kind) for kind in kinds_of(trial))


def with_own_genes(trial):
    def layer(i):
        kind = trial.suggest_categorical(f"layers.{i}.kind", KINDS)
        width = trial.suggest_int(f"layers.{i}.window", 2, 6, step=2) if kind == "c" else 4
        extra = trial.suggest_categorical(f"layers.{i}.extra", [True, False])
        return linear(kind, width) | (linear("a", 7) if extra and kind != "a" else {})

    return net(map(layer, range(6)))


def left_out(trial):
    kept = [i for i in range(6) if i < 2 or trial.suggest_categorical(f"layers.{i}.keep", [True, False])]
    return Net({str(i): linear(trial.suggest_categorical(f"layers.{i}.kind", KINDS)) for i in kept})


def numbered_from_one(trial):
    layers = (linear(trial.suggest_categorical(f"kind_{i + 1}", KINDS)) for i in range(5))
    return nn.Sequential(nn.Linear(2, 2), *(nn.ModuleDict(layer) for layer in layers))


def staged(trial):
    def layer(stage, i):
        name = f"stages.{stage}.layers.{i}"
        return linear(trial.suggest_categorical(f"{name}.kind", KINDS), 4 * trial.suggest_int(f"{name}.ratio", 1, 3))

    return nn.Sequential(*(net(layer(stage, i) for i in range(4)) for stage in range(4)))


def an_option_of_one_layer(trial):
    kinds = [trial.suggest_categorical(f"layers.{i}.kind", KINDS if i == 3 else KINDS[:4]) for i in range(8)]
    return net(linear(kind) for kind in kinds)


def a_special_layer(trial):
    return net(linear(kind, 9 if (i, kind) == (6, "d") else 4) for i, kind in enumerate(kinds_of(trial)))


def a_layer_with_a_gene_of_its_own(trial):
    kinds = kinds_of(trial)
    more = trial.suggest_int("more", 1, 3) if kinds[6] == "d" else 4
    return net(linear(kind, more if i == 6 else 4) for i, kind in enumerate(kinds))


def a_width_for_each_layer(trial):
    widths = [trial.suggest_int(f"layers.{i}.width", 4, 12, step=4) for i in range(6)]
    return net({"linear": nn.Linear(a, b)} for a, b in zip([4, *widths], [*widths, 4], strict=True))


def a_pyramid(trial):
    return net(linear(kind, 4 + 2 * i) for i, kind in enumerate(kinds_of(trial)))


def an_adapter_between_kinds(trial):
    kinds = kinds_of(trial)
    return net(linear(k) | (linear("e", 5) if k != before else {}) for before, k in pairwise(["a", *kinds]))


def what_two_neighbours_make(trial):
    kinds = kinds_of(trial)
    return net(linear(k) | (linear("e", 5) if k == before == "c" else {}) for before, k in pairwise(["a", *kinds]))


def what_many_make(trial):
    kinds = kinds_of(trial)
    return net(linear(k) | (linear("a", 3) if k == "b" and kinds.count("b") > 3 else {}) for k in kinds)


def a_gene_of_all(trial):
    kinds = kinds_of(trial)
    shared = trial.suggest_int("shared", 1, 3) if "b" in kinds else 4
    return net(linear(k, shared if k == "b" else 4) for k in kinds)


def a_gene_of_all_at_the_top(trial):
    kinds = kinds_of(trial)
    shared = trial.suggest_int("shared", 1, 3) if "a" in kinds else 4
    return net(linear(k, shared if k == "a" else 4) for k in kinds)


def a_condition_across_layers(trial):
    kinds = kinds_of(trial)
    both = kinds[2] == kinds[5] == "b" and trial.suggest_int("layers.5.both", 1, 2)
    return net(linear(k, 4 + both * (i == 5)) for i, k in enumerate(kinds))


def options_of_another_layer(trial):
    kinds = kinds_of(trial, 4)
    return net(
        linear(k, trial.suggest_int(f"layers.{i}.w", 1, 2 + KINDS.index(kinds[i - 1]))) for i, k in enumerate(kinds)
    )


ALIKE = [plain, with_own_genes, left_out, numbered_from_one, staged]
ODD = [
    an_option_of_one_layer,
    a_special_layer,
    a_layer_with_a_gene_of_its_own,
    a_width_for_each_layer,
    a_pyramid,
    an_adapter_between_kinds,
    what_two_neighbours_make,
    what_many_make,
    a_gene_of_all,
    a_gene_of_all_at_the_top,
    a_condition_across_layers,
    options_of_another_layer,
]


@pytest.mark.parametrize("function", ALIKE, ids=lambda f: f.__name__)
def test_layers_that_are_alike_are_tried_together(function):
    runs, all_runs = compared(function)
    assert runs - RANDOM_PROBES < 0.7 * (all_runs - RANDOM_PROBES)


@pytest.mark.parametrize("function", ODD, ids=lambda f: f.__name__)
def test_layers_that_are_not_alike(function):
    compared(function)


@pytest.mark.parametrize(("function", "settings"), [(vit, {}), (gpt, {"layouts": GPT_LAYOUTS}), (rnn, {})])
def test_example_spaces(function, settings):
    compared(function, **settings)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_spaces_of_the_check(case):
    compared(case.function, layouts=case.layouts)


QUICK = {"vit-digits", "matformer"}


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in nas.preset_names()]
)
def test_presets(name):
    runs, all_runs = compared(preset_function(name))
    assert runs <= all_runs


def test_quantized_spaces():
    space = nas.SearchSpace(plain).quantized()
    runs, all_runs = compared(space.function)
    assert runs - RANDOM_PROBES < 0.7 * (all_runs - RANDOM_PROBES)
