"""Segmentation: which pixel of a canvas belongs to which digit. The digits are real; where they lie is drawn once."""

import torch
from torch import Tensor

from ..errors import UserError
from . import digits
from .data import Split
from .images import fit_normalise
from .metrics import Answers, metric_named
from .registry import register
from .task import Task

LABELS = ("background", *"0123456789")
CANVAS, DIGIT, ON_CANVAS = 24, 8, 3
STROKE = 8
"""Of the 0 to 16 of a pixel; brighter ones belong to the digit."""


@register("shapes")
def load(argument: str | None) -> Task:
    """Three digits on 24 x 24 pixels, each in a quarter of its own: as many canvases as there are digits in a split."""
    from torchmetrics.classification import MulticlassJaccardIndex  # here: its import takes seconds

    if argument is not None:
        raise UserError(f"task 'shapes' takes no argument, but got {argument!r}; write 'shapes'")
    parts = digits.read_digits()
    samples = (parts.train, parts.validation, parts.test)
    pairs = [drawn(images[:, 0], targets, seed) for seed, (images, targets) in enumerate(samples)]
    normalise = fit_normalise(pairs[0][0])
    train, validation, test = (Split(*pair, normalise) for pair in pairs)
    return Task(
        name="shapes",
        train=train,
        validation=validation,
        test=test,
        metric=metric_named("mean_iou"),
        score=lambda: Answers(MulticlassJaccardIndex(len(LABELS))),
        outputs="maps",
        labels=LABELS,
        space="vit-shapes",
        source=f"digits of {digits.SOURCE}, three on each canvas of {CANVAS} x {CANVAS} pixels",
        preprocessing=str(normalise),
        mean=normalise.mean,
        std=normalise.std,
        batch_size=32,
    )


def drawn(images: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Canvases (N, 1, H, W) uint8 and the class of each pixel (N, H, W), of N digits (N, 8, 8) and their classes."""
    generator = torch.Generator().manual_seed(seed)
    count, half = len(images), CANVAS // 2
    canvases = torch.zeros(count, CANVAS, CANVAS, dtype=torch.uint8)
    maps = torch.zeros(count, CANVAS, CANVAS, dtype=torch.int64)
    chosen = torch.randint(count, (count, ON_CANVAS), generator=generator)
    quarters = torch.rand(count, 4, generator=generator).argsort(1)[:, :ON_CANVAS]
    offsets = torch.randint(half - DIGIT + 1, (count, ON_CANVAS, 2), generator=generator)
    corners = offsets + half * torch.stack([quarters // 2, quarters % 2], -1)
    for canvas, labels, digit, places in zip(canvases, maps, chosen, corners.tolist(), strict=True):
        for one, (row, column) in zip(digit.tolist(), places, strict=True):
            window = slice(row, row + DIGIT), slice(column, column + DIGIT)
            canvas[window] = images[one]
            labels[window] = torch.where(images[one] > STROKE, targets[one] + 1, 0)
    return canvases[:, None], maps
