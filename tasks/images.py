"""What image tasks share: normalisation by the training split, and a stratified hold-out."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .data import Augment, Split
from .task import Task

Samples = tuple[Tensor, Tensor]
"""Images (N, C, H, W) uint8 and targets (N,) int64."""


@dataclass(frozen=True)
class Normalise:
    """(raw - mean) / std for each channel (dimension 1), as float32; one that never varies is only centred."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, raw: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(-1, *[1] * (raw.dim() - 2)) for values in (self.mean, self.std))
        return (raw - mean) / std

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (self.mean, self.std))
        return f"(raw - mean) / std for each channel, with mean ({mean}) and std ({std}) in the units of the raw inputs"


def fit_normalise(images: Tensor) -> Normalise:
    """Mean and standard deviation of every channel, counted from histograms: exact, and no float copy of the images."""
    values = torch.arange(256, dtype=torch.float64)
    mean, std = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        centre = (share * values).sum()
        mean.append(centre.item())
        std.append((share * (values - centre) ** 2).sum().sqrt().item() or 1.0)
    return Normalise(tuple(mean), tuple(std))


def hold_out(samples: Samples, count: int) -> tuple[Samples, Samples]:
    """(rest, held out): a fixed choice of `count` samples with the class shares of the whole."""
    from sklearn.model_selection import train_test_split  # here: its import takes a second

    images, targets = samples
    rest, held = train_test_split(np.arange(len(targets)), test_size=count, stratify=targets.numpy(), random_state=0)
    return (images[rest], targets[rest]), (images[held], targets[held])


@dataclass(frozen=True, kw_only=True)
class ImageSplits:
    """The three splits of an image task, not yet normalised."""

    train: Samples
    validation: Samples
    test: Samples


def image_task(
    name: str, labels: tuple[str, ...], splits: ImageSplits, *, space: str, source: str, augment: Augment | None = None
) -> Task:
    """A classification task over byte images; they stay bytes in memory and become float32 batch by batch."""
    normalise = fit_normalise(splits.train[0])
    return Task(
        name=name,
        labels=labels,
        train=Split(*splits.train, normalise),
        validation=Split(*splits.validation, normalise),
        test=Split(*splits.test, normalise),
        space=space,
        source=source,
        preprocessing=str(normalise),
        mean=normalise.mean,
        std=normalise.std,
        augment=augment,
    )
