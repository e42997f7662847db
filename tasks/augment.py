"""Random changes that keep the target, of images (N, C, H, W) and rows (N, F); every sample draws its own."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from .data import Augment


def shift(pixels: int, edge: str = "constant") -> Augment:
    """Move by up to `pixels` along each axis; what comes in is zero, or the border pixel with `edge="replicate"`."""

    def apply(images: Tensor, generator: Generator) -> Tensor:
        n, _, height, width = images.shape
        padded = F.pad(images, (pixels,) * 4, mode=edge)
        windows = padded.unfold(2, height, 1).unfold(
            3, width, 1
        )  # (N, C, 2 * pixels + 1, 2 * pixels + 1, H, W), a view
        down, right = torch.randint(2 * pixels + 1, (2, n), generator=generator)
        return windows[torch.arange(n), :, down, right]

    return apply


def half_of(step: Augment) -> Augment:
    """`step` for each image with probability 1/2, else the image as it is."""

    def apply(images: Tensor, generator: Generator) -> Tensor:
        chosen = torch.rand(len(images), generator=generator) < 0.5
        return torch.where(chosen[:, None, None, None], step(images, generator), images)

    return apply


def mirror(images: Tensor, _: Generator) -> Tensor:
    """Left becomes right."""
    return images.flip(-1)


def noise(scales: Sequence[float]) -> Augment:
    """Add to each column its own normal noise of that standard deviation (a ridge, Bishop 1995)."""
    return lambda rows, generator: rows + torch.tensor(scales) * torch.randn(rows.shape, generator=generator)


def chain(*steps: Augment) -> Augment:
    """One step after the other."""

    def apply(images: Tensor, generator: Generator) -> Tensor:
        for step in steps:
            images = step(images, generator)
        return images

    return apply
