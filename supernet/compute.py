"""Where supernets are trained and evaluated: the processor, a CUDA GPU or Apple's (MPS)."""

import re
from typing import TYPE_CHECKING

from ..errors import UserError, unknown

if TYPE_CHECKING:
    import torch

NAMES = ("auto", "cpu", "cuda", "mps")


def check_compute_device(name: str) -> None:
    """Error: a word that names no compute device. It needs no torch."""
    if name not in NAMES and not re.fullmatch(r"cuda:\d+", name):
        raise unknown("compute device", name, NAMES)


def compute_device(name: "str | torch.device") -> "torch.device":
    """The device of that name: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1" or "mps".

    Error: no such device in this machine, or a torch that was built without it.
    """
    import torch  # not above: words are checked before it is imported

    if isinstance(name, torch.device):
        return name
    check_compute_device(name)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    device = torch.device(name)
    if not available[device.type] or (device.index or 0) >= max(1, torch.cuda.device_count()):
        have = ", ".join(kind for kind, there in available.items() if there)
        raise UserError(
            f"compute device {name!r} is not available to torch {torch.__version__} here; available: {have}"
        )
    return device
