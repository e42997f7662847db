"""How a supernet is trained: every knob of `nas.train`, and the learning-rate schedule."""

from collections.abc import Mapping
from math import cos, pi
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import UserError, unknown

if TYPE_CHECKING:
    from ..tasks import Task

MOST = 10**9
"""Of steps, samples and nets: more is a slip of the keyboard."""
DECAY = 0.2
"""Share of the steps in which the rate of progressive sampling falls."""


LANGUAGE: Mapping[str, Any] = MappingProxyType({"sampling": "progressive", "distill": "none", "steps": 4800})
"""Defaults where outputs are tokens and the weights start at random (docs/benchmarks/supernet.md)."""


class Recipe(BaseModel):
    """Training knobs. Rates are per optimizer step; a step runs every pass of the sampling.

    Where outputs are tokens, `nas.train` has other defaults: progressive sampling, no distillation, 4,800 steps.

    >>> recipe = nas.Recipe(steps=20, sampling="uniform", lr=1e-3)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(default=1200, ge=1, le=MOST)
    batch_size: int | None = Field(default=None, ge=1, le=MOST, description="of a step; None: the task's own, or 64")
    sampling: Literal["uniform", "progressive", "sandwich", "matformer", "multi-arch"] = "sandwich"
    random_nets: int = Field(
        default=2, ge=1, le=1024, description="random nets in a sandwich; multi-arch has twice as many parts"
    )
    distill: Literal["kl", "alpha", "none"] = Field(
        default="kl", description="divergence of classes from the largest net's; of other outputs the squared error"
    )
    distill_weight: float = Field(default=0.5, ge=0, le=1, description="share of the distilled loss beside the task's")
    lr: float = Field(default=4e-3, gt=0, le=1e30)
    weight_decay: float = Field(default=0.05, ge=0, le=1e6)
    warmup: float = Field(default=0.1, ge=0, le=1, description="share of the steps with a rising rate")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the averaged weights that are kept; 0: none")
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    qat: bool = Field(
        default=False,
        description="quantization-aware: weights and inputs of few bits are fake-quantized, and steps learned",
    )
    checkpoint_every: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if (
            self.sampling in ("uniform", "progressive", "multi-arch")
            and "distill" in self.model_fields_set
            and self.distill != "none"
        ):
            raise ValueError(
                f"sampling {self.sampling!r} has no largest net in the step to distil from; use sandwich or matformer, "
                "or distill='none'"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """What a training is known by."""
        return self.model_dump(exclude=set() if self.qat else {"qat"})  # which older trainings have not

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero (Loshchilov & Hutter 2017).

        Of progressive sampling the last fifth of the steps, which is half of the time, falls to zero in a line: a
        cosine would be low before there are large nets.
        """
        warm = self.warmup * self.steps
        if step < warm:
            return min(self.lr, self.lr * (step + 1) / warm)
        if self.sampling == "progressive":
            return self.lr * min(1.0, (self.steps - step) / (DECAY * self.steps))
        return self.lr * 0.5 * (1 + cos(pi * (step - warm) / max(self.steps - warm, 1)))


def make_recipe(recipe: Recipe | None, knobs: Mapping[str, Any], task: "Task | None" = None) -> Recipe:
    """`recipe` (or the default one, of a training of `task` from the start) with some knobs set.

    A wrong knob is a UserError that says what is right.
    """
    stated = {**(recipe.model_dump(exclude_unset=True) if recipe else {}), **knobs}
    of_tokens = task is not None and task.outputs == "tokens" and not {"sampling", "distill", "qat"} & stated.keys()
    try:
        return Recipe(**{**(LANGUAGE if of_tokens else {}), **stated})
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise UserError(f"training knobs: {first['msg'].removeprefix('Value error, ')}") from None
        raise _wrong(str(first["loc"][0]), first["msg"], first["input"]) from None


def _wrong(name: str, message: str, given: object) -> UserError:
    if name not in Recipe.model_fields:
        return unknown("training knob", name, Recipe.model_fields)
    text = repr(given) if len(repr(given)) <= 40 else f"{repr(given)[:40]}..."
    return UserError(f"training knob {name}: {message[0].lower()}{message[1:]}, got {text}")
