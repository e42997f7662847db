"""Constructors that published code has: they read values, keep constants in odd places, or fail for some nets."""

import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas
from nas.search_space import space as space_module


class Net(nn.Module):
    """A linear layer after which `change(net, width)` was called, and whose outputs `use(net, x)` changes."""

    def __init__(
        self, width: int, change: Callable[["Net", int], None], use: Callable[["Net", Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.layer, self.use, self.kept = nn.Linear(8, width), use, None
        change(self, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, self.layer(x))


def _branch(net: Net, width: int) -> None:
    if torch.ones(width).sum() > width / 2:
        net.kept = 2.0


def _closure(net: Net, width: int) -> None:
    table = torch.arange(width) * 0.1
    net.kept = lambda x: x * table


def _orthogonal(net: Net, width: int) -> None:
    net.layer = nn.utils.parametrizations.orthogonal(nn.Linear(8, width))


CHANGES: dict[str, tuple[Callable[[Net, int], None], Callable[[Net, Tensor], Tensor]]] = {
    "item": (lambda n, w: setattr(n, "kept", torch.linspace(0, 1, w)[-1].item()), lambda n, x: x * n.kept),
    "tolist": (lambda n, w: setattr(n, "kept", torch.linspace(0, 1, w).tolist()), lambda n, x: x * n.kept[1]),
    "numpy": (lambda n, w: setattr(n, "kept", torch.linspace(0, 1, w).numpy()), lambda n, x: x * float(n.kept[1])),
    "branch": (_branch, lambda n, x: x * n.kept),
    "list": (lambda n, w: setattr(n, "kept", [torch.arange(w) * 0.1]), lambda n, x: x * n.kept[0]),
    "dict": (lambda n, w: setattr(n, "kept", {"a": (torch.arange(w) * 0.1,)}), lambda n, x: x * n.kept["a"][0]),
    "closure": (_closure, lambda n, x: n.kept(x)),
    "orthogonal": (_orthogonal, lambda _, x: x),
}


@pytest.mark.parametrize("name", CHANGES)
def test_elastic_is_extracted_whatever_the_constructor_does(name: str) -> None:
    space = nas.SearchSpace(lambda t: Net(t.suggest_int("width", 8, 16, step=8), *CHANGES[name]))
    supernet, x = nas.Supernet(space).eval(), torch.randn(3, 8)
    for architecture in (space.largest, space.smallest):
        outputs = supernet(x, architecture)
        assert torch.equal(outputs, supernet.extract(architecture)(x))
        assert outputs.abs().sum() > 0


def test_building_for_its_constants_leaves_the_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    nas.SearchSpace(lambda t: Net(t.suggest_int("width", 8, 16, step=8), *CHANGES["item"]))
    assert torch.equal(torch.rand(1), expected)


def test_the_constructor_runs_on_the_meta_device_where_it_can() -> None:
    devices = set()

    def function(trial: Any) -> nn.Module:
        layer = nn.Linear(8, trial.suggest_int("width", 8, 16, step=8))
        devices.add(layer.weight.device.type)
        return layer

    nas.SearchSpace(function)
    assert devices == {"meta"}


def _space(raises: Callable[[Any], None]) -> nas.SearchSpace:
    def function(trial: Any) -> nn.Module:
        width = trial.suggest_int("width", 8, 16, step=8)
        act = trial.suggest_categorical("act", ["relu", "odd"])
        if act == "odd":
            raises(width)
        return nn.Linear(8, width)

    return nas.SearchSpace(function)


def test_an_error_for_some_nets_names_file_line_and_genes() -> None:
    def raises(width: int) -> None:
        raise KeyError(f"[red] no {width}")

    with pytest.raises(
        nas.UserError, match=r"raised KeyError: '\[red\] no 16' \(.*test_construction.py, line \d+\) wh.*act='odd'"
    ):
        _space(raises)


def test_an_exit_in_the_function_is_an_error() -> None:
    with pytest.raises(nas.UserError, match=r"called sys\.exit"):
        _space(lambda _: sys.exit(0))


def test_endless_recursion_is_an_error() -> None:
    def raises(width: int) -> None:
        raises(width)

    with pytest.raises(nas.UserError, match="RecursionError"):
        _space(raises)


def test_a_function_of_no_argument_is_told_of_the_trial() -> None:
    with pytest.raises(nas.UserError, match="must take one argument, the trial"):
        nas.SearchSpace(lambda: nn.Linear(1, 1))  # type: ignore[misc,arg-type]


def test_questions_without_end_are_refused() -> None:
    def function(trial: Any) -> nn.Module:
        i = 0
        while trial.suggest_int(f"more{i}", 0, 1) >= 0:
            i += 1
        return nn.Linear(1, 1)

    with pytest.raises(nas.UserError, match="suggests genes without end"):
        nas.SearchSpace(function)


def test_lazy_layers_need_their_sizes_or_one_call() -> None:
    with pytest.raises(nas.UserError, match=r"0\.weight has no shape yet; .*example=inputs"):
        nas.SearchSpace(lambda t: nn.Sequential(nn.LazyLinear(t.suggest_int("width", 8, 16, step=8))))

    def called(trial: Any) -> nn.Module:
        net = nn.Sequential(nn.LazyLinear(trial.suggest_int("width", 8, 16, step=8)))
        net(torch.zeros(1, 4))
        return net

    assert nas.Supernet(nas.SearchSpace(called)).store.state_dict()["0.weight"].shape == (16, 4)


class LazyNet(nn.Module):
    """Lazy layers of any kind, two inputs, and statistics."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.LazyConv2d(width, 3, padding=1), nn.LazyBatchNorm2d()
        self.hidden, self.head = nn.LazyLinear(hidden), nn.LazyLinear(3)

    def forward(self, image: Tensor, scale: Tensor) -> Tensor:
        pooled: Tensor = self.norm(self.conv(image)).relu().mean((2, 3)) * scale
        out: Tensor = self.head(self.hidden(pooled).relu())
        return out


def lazy(trial: Any) -> nn.Module:
    return LazyNet(trial.suggest_int("width", 8, 16, step=8), trial.suggest_int("hidden", 4, 12, step=4))


def test_an_example_gives_lazy_layers_their_shapes() -> None:
    image, scale = torch.rand(2, 3, 8, 8), torch.rand(2, 1)
    space = nas.SearchSpace(lazy, example={"image": image[:1], "scale": scale[:1]})
    supernet = nas.Supernet(space)
    shapes = {name: tuple(p.shape) for name, p in supernet.store.named_parameters()}
    assert (shapes["conv.weight"], shapes["hidden.weight"], shapes["head.weight"]) == ((16, 3, 3, 3), (12, 16), (3, 12))
    before = {name: p.detach().clone() for name, p in supernet.store.named_parameters()}
    optimizer = torch.optim.SGD(supernet.parameters(), 0.1)
    for architecture in (space.largest, space.smallest):
        supernet(image, scale, architecture=architecture).square().sum().backward()
    optimizer.step()
    moved = {name for name, p in supernet.store.named_parameters() if not torch.equal(p, before[name])}
    assert {"conv.weight", "hidden.weight", "head.weight"} <= moved
    with pytest.warns(nas.supernet.store.UncalibratedWarning):
        net = supernet.eval().extract(space.smallest)
    assert tuple(net.hidden.weight.shape) == (4, 8)
    assert torch.equal(net.hidden.weight, supernet.store.state_dict()["hidden.weight"][:4, :8])
    assert space.build(space.smallest).training
    assert pickle.loads(pickle.dumps(space)).largest == space.largest
    with pytest.raises(nas.UserError, match=r"raised TypeError: .*scale"):
        nas.SearchSpace(lazy, example=torch.rand(1, 3, 8, 8))


def test_an_example_that_does_not_reach_a_lazy_layer_is_not_enough() -> None:
    class Unused(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 2)
            self.spare = nn.LazyLinear(3)

    with pytest.raises(nas.UserError, match=r"spare\.weight has no shape yet; pass an input that reaches it"):
        nas.SearchSpace(lambda _: Unused(), example=torch.rand(1, 4))


def test_cached_skeletons_are_bounded_by_their_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "CACHED_BYTES", 3 * 64 * 64 * 4)

    def masked(width: int) -> nn.Module:
        net = nn.Linear(8, width)
        net.register_buffer("mask", torch.ones(64, 64))
        return net

    space = nas.SearchSpace(lambda t: masked(t.suggest_int("width", 8, 16)))
    skeletons = {a: space.skeleton(a) for a in space.enumerate()}
    kept = [a for a, skeleton in skeletons.items() if space.skeleton(a) is skeleton]
    assert kept == []  # walking in the order of their making, each was dropped before its turn came
    assert len(space._skeletons) == 3
