"""Activation functions by name. One line adds one."""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor

from ...errors import unknown


def relu2(x: Tensor) -> Tensor:
    """Squared ReLU (Primer, So et al. 2021, arXiv:2109.08668)."""
    return F.relu(x).square()


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "relu2": relu2, "silu": F.silu}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The function of that name. Error: unknown, with the valid names."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
