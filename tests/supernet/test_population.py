"""A population evaluated together gives the numbers of its nets one by one, to the bit."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from example_spaces import vit
from torch import nn

import nas
from nas.search_space.operators.base import NONE, Context, fits, operators
from nas.search_space.presets import load_preset, preset_names
from nas.search_space.stages import Staged, stages_of
from nas.supernet import population
from nas.supernet.identity import stage_key
from nas.supernet.population import Path, evaluate_subnets, score_subnets, state_bytes
from nas.supernet.trie import make_trie
from nas.tasks import Split, Task


def task_of(raw, classes=10):
    """A task whose metric sees every bit of the outputs: a sum with a weight for each."""
    split = Split(raw, torch.arange(len(raw)) % classes)
    return Task(
        name="noise", labels=tuple(map(str, range(classes))), train=split, validation=split, test=split,
        space="vit-digits", source="", preprocessing="", metric=signature,
    )  # fmt: skip


def signature(outputs, targets):
    assert len(outputs) == len(targets)
    return (outputs.double() * torch.arange(1, outputs.numel() + 1).sin().view(outputs.shape)).sum().item()


def images(*shape, samples=20):
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(0))


def supernet_of(space):
    """Weights that are nowhere zero, so that every stage tells."""
    supernet, generator = nas.Supernet(space), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in supernet.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return supernet


def family(space, seed, mutants=9, strangers=2):
    """Mutants of mutants, twins and strangers: every shape of trie."""
    rng = np.random.default_rng(seed)
    found = [space.sample(rng)]
    for _ in range(mutants):
        found.append(space.mutate(found[int(rng.integers(len(found)))], rng))
    return [*found, found[-1], *(space.sample(rng) for _ in range(strangers))]


def one_by_one(supernet, task, architectures):
    return [nas.evaluate_subnet(supernet, task, a) for a in architectures]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Several batches, the last of them smaller."""
    monkeypatch.setattr("nas.supernet.evaluate.EVALUATION_BATCH", 8)
    monkeypatch.setattr(population, "EVALUATION_BATCH", 8)


LARGE = {"vit-mobile", "vit-image"}
SHAPES = {"vit-mobile": (3, 32, 32), "vit-image": (3, 16, 16), "vit-digits": (1, 8, 8)}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in preset_names()])
def test_every_preset(name):
    shape = SHAPES.get(name, (1, 28, 28))
    supernet = supernet_of(nas.SearchSpace(load_preset(name).bind(shape, 10)))
    task = task_of(images(*shape))
    nets = family(supernet.space, 0, mutants=5, strangers=1)
    assert len(make_trie(supernet, nets)) == len(nets)
    assert evaluate_subnets(supernet, task, nets) == one_by_one(supernet, task, nets)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("layout", ["grid", pytest.param("sequence", marks=pytest.mark.slow)])
def test_every_operator_of_the_registry(layout, causal):
    """All that may stand in one space do; the genes of the operators too."""
    names = {
        kind: [o.name for o in operators(kind) if o.name == NONE or fits(o, layout, causal)]
        for kind in ("mixer", "ffn", "norm", "position")
    }
    readouts = [o.name for o in operators("readout") if fits(o, layout, causal) and o.name != "dense"]
    stem = {"grid": "patch", "sequence": "tokens"}[layout]
    space = nas.TransformerSpace(
        stem=stem, patch=2, width=[16, 32], layers=5, least_layers=2, head_dim=8, group=[1, 2], ffn_ratio=[0.5, 1],
        activation=["gelu", "relu2"], readout=readouts, causal=causal, genes={"window": [2, 4], "kernel": [3, 5]},
        **names,
    )  # fmt: skip
    raw = images(1, 8, 8) if layout == "grid" else torch.randint(7, (20, 9))
    supernet = supernet_of(nas.SearchSpace(space.bind(tuple(raw.shape[1:]), 10, vocabulary=7)))
    task = task_of(raw)
    if layout == "sequence":
        task = replace(task, validation=replace(task.validation, prepare=torch.Tensor.long))
    for seed in range(3):
        nets = family(supernet.space, seed)
        together = evaluate_subnets(supernet, task, nets)
        assert together == one_by_one(supernet, replace(task, train=task.validation), nets)
        assert len(set(together)) > len(nets) // 2


class Remember(nn.Module):
    """Leaves a value for later layers in the context, adds to one in place, and changes its input in place."""

    def __init__(self, inner, option):
        super().__init__()
        self.inner, self.option = inner, option

    def forward(self, x, context):
        seen = context.memory.setdefault("sum", torch.zeros_like(x))
        seen.add_(x)
        context.memory[f"layer {context.layer}"] = x * self.option
        y = self.inner(x) + sum(context.memory.values())
        x.mul_(0.5)
        return y


class Chain(Staged):
    def __init__(self, trial):
        super().__init__()
        self.inp, self.out = nn.Linear(4, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList(
            Remember(
                nn.Linear(8, 8) if trial.suggest_categorical(f"{i}.linear", [True, False]) else nn.Tanh(),
                trial.suggest_categorical(f"{i}.option", [1.0, -1.0]),  # no parameter tells these apart
            )
            for i in range(4)
        )

    def stages(self):
        return [
            partial(start, self.inp),
            *(partial(step, i, b) for i, b in enumerate(self.blocks)),
            partial(end, self.out),
        ]


def start(inp, x):
    return inp(x), Context()


def step(layer, block, state):
    x, context = state
    context.layer = layer
    return block(x, context), context


def end(out, state):
    return out(state[0])


def chain():
    return supernet_of(nas.SearchSpace(Chain)), task_of(images(4), 3)


def test_what_layers_leave_in_the_context_belongs_to_one_net():
    supernet, task = chain()
    for seed in range(6):
        nets = family(supernet.space, seed)
        assert max(leaf.shared for leaf in make_trie(supernet, nets)) >= 3
        assert evaluate_subnets(supernet, task, nets) == one_by_one(supernet, task, nets)


def counted(supernet, task, nets, monkeypatch, **settings):
    """(numbers, how often the linear layers ran, most MiB kept, whether there was room for all)."""
    calls, paths = [], []

    class Watched(Path):
        def keep(self, depth, states):
            paths.append(self)
            return super().keep(depth, states)

    monkeypatch.setattr(population, "Path", Watched)
    with monkeypatch.context() as patch:
        forward = nn.Linear.forward
        patch.setattr(nn.Linear, "forward", lambda self, x: calls.append(0) or forward(self, x))
        numbers = evaluate_subnets(supernet, task, nets, **settings)
    return numbers, len(calls), max(p.peak for p in paths) / 2**20, any(p.refused for p in paths)


def test_memory_is_bounded_and_shared_stages_run_once(monkeypatch):
    supernet, task = chain()
    nets = family(supernet.space, 3, mutants=20)
    expected = one_by_one(supernet, task, nets)
    *free, peak, refused = counted(supernet, task, nets, monkeypatch)
    assert free[0] == expected
    assert not refused
    *tight, low, refused = counted(supernet, task, nets, monkeypatch, memory_mib=peak / 4)
    assert tight[0] == expected
    assert refused
    assert low <= peak / 4
    *none, lowest, _ = counted(supernet, task, nets, monkeypatch, memory_mib=0)
    assert none[0] == expected
    assert lowest * 2**20 == 8 * 4 * 4  # one batch of inputs
    assert free[1] < tight[1] < none[1]


def test_a_state_is_as_large_as_its_storages():
    x = torch.zeros(4, 8)
    context = Context(memory={"a": x, "b": torch.zeros(2)}, mask=x[:2])
    assert state_bytes([(x, context), (x.T, context)]) == 4 * 32 + 4 * 2


class Normed(nn.Sequential):
    """nn.Sequential needs nothing to be a chain; BatchNorm makes it one that goes alone."""


def sequential(trial):
    layers = [nn.Flatten(), nn.Linear(64, 16)]
    for i in range(3):
        kind = trial.suggest_categorical(f"{i}.kind", ["relu", "batch", "wide"])
        hidden = trial.suggest_int(f"{i}.hidden", 8, 24, step=8) if kind == "wide" else 0
        wide = [nn.Linear(16, hidden), nn.GELU(), nn.Linear(hidden, 16)] if hidden else []
        layers.append(nn.Sequential(*wide) if wide else nn.ReLU() if kind == "relu" else nn.BatchNorm1d(16))
    return Normed(*layers, nn.Linear(16, 10))


def test_sequential_is_a_chain_and_nets_with_running_statistics_go_alone():
    supernet, task = supernet_of(nas.SearchSpace(sequential)), task_of(images(1, 8, 8))
    nets = family(supernet.space, 0, mutants=20)
    normed = {i for i, a in enumerate(nets) if "batch" in a.values()}
    assert {leaf.index for leaf in make_trie(supernet, nets)} == set(range(len(nets))) - normed
    assert 3 < len(normed) < len(nets) - 3
    assert evaluate_subnets(supernet, task, nets) == one_by_one(supernet, task, nets)


def test_a_space_without_stages_goes_one_by_one():
    supernet, task = supernet_of(nas.SearchSpace(vit)), task_of(images(1, 8, 8))
    nets = family(supernet.space, 0, mutants=4)
    assert make_trie(supernet, nets) == []
    assert evaluate_subnets(supernet, task, nets) == one_by_one(supernet, task, nets)
    assert evaluate_subnets(supernet, task, []) == []


def test_numbers_come_as_they_are_known_and_in_order(monkeypatch):
    supernet, task = chain()
    nets = family(supernet.space, 0)
    ran = []
    run = population._run
    monkeypatch.setattr(population, "_run", lambda s, leaf, path: ran.append(leaf.index) or run(s, leaf, path))
    numbers = score_subnets(supernet, task, nets, "test")
    assert next(numbers) == nas.evaluate_subnet(supernet, task, nets[0], "test")
    assert len(ran) == len(nets) + 1  # all for the first batch, then one for the others
    list(numbers)
    assert len(ran) == 2 * len(nets)


def plain(**options):
    module = nn.Linear(2, 2)
    vars(module).update(options)
    return module


def doubled(x):
    return 2 * x


DIFFERENT = {
    "an option": lambda: (plain(scale=1), plain(scale=2)),
    "its type": lambda: (plain(scale=1), plain(scale=True)),
    "the sign of zero": lambda: (plain(scale=0.0), plain(scale=-0.0)),
    "a constant": lambda: (plain(mask=torch.ones(2)), plain(mask=torch.zeros(2))),
    "a stride": lambda: (plain(mask=torch.ones(2, 2)), plain(mask=torch.ones(2, 2).T)),
    "the class": lambda: (nn.ReLU(), nn.GELU()),
    "the mode": lambda: (nn.ReLU(), nn.ReLU().eval()),
    "a lambda": lambda: (plain(act=lambda x: x), plain(act=lambda x: x)),
    "an argument": lambda: (partial(doubled, 1), partial(doubled, 2)),
    "a tie": lambda: ([a := nn.ReLU(), a], [nn.ReLU(), nn.ReLU()]),
    "the order": lambda: (nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Sequential(nn.Tanh(), nn.ReLU())),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_stages_differ_in(what):
    left, right = DIFFERENT[what]()
    names = {id(p): n for m in (left, right) if isinstance(m, nn.Module) for n, p in m.named_parameters()}
    assert stage_key(left, names) == stage_key(left, names)
    assert stage_key(left, names) != stage_key(right, names)


def test_equal_stages_of_two_builds_are_one():
    def names(module):
        return {id(p): n for n, p in module.named_parameters()}

    left, right = (nn.Sequential(plain(act=doubled, mask=torch.ones(3)), nn.GELU()) for _ in range(2))
    assert stage_key(left, names(left)) == stage_key(right, names(right))
    left[0].loop = right[0].loop = None
    left[0].loop, right[0].loop = [left[0].bias], [right[0].bias]
    assert stage_key(left, names(left)) == stage_key(right, names(right))
    assert stage_key(left, names(left)) != stage_key(right, {})  # whose parameters they are is not known


def test_a_net_with_a_forward_or_hook_of_its_own_is_no_chain():
    class Other(nn.Sequential):
        def forward(self, x):
            return -super().forward(x)

    hooked = nn.Sequential(nn.ReLU())
    assert len(stages_of(nn.Sequential(hooked, nn.Sequential(nn.ReLU(), nn.Tanh())))) == 3
    hooked.register_forward_hook(lambda *_: None)
    assert stages_of(nn.Sequential(hooked, nn.ReLU()))[0] is hooked
    assert stages_of(hooked) is None
    assert stages_of(Other(nn.ReLU())) is None
