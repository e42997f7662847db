"""Tuning of the training recipe: Ray Tune tries recipes on the very task and space and stops the poor ones early."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..errors import UserError, check_least
from ..search_space.architecture import Architecture
from ..search_space.space import SearchSpace
from ..supernet.cluster import check_workers, connected
from ..supernet.evaluate import evaluate_subnet
from ..supernet.recipe import Recipe, make_recipe
from ..supernet.sharing import shared
from ..supernet.store import Supernet
from ..supernet.train import train
from ..tasks import Task

SAMPLED = 4
RUNGS = 4
"""How often a recipe reports; after a quarter and a half of the steps the poorer half of them is stopped (ASHA)."""
QUALITY = "quality"


def tune(
    space: SearchSpace, task: Task, *, trials: int = 8, steps: int = 300, workers: int = 2, seed: int = 0
) -> pd.DataFrame:
    """One row for each recipe that was tried, best first: what was varied, `quality`, `steps` that it was trained for.

    quality: mean of the task's metric on the validation split over fixed nets: the largest, the smallest and some
        random ones (by `seed`), with inherited weights. Those trained to the end stand before those that were stopped.

    Recipes are drawn at random (`recipes`), the default one first; which of them are stopped depends on when they
    report, so that only `workers=1` gives the same table again.
    """
    check_least(1, trials=trials)
    check_least(RUNGS, steps=steps)
    check_least(0, seed=seed)
    check_workers(max(2, workers), None)
    with connected(workers, None) as ray, tempfile.TemporaryDirectory() as folder:
        from ray import tune as ray_tune  # slow to import

        tried = recipes(trials, seed, task.takes_label_smoothing, make_recipe(None, {}, task))
        run = _trainable(space, task, steps, probes(space, seed), ray_tune.report)
        with shared(ray):
            whole = ray_tune.with_resources(run, {"cpu": 1})
            tuner = ray_tune.Tuner(
                whole,
                param_space={"recipe": ray_tune.grid_search(tried)},
                tune_config=ray_tune.TuneConfig(
                    metric=QUALITY,
                    mode=task.metric.better,
                    max_concurrent_trials=workers,
                    scheduler=ray_tune.schedulers.ASHAScheduler(
                        time_attr="steps", max_t=steps, grace_period=steps // RUNGS, reduction_factor=2
                    ),
                ),
                run_config=ray_tune.RunConfig(storage_path=folder, verbose=0),
            )
            with redirect_stdout(StringIO()):  # it prints where its files are, which are temporary
                grid = tuner.fit()
        results = [grid[i] for i in range(len(grid))]
        rows = [_row((r.config or {})["recipe"], r.metrics) for r in results if r.error is None]
        failures = [r.error for r in results if r.error is not None]
    if not rows:
        raise UserError(f"no recipe could be trained: {failures[0]}")
    ascending = [False, task.metric.better == "min"]
    return pd.DataFrame(rows).sort_values(["steps", QUALITY], ascending=ascending, kind="stable", ignore_index=True)


def recipes(trials: int, seed: int, smoothing: bool = True, default: Recipe | None = None) -> list[dict[str, Any]]:
    """Knobs of the recipes that are tried; the first is the default one. Rates are drawn on a logarithmic scale.

    smoothing: whether the task's loss takes label smoothing.
    """
    rng, default = np.random.default_rng(seed), default or Recipe()

    def drawn() -> dict[str, Any]:
        knobs: dict[str, Any] = {
            "lr": float(f"{default.lr * 10 ** rng.uniform(-1, 0.5):.3g}"),
            "weight_decay": float(f"{10 ** rng.uniform(-3, -0.5):.3g}"),
            "sampling": str(rng.choice(["sandwich", "uniform", "multi-arch"])),
            "distill": "none",
            "label_smoothing": float(rng.choice([0.0, 0.1])) * smoothing,
        }
        if knobs["sampling"] == "sandwich":
            knobs["distill"] = str(rng.choice(["kl", "alpha", "none"]))
        return knobs

    unchanged = {
        name: getattr(default, name) for name in ("lr", "weight_decay", "sampling", "distill", "label_smoothing")
    }
    return [unchanged, *(drawn() for _ in range(trials - 1))]


def probes(space: SearchSpace, seed: int) -> list[Architecture]:
    """The nets by which recipes are judged."""
    rng = np.random.default_rng(seed)
    return list(dict.fromkeys([space.largest, space.smallest, *(space.sample(rng) for _ in range(SAMPLED))]))


def _trainable(
    space: SearchSpace, task: Task, steps: int, nets: list[Architecture], report: Callable[[dict[str, Any]], None]
) -> Callable[[Mapping[str, Any]], None]:
    def run(config: Mapping[str, Any]) -> None:
        torch.set_num_threads(1)
        recipe = Recipe(**config["recipe"], steps=steps)
        supernet = Supernet(space, seed=recipe.seed)
        reported = 0

        def progress(done: int, total: int, row: Mapping[str, float]) -> None:
            nonlocal reported
            del row
            if done * RUNGS // total > reported:  # not again after a rollback
                reported = done * RUNGS // total
                report({QUALITY: float(np.mean([evaluate_subnet(supernet, task, net) for net in nets])), "steps": done})

        train(supernet, task, recipe, progress=progress)

    return run


def _row(knobs: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    values = metrics or {}
    return {**knobs, QUALITY: values.get(QUALITY, float("nan")), "steps": values.get("steps", 0)}
