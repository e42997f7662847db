"""Diabetes (Efron et al. 2004): ten measurements of 442 patients, and how far the disease had come a year later."""

from functools import partial

import numpy as np
import torch
from torch import nn

from ..errors import UserError
from .augment import noise
from .data import Split
from .images import Normalise
from .metrics import Rmse, metric_named
from .registry import register
from .task import Task

SOURCE = (
    "scikit-learn's load_diabetes (Efron, Hastie, Johnstone and Tibshirani, 2004, Least Angle Regression); 442 "
    "patients, split 60/20/20"
)

NOISE = 0.5
"""Of a training row, in the deviations of its columns: without it nets learn the rows by heart (rmse 65, not 52)."""


@register("diabetes")
def load(argument: str | None) -> Task:
    """Regression: 266 patients to train, 88 to validate, 88 to test; ten standardised numbers to one."""
    from sklearn.datasets import load_diabetes  # here: its import takes a second

    if argument is not None:
        raise UserError(f"task 'diabetes' takes no argument, but got {argument!r}; write 'diabetes'")
    rows, progress = load_diabetes(return_X_y=True, scaled=False)
    raw, own = torch.from_numpy(rows).float(), torch.from_numpy(progress).float()[:, None]
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(raw)))
    train, validation, test = order.tensor_split([len(raw) - 2 * (len(raw) // 5), len(raw) - len(raw) // 5])
    normalise = Normalise(*_moments(raw[train]))
    (mean,), (std,) = _moments(own[train])
    splits = [Split(raw[part], (own[part] - mean) / std, normalise) for part in (train, validation, test)]
    return Task(
        name="diabetes",
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        loss=nn.MSELoss(),
        metric=metric_named("rmse"),
        score=partial(Rmse, std),
        outputs="values",
        space="tabular",
        source=SOURCE,
        preprocessing=str(normalise),
        postprocessing=f"disease progression = {mean:.6g} + {std:.6g} * output; rmse is in its units",
        mean=normalise.mean,
        std=normalise.std,
        augment=noise([NOISE * each for each in normalise.std]),
    )


def _moments(columns: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column."""
    wide = columns.double()
    return tuple(wide.mean(0).tolist()), tuple(wide.std(0, correction=0).tolist())
