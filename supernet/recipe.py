"""How a supernet is trained: every knob of `nas.train`, and the learning-rate schedule."""

from math import cos, pi
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Recipe(BaseModel):
    """Training knobs. Rates are per optimizer step; a step runs every pass of the sampling."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=1200, ge=1)
    batch_size: int = Field(default=64, ge=1)
    sampling: Literal["uniform", "sandwich", "matformer", "multi-arch"] = "sandwich"
    random_nets: int = Field(
        default=2, ge=1, description="random nets in a sandwich; multi-arch has twice as many parts"
    )
    distill: Literal["kl", "alpha", "none"] = "kl"
    distill_weight: float = Field(default=0.5, ge=0, le=1, description="share of the distilled loss beside the task's")
    lr: float = Field(default=4e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup: float = Field(default=0.1, ge=0, le=1, description="share of the steps with a rising rate")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the averaged weights that are kept; 0: none")
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    rounding: bool = Field(
        default=False, description="nets round to few bits by their policies, and the steps are learned"
    )
    checkpoint_every: int = Field(default=100, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.sampling in ("uniform", "multi-arch") and "distill" in self.model_fields_set and self.distill != "none":
            raise ValueError(
                f"sampling {self.sampling!r} has no largest net in the step to distil from; use sandwich or matformer, "
                "or distill='none'"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """What a training is known by."""
        return self.model_dump(exclude=set() if self.rounding else {"rounding"})  # which older trainings have not

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero (Loshchilov & Hutter 2017)."""
        warm = self.warmup * self.steps
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + cos(pi * (step - warm) / max(self.steps - warm, 1)))
