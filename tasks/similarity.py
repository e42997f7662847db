"""How well a net keeps the similarities of sentences that its teacher sees.

Letters: N sentences, T tokens, D features of the teacher, E features of the net (which may be fewer).
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Pooling = Literal["mean", "cls"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
MOST = 2048
"""Sentences whose pairs a score compares: two million pairs."""


def pooled(outputs: Tensor, mask: Tensor, pooling: Pooling = "mean") -> Tensor:
    """Unit vectors (N, E) of the features of tokens (N, T, E) and a mask (N, T), or of sentences (N, E)."""
    if outputs.dim() == 3:
        weights = mask[:, :, None].to(outputs.dtype)
        outputs = outputs[:, 0] if pooling == "cls" else (outputs * weights).sum(1) / weights.sum(1).clamp(min=1)
    return F.normalize(outputs.float(), dim=-1)


def similarity_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Distance of unit vectors (N, E) from those of a teacher (N, D), a scalar.

    The mean squared difference of the similarities of all pairs of the batch (similarity-preserving distillation, Tung
    and Mori 2019, arXiv:1907.09682) and, where E is D, 1 minus the cosine of each vector and its teacher's.
    """
    pairs = ~torch.eye(len(ours), dtype=torch.bool, device=ours.device)
    difference = (ours @ ours.T - theirs @ theirs.T)[pairs]
    loss = difference.square().mean() if len(ours) > 1 else ours.sum() * 0
    return loss if ours.shape != theirs.shape else loss + (1 - (ours * theirs).sum(-1)).mean()


@dataclass
class SimilarityCorrelation:
    """Spearman's correlation of the cosines of all pairs of sentences with those of the teacher's vectors.

    The vectors are kept, and no more than of the first 2,048 sentences: the pairs do not depend on the batches.
    """

    pooling: Pooling
    ours: list[Tensor] = field(default_factory=list)
    theirs: list[Tensor] = field(default_factory=list)

    def update(self, prediction: Tensor, targets: Any) -> None:
        room = MOST - sum(map(len, self.ours))
        if room > 0:
            self.ours.append(pooled(prediction, targets["mask"], self.pooling)[:room].cpu())
            self.theirs.append(targets["embedding"][:room].cpu())

    def compute(self) -> float:
        from scipy.stats import spearmanr

        vectors = [torch.cat(each).double() for each in (self.ours, self.theirs)]
        row, column = torch.triu_indices(len(vectors[0]), len(vectors[0]), 1)
        ours, theirs = ((each @ each.T)[row, column].numpy() for each in vectors)
        return float(spearmanr(ours, theirs).statistic)
