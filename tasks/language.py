"""How well a net predicts the next token: in nats per token, or in bits per byte of the text.

Letters: N windows, T tokens of a window, K tokens of the vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor

from .corpus import BYTES
from .metrics import Score
from .outputs import IGNORED, summed_cross_entropy

LanguageMetric = Literal["nats_per_token", "bits_per_byte"]
METRICS: tuple[LanguageMetric, ...] = ("nats_per_token", "bits_per_byte")
MOST_NUMBERS = 2**26
"""Logits of a batch of an evaluation: 256 MiB in float32."""


@dataclass
class LanguageScore:
    """Cross-entropy of the targets (N, T), of which -100 are ignored, over batches of logits (N, T, K).

    byte_counts (K,): bytes of text that each token stands for; the value is in bits per byte of the text of the
        targets. None: the value is in nats per token.
    """

    byte_counts: Tensor | None
    nats: float = 0.0
    weight: int = 0

    def update(self, prediction: Tensor, targets: Tensor) -> None:
        valid = targets != IGNORED
        self.nats += float(summed_cross_entropy(prediction, targets))
        if self.byte_counts is None:
            self.weight += int(valid.sum())
        else:
            self.weight += int(self.byte_counts[targets[valid].cpu()].sum())

    def compute(self) -> float:
        unit = 1.0 if self.byte_counts is None else log(2)
        return self.nats / unit / self.weight if self.weight else float("nan")


def score_of(metric: LanguageMetric, byte_counts: Tensor | None = None) -> Callable[[], Score]:
    """A new score for each evaluation. byte_counts: of a tokenizer; None: tokens are bytes."""
    counts = torch.ones(BYTES, dtype=torch.int64) if byte_counts is None else byte_counts
    return lambda: LanguageScore(counts if metric == "bits_per_byte" else None)


def evaluation_batch(window: int, vocabulary: int) -> int:
    """Windows of a batch of an evaluation whose logits fit in memory."""
    return max(1, min(256, MOST_NUMBERS // (window * vocabulary)))
