"""Several nets of one supernet in one file: shared weights once, and what is known of each net.

A safetensors file: the corners that the nets need by the supernet's names, `points:N:...` for buffers that a net has of
its own (running statistics), and in the metadata the space, the nets, their estimates and checksums. No pickle.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import Infeasible, UserError, unknown
from ..files import check_finite, write_atomic
from ..search_space.architecture import Architecture, mark
from ..search_space.buffers import persistent_buffers
from ..search_space.corner import corner
from ..search_space.layout import Layout
from ..search_space.locate import OBJECT, Description, net_from, trust
from ..search_space.quantization import policy_genes
from ..search_space.space import SearchSpace, replace_parameters
from ..search_space.temporary import slots_of
from ..values import LATENCY, Estimate, Metric, parse_limit
from .saved import checked_tensors, read_facts, sealed_file
from .store import Supernet

FACTS = "elastic"
"""The one field of the metadata."""
OWN = "points:"


@dataclass(frozen=True)
class Point:
    """A net in the file. quality: of the metric on validation. estimates: by name, `latency_ms` among them."""

    name: str
    architecture: Architecture
    quality: float
    estimates: Mapping[str, Estimate]


def pack_elastic(supernet: Supernet, points: Sequence[Point], metric: Metric, description: Description) -> bytes:
    """The content of the file. Errors: nets with a quantization policy; numbers that are not finite."""
    layouts = [_layouts(supernet, point.architecture) for point in points]
    most = {name: _union([each[name] for each in layouts if name in each]) for each in layouts for name in each}
    fulls = dict(supernet.store.named_parameters())
    tensors = {n: corner(most[n], supernet.layouts[n]).of(fulls[n].detach().cpu().contiguous()) for n in most}
    for at, point in enumerate(points):
        tensors |= {f"{OWN}{at}:{name}": buffer for name, buffer in _own_buffers(supernet, point.architecture).items()}
    own = [name for name in tensors if name.startswith(OWN)]
    check_finite(tensors, "the supernet", infinite=own)
    facts = {
        "space": dict(description),
        "metric": asdict(metric),
        "layouts": most,
        "points": [
            {
                "name": point.name,
                "architecture": dict(point.architecture),
                "quality": point.quality,
                "estimates": {name: asdict(each) for name, each in point.estimates.items()},
                "layouts": {name: layout for name, layout in small.items() if layout != most[name]},
            }
            for point, small in zip(points, layouts, strict=True)
        ],
        "own": own,
    }
    return sealed_file(tensors, FACTS, facts)


def _layouts(supernet: Supernet, architecture: Architecture) -> dict[str, Layout]:
    if policy_genes(architecture):
        raise UserError("an elastic file holds floats, and the nets have quantization policies; search without them")
    return supernet.space.layouts(supernet.space.skeleton(architecture))


def _union(layouts: Sequence[Any]) -> Any:
    """The largest of each factor."""
    if isinstance(layouts[0], int):
        return max(layouts)
    return tuple(_union(parts) for parts in zip(*layouts, strict=True))


def _own_buffers(supernet: Supernet, architecture: Architecture) -> dict[str, Tensor]:
    """Buffers of the net that the code of its space fills otherwise."""
    built = dict(supernet.space.skeleton(architecture).named_buffers())
    extracted = persistent_buffers(supernet.extract(architecture))
    return {n: b.cpu().contiguous() for n, b in extracted.items() if not torch.equal(b.cpu(), built[n])}


class ElasticBundle:
    """Nets that share their weights: `bundle.at("5ms")`, `bundle.at(params=0.5)`, `bundle.at("front:2")`.

    `nas.load` opens the file that `Answer.save_elastic` wrote. points: the nets, the best first.

    >>> answer = nas.find(space, task, targets="t4", supernet=supernet, evaluations=8)
    >>> bundle = nas.load(answer.save_elastic("nets.safetensors"), space)
    >>> small, large = bundle.at(params=0.9), bundle.at("best")
    >>> small.stem.weight.data_ptr() == large.stem.weight.data_ptr()  # one memory
    True
    """

    def __init__(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], space: SearchSpace | None) -> None:
        self._tensors, self._space, self._description = dict(tensors), space, facts["space"]
        self._layouts = facts["layouts"]
        self._own = [each["layouts"] for each in facts["points"]]
        self._nets: dict[int, nn.Module] = {}
        self.metric = Metric(**facts["metric"])
        self.points = [_point(each) for each in facts["points"]]

    @property
    def table(self) -> pd.DataFrame:
        """A row for each net: name, id, quality, and the value of each estimate."""
        rows = [
            {"name": p.name, "id": p.architecture.id, self.metric.name: p.quality}
            | {name: each.value for name, each in p.estimates.items()}
            for p in self.points
        ]
        return pd.DataFrame(rows)

    def at(self, which: str | None = None, **limits: float | str) -> nn.Module:
        """The best net within limits, or one by its name or id, in evaluation mode.

        which: a name (see `points`), an id, or the most latency on the first device: "5ms".
        limits: the most of an estimate: `params="2M"`, `latency_ms=5`; up to 1, or in per cent, a share of what the
            largest net of the bundle has. Of an estimate its upper end has to keep the limit.
        The net's parameters lie in the memory of the bundle, so switching copies nothing (but for rows that do not lie
        at equal distances there, as of narrowed groups of query heads). The same net is the same module each time.
        Errors: no such net; `Infeasible`: none keeps the limits.
        """
        names = [point.name for point in self.points]
        ids = [point.architecture.id for point in self.points]
        if which in (*names, *ids) and not limits:
            return self._net(names.index(which) if which in names else ids.index(which))
        if which is not None and not which.strip()[:1].isdigit():
            raise unknown("net", which, [*names, "5ms"])
        return self._net(self._best({**limits, **({} if which is None else {LATENCY.name: which})}))

    def _best(self, limits: Mapping[str, float | str]) -> int:
        uppers = {name: self._upper(name, limit) for name, limit in limits.items()}
        fitting = [
            at for at, p in enumerate(self.points) if all(p.estimates[n].high <= most for n, most in uppers.items())
        ]
        if not fitting:
            least = {n: min(p.estimates[n].high for p in self.points) for n in uppers}
            text = ", ".join(f"{n} {least[n]:.4g} (limit {most:.4g})" for n, most in uppers.items())
            raise Infeasible(f"no net of the bundle keeps the limits; the least there is: {text}")
        return min(fitting, key=lambda at: self.metric.sign * self.points[at].quality)

    def _upper(self, name: str, limit: float | str) -> float:
        """The most of an estimate that a limit allows."""
        known = self.points[0].estimates
        if name not in known:
            raise unknown("estimate", name, known)
        parsed = parse_limit(known[name].metric, limit) if isinstance(limit, str) else None
        value, share = (limit, float(limit) <= 1) if parsed is None else (parsed.upper, parsed.relative)
        largest = max(point.estimates[name].high for point in self.points)
        return float(value) * (largest if share else 1)

    def _net(self, at: int) -> nn.Module:
        if at not in self._nets:
            self._nets[at] = self._build(at)
        return self._nets[at]

    def _build(self, at: int) -> nn.Module:
        architecture = self.points[at].architecture
        if self._space is None:
            net = net_from(self._description, architecture, "meta")
        else:
            net = deepcopy(self._space.skeleton(self._space.architecture(architecture)))
        values = {id(p): self._value(at, name) for name, p in net.named_parameters()}
        replace_parameters(net, lambda p: nn.Parameter(values[id(p)], p.requires_grad))
        prefix = f"{OWN}{at}:"
        own = {n.removeprefix(prefix): tensor for n, tensor in self._tensors.items() if n.startswith(prefix)}
        for places, local, name in slots_of(net, own):
            places[local] = own[name].clone()
        mark(net, architecture)
        return net.eval()

    def _value(self, at: int, name: str) -> Tensor:
        full = self._layouts[name]
        return corner(self._own[at].get(name, full), full).shared(self._tensors[name])


def _point(content: Mapping[str, Any]) -> Point:
    estimates = {
        name: Estimate(**{**each, "metric": Metric(**each["metric"])}) for name, each in content["estimates"].items()
    }
    return Point(content["name"], Architecture(content["architecture"]), content["quality"], estimates)


def write_elastic(
    path: str | Path, supernet: Supernet, points: Iterable[Point], metric: Metric, description: Description
) -> Path:
    """Write the file. Errors: those of `pack_elastic`."""
    return write_atomic(path, pack_elastic(supernet, list(points), metric, description))


def load_elastic(path: Path, space: SearchSpace | None = None, *, trusted: bool = False) -> ElasticBundle:
    """The nets in the file. Errors: it is damaged, or no such file; a space that has to be given."""
    facts = read_facts(path, FACTS, "Answer.save_elastic")
    tensors = checked_tensors(path, facts, facts["own"])
    if space is None and OBJECT in facts["space"]:
        raise UserError(f"the space of {path} is a Python object, which files do not hold; pass it as well")
    if trusted:
        trust(facts["space"])
    return ElasticBundle(tensors, facts, space)
