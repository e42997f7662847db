"""Small spaces whose weight sharing is known to be right or wrong, for the test of `space.check`.

Each entry: name, whether every small net is a sub-network, the space function, an example, and layouts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

TOKENS = torch.zeros(2, 6, dtype=torch.long)  # all equal: the check draws its own
ROWS = torch.zeros(2, 5, 12)
IMAGES = torch.zeros(2, 3, 8, 8)


@dataclass(frozen=True)
class Case:
    name: str
    right: bool
    function: Callable[[Any], nn.Module]
    example: Any
    layouts: Mapping[str, Any] = field(default_factory=dict)


CASES: list[Case] = []


def case(right: bool, example: Any, name: str = "", **layouts: Any) -> Callable[[Callable[[Any], nn.Module]], Any]:
    def add(function: Callable[[Any], nn.Module]) -> Callable[[Any], nn.Module]:
        CASES.append(
            Case(
                name or function.__name__,
                right,
                function,
                example,
                {k.replace("__", "."): v for k, v in layouts.items()},
            )
        )
        return function

    return add


class Net(nn.Module):
    """Parts by name and a function of (parts, inputs): a model in one line."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.ModuleList(part) if isinstance(part, list) else part)
        self.run = forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)


def width(trial, low=8, high=24, step=8):
    return trial.suggest_int("width", low, high, step=step)
