"""Handwritten digits, 8 x 8 pixels of 0 to 16, bundled with scikit-learn: the task that needs nothing."""

import torch

from ..errors import UserError
from .augment import half_of, shift
from .images import ImageSplits, hold_out, image_task
from .registry import register
from .task import Task

SOURCE = (
    "scikit-learn's load_digits: the test part of Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, "
    "1998, UCI, doi:10.24432/C50P49); 1,797 images, split 60/20/20, stratified by class"
)


@register("digits")
def load(argument: str | None) -> Task:
    """The digits in a fixed split: 1,079 to train, 359 to validate, 359 to test."""
    if argument is not None:
        raise UserError(f"task 'digits' takes no argument, but got {argument!r}; write 'digits'")
    labels = tuple("0123456789")
    augment = half_of(shift(1))  # a pixel is much of 8: shifting all costs a small ViT 2 points
    return image_task("digits", labels, read_digits(), space="vit-digits", source=SOURCE, augment=augment)


def read_digits() -> ImageSplits:
    """The images and classes of the three splits."""
    from sklearn.datasets import load_digits  # here: its import takes a second

    images, targets = load_digits(return_X_y=True)
    samples = torch.from_numpy(images).to(torch.uint8).view(-1, 1, 8, 8), torch.from_numpy(targets).long()
    fifth = len(targets) // 5
    rest, test = hold_out(samples, fifth)
    train, validation = hold_out(rest, fifth)
    return ImageSplits(train=train, validation=validation, test=test)
