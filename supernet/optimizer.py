"""AdamW that moves only the entries which the step's subnets use.

Plain AdamW moves rows whose gradient is zero: by momentum and by weight decay. In a supernet that lets weights drift
which no subnet of the step has used, the outer rows of wide nets most. Here such entries keep their value, and their
moments too.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from ..search_space.corner import Corner

# beta2 = 0.99 (not 0.999): an entry that is touched for the first time late has moments that start from zero; its first
# step is then (1 - beta1) / sqrt(1 - beta2) = 1 learning rate long, as an early entry's, and not 3.
BETAS = (0.9, 0.99)
EPSILON = 1e-8

Region = tuple[Corner, Sequence[Tensor | None]]
"""The smallest corner that holds the step's corners, and which entries of each of its views they cover (None: all)."""


class CornerAdamW:
    """AdamW (Loshchilov & Hutter 2019) on corners of `parameters` (name: tensor). Vectors are not decayed."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], weight_decay: float) -> None:
        self.parameters = dict(parameters)
        self.weight_decay = weight_decay
        self.mean = {n: torch.zeros_like(p) for n, p in self.parameters.items()}
        self.square = {n: torch.zeros_like(p) for n, p in self.parameters.items()}
        self.steps = {n: torch.zeros(()) for n in self.parameters}

    @torch.no_grad()
    def step(self, lr: float, used: Mapping[str, Sequence[Corner]]) -> None:
        """One update. `used`: the corners of every parameter that the step's subnets had."""
        regions = {n: region(corners) for n, corners in used.items() if self.parameters[n].grad is not None}

        def views(tensors: Mapping[str, Tensor]) -> list[Tensor]:
            return list(chain(*([tensors[n]] if c.plain else c.views(tensors[n]) for n, (c, _) in regions.items())))

        names = [n for n, (corner, _) in regions.items() for _ in corner.sizes]
        steps = [self.steps[n].clone() for n in names]  # the views of one parameter count each step once
        gradients = views({n: self.parameters[n].grad for n in regions})  # type: ignore[misc]
        moving = (views(self.parameters), views(self.mean), views(self.square))
        masks = chain(*(covered for _, covered in regions.values()))
        partly = {i: covered for i, covered in enumerate(masks) if covered is not None}
        before = {i: [v[i].clone() for v in moving] for i in partly}
        decayed = [view for n, view in zip(names, moving[0], strict=True) if self.parameters[n].dim() > 1]
        torch._foreach_mul_(decayed, 1 - lr * self.weight_decay)
        adamw(
            moving[0],
            gradients,
            moving[1],
            moving[2],
            max_exp_avg_sqs=[],
            state_steps=steps,
            foreach=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=lr,
            weight_decay=0.0,  # done above: vectors are not decayed
            eps=EPSILON,
            maximize=False,
        )
        torch._foreach_copy_([self.steps[n] for n in names], steps)
        for i, covered in partly.items():
            for view, old in zip((v[i] for v in moving), before[i], strict=True):
                view.copy_(torch.where(covered, view, old))

    def state(self) -> dict[str, Tensor]:
        """All state as named tensors."""
        groups = {"mean": self.mean, "square": self.square, "steps": self.steps}
        return {f"{group}:{n}": t for group, named in groups.items() for n, t in named.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def region(corners: Sequence[Corner]) -> Region:
    """The bounding corner of `corners`, with a mask where they do not fill it (one net wider here, another there)."""
    first, *others = dict.fromkeys(corners)
    if not others:
        return first, [None] * len(first.sizes)
    kept = tuple(max(c.kept[i] for c in corners) for i in range(len(first.axes)))
    bounding = Corner(first.axes, kept, (), first.segments)
    if any(c.kept == kept for c in corners):
        return bounding, [None] * len(bounding.sizes)
    covered = [torch.zeros(sizes, dtype=torch.bool) for sizes in bounding.sizes]
    for c in [*others, first]:
        for mask, sizes in zip(covered, c.sizes, strict=True):
            mask[tuple(map(slice, sizes))] = True
    return bounding, covered
