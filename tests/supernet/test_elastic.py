"""Several nets in one file: each computes what it did in the supernet, and all share one memory."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import inputs, supernet
from torch import nn

import nas
from nas.errors import Infeasible, UserError
from nas.search_space.locate import describe_space
from nas.supernet.elastic import Point, load_elastic, write_elastic
from nas.values import LATENCY, PARAMS, Estimate

pytestmark = pytest.mark.filterwarnings("ignore::nas.errors.UncalibratedWarning")
METRIC = nas.Metric("accuracy", better="max", style="share")


class Net(nn.Module):
    """With a grouped side, a tie and running statistics."""

    def __init__(self, width: int, group: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width))
        self.queries = nas.Linear(width, (2, group, 3))
        self.out = nas.Linear((2, group, 3), 5)
        self.again = self.stem[0]

    def forward(self, x):
        return self.out(self.queries(self.stem(x).relu() + self.again(x)))


def function(trial):
    return Net(trial.suggest_int("width", 2, 8, step=2), trial.suggest_int("group", 1, 3))


def points(net: nas.Supernet, architectures: list[nas.Architecture]) -> list[Point]:
    """Larger nets are better and slower."""
    counts = [sum(p.numel() for p in net.space.skeleton(a).parameters()) for a in architectures]
    return [
        Point(f"net:{at}", a, n / 1000, {"params": Estimate.counted(PARAMS, n), "latency_ms": latency(n / 10)})
        for at, (a, n) in enumerate(zip(architectures, counts, strict=True))
    ]


def latency(ms: float) -> Estimate:
    return Estimate(LATENCY, ms, 0.9 * ms, 1.1 * ms, "analytic")


def saved(tmp_path, net: nas.Supernet, description: dict) -> tuple[nas.ElasticBundle, list[Point]]:
    rng = np.random.default_rng(0)
    nets = [net.space.smallest, net.space.sample(rng), net.space.sample(rng)]
    listed = points(net, nets)
    path = write_elastic(tmp_path / "nets.safetensors", net, listed, METRIC, description)
    given = net.space if "object" in description else None
    return load_elastic(path, given), listed


def own_supernet() -> nas.Supernet:
    torch.manual_seed(0)
    net = nas.Supernet(nas.SearchSpace(function))
    net(torch.randn(64, 6) + 1, net.space.largest)
    return net.eval()


def test_each_net_is_that_of_the_supernet_and_shares_its_memory(tmp_path) -> None:
    net, x = own_supernet(), torch.randn(4, 6)
    bundle, listed = saved(tmp_path, net, {"object": "here", "input_shape": [6], "classes": 5})
    expected = [net.extract(point.architecture)(x) for point in listed]
    for point, outputs in zip(listed, expected, strict=True):
        built = bundle.at(point.name)
        assert torch.allclose(built(x), outputs, atol=1e-6)
        assert built is bundle.at(point.architecture.id)
        assert built.again is built.stem[0]
    small, other = bundle.at("net:0"), bundle.at("net:1")
    with torch.no_grad():
        small.stem[0].weight.fill_(7.0)
    assert other.stem[0].weight[0, 0] == 7.0
    stored = sum(t.numel() for t in bundle._tensors.values())
    assert stored < sum(sum(t.numel() for t in bundle.at(p.name).state_dict().values()) for p in listed)


def test_limits_choose_the_best_that_keeps_them(tmp_path) -> None:
    net = own_supernet()
    bundle, listed = saved(tmp_path, net, {"object": "here", "input_shape": [6], "classes": 5})
    sizes = sorted(point.estimates["params"].value for point in listed)
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(bundle.at(params=1.0)) == sizes[-1]
    assert count(bundle.at(params="99%")) == sizes[-2]
    assert count(bundle.at(params=sizes[1])) == sizes[1]
    assert count(bundle.at(f"{0.11 * sizes[1] + 1e-6:.6f}ms")) == sizes[1]  # the upper end of the interval
    assert count(bundle.at(f"{0.11 * sizes[1] - 1e-3:.6f}ms", params=1.0)) == sizes[0]
    with pytest.raises(Infeasible, match="the least there is: latency_ms"):
        bundle.at("1us")
    with pytest.raises(UserError, match="unknown net 'net:9'; valid: net:0"):
        bundle.at("net:9")
    with pytest.raises(UserError, match="unknown estimate 'parms'; valid: params"):
        bundle.at(parms=1)


def test_an_adopted_model_needs_nothing_but_the_file(tmp_path) -> None:
    kind = "LlamaForCausalLM"
    net = supernet(kind)
    bundle, listed = saved(tmp_path, net, describe_space(net.space.function, (9,), 64))
    for point in listed:
        with torch.no_grad():
            outputs = bundle.at(point.name)(**inputs(kind))[0]
            assert torch.allclose(outputs, net.extract(point.architecture)(**inputs(kind))[0], atol=1e-6)


def test_a_changed_file_is_refused(tmp_path) -> None:
    saved(tmp_path, own_supernet(), {"object": "here", "input_shape": [6], "classes": 5})
    path = tmp_path / "nets.safetensors"
    with pytest.raises(UserError, match="is a Python object, which files do not hold"):
        nas.load(path)
    save_file(load_file(path), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"is not a file of `Answer.save_elastic`"):
        nas.load(tmp_path / "other.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="its tensors are not those that were saved"):
        nas.load(path, nas.SearchSpace(function))
