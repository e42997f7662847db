"""Can the supernet be trusted? Rank correlation with nets trained alone, and consistency across sizes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau
from torch import nn

from ..search_space.architecture import Architecture
from ..search_space.temporary import evaluating
from ..tasks import Task
from .evaluate import agreement, evaluate, predictor
from .recipe import Recipe, make_recipe
from .single import train_alone
from .store import Supernet

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Health:
    """The result of `check_health`.

    table: a row for each net: id, params, inherited (validation metric with shared weights), alone (trained by itself),
        agreement (with the largest net on validation inputs: the share of equal answers, of values R squared).
    tau: Kendall's rank correlation of inherited and alone (NaN where all nets tie); p_value: of no correlation.
    tau_params: that of the parameter count and alone, the baseline a supernet must beat.
    """

    table: pd.DataFrame
    tau: float
    p_value: float
    tau_params: float

    @property
    def agreement(self) -> float:
        """Mean agreement with the largest net."""
        return float(self.table["agreement"].mean())


def check_health(
    supernet: Supernet,
    task: Task,
    *,
    nets: int = 8,
    steps: int = 150,
    seed: int = 0,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> Health:
    """Whether shared weights rank nets as training each of them alone does.

    `nets` architectures, spread evenly over size, are evaluated with their inherited weights and after a training of
    `steps` steps of their own. The result has a table with a row for each, and Kendall's rank correlation.
    recipe: of the supernet; the nets are trained with its learning rate, batch size and weight decay.

    >>> health = nas.check_health(supernet, task, nets=3, steps=2)
    """
    plain = {"sampling": "uniform", "distill": "none", "teacher": "largest", "nets": (), "trains": "all", "refit": 0}
    alone_recipe = make_recipe(recipe, {**plain, "steps": steps, "seed": seed})
    chosen = spread(supernet, nets, seed)
    largest = supernet.extract(supernet.space.largest, task).eval()
    rows = []
    for i, architecture in enumerate(chosen):
        net = supernet.extract(architecture, task)
        alone = train_alone(supernet.space, architecture, task, alone_recipe)
        rows.append(
            {
                "id": architecture.id,
                "params": sum(p.numel() for p in net.parameters()),
                "inherited": evaluate(net, task),
                "alone": evaluate(alone, task),
                "agreement": _agreement(net, largest, task),
            }
        )
        if progress is not None:
            progress(i + 1, nets)
    table = pd.DataFrame(rows)
    tau, p_value = kendalltau(table["inherited"], table["alone"])
    better = -task.metric.sign * table["alone"]
    return Health(table, float(tau), float(p_value), float(kendalltau(table["params"], better)[0]))


def spread(supernet: Supernet, nets: int, seed: int) -> list[Architecture]:
    """Architectures at even steps of parameter count, from 20 times as many random ones and the two extremes."""
    space, rng = supernet.space, np.random.default_rng(seed)
    drawn = dict.fromkeys([space.smallest, space.largest, *(space.sample(rng) for _ in range(20 * nets))])

    def params(architecture: Architecture) -> int:
        return sum(torch.Size(c.shape).numel() for c in supernet.corners(architecture).values())

    ordered = sorted(drawn, key=params)
    return list(dict.fromkeys(ordered[round(i)] for i in np.linspace(0, len(ordered) - 1, nets)))


def _agreement(net: nn.Module, largest: nn.Module, task: Task) -> float:
    with evaluating(net):
        return agreement(predictor(net, task), predictor(largest, task), task, task.validation)
