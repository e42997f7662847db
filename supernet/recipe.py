"""How a supernet is trained: every knob of `nas.train`, and the learning-rate schedule."""

from collections.abc import Mapping
from math import cos, pi
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import UserError, unknown
from ..search_space.architecture import GeneValue

if TYPE_CHECKING:
    from ..tasks import Task

MOST = 10**9
"""Of steps, samples and nets: more is a slip of the keyboard."""
DECAY = 0.2
"""Share of the steps in which the rate of progressive sampling falls."""


LATER = ("qat", "minutes", "nets", "teacher", "trains", "refit")
"""Knobs that older trainings do not have: at their defaults they do not count in what a training is known by."""

ADOPTED: Mapping[str, Any] = MappingProxyType(
    {"distill": "none", "trains": "layers", "lr": 3e-4, "weight_decay": 0.0, "refit": 16}
)
"""Defaults for the nets of a trained model (docs/benchmarks/adopt.md)."""
LANGUAGE: Mapping[str, Any] = MappingProxyType({"sampling": "progressive", "distill": "none", "steps": 4800})
"""Defaults where outputs are tokens and the weights start at random (docs/benchmarks/supernet.md)."""


class Recipe(BaseModel):
    """Training knobs. Rates are per optimizer step; a step runs every pass of the sampling.

    Where outputs are tokens, `nas.train` has other defaults: progressive sampling, no distillation, 4,800 steps.

    >>> recipe = nas.Recipe(steps=20, sampling="uniform", lr=1e-3)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(default=1200, ge=1, le=MOST)
    minutes: float | None = Field(
        default=None, gt=0, le=MOST, description="time that the training takes, in the place of steps"
    )
    batch_size: int | None = Field(default=None, ge=1, le=MOST, description="of a step; None: the task's own, or 64")
    sampling: Literal["uniform", "progressive", "sandwich", "matformer", "multi-arch"] = "sandwich"
    random_nets: int = Field(
        default=2, ge=1, le=1024, description="random nets in a sandwich; multi-arch has twice as many parts"
    )
    nets: tuple[dict[str, GeneValue], ...] = Field(
        default=(), description="architectures of which each step draws one, in the place of the sampling"
    )
    distill: Literal["kl", "alpha", "none"] = Field(
        default="kl", description="divergence of classes from the teacher's; of other outputs the squared error"
    )
    teacher: Literal["largest", "original"] = Field(
        default="largest",
        description="the largest net as it is in the step, or a frozen copy of it as the training found it",
    )
    distill_weight: float = Field(default=0.5, ge=0, le=1, description="share of the distilled loss beside the task's")
    lr: float = Field(default=4e-3, gt=0, le=1e30)
    weight_decay: float = Field(default=0.05, ge=0, le=1e6)
    warmup: float = Field(default=0.1, ge=0, le=1, description="share of the steps with a rising rate")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the averaged weights that are kept; 0: none")
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    trains: Literal["all", "layers"] = Field(
        default="all", description="layers: all but embeddings and heads that are tied to them"
    )
    refit: int = Field(
        default=0,
        ge=0,
        le=MOST,
        description="training samples on which the FFNs of the one stated net of an adopted model are fitted to the "
        "original before the first step (`nas.refit`)",
    )
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
            and self.teacher == "largest"
            and "distill" in self.model_fields_set
            and self.distill != "none"
        ):
            raise ValueError(
                f"sampling {self.sampling!r} has no largest net in the step to distil from; use sandwich or matformer, "
                "teacher='original' or distill='none'"
            )
        if self.teacher == "original" and self.distill == "none":
            raise ValueError("distill='none' learns from no teacher; leave teacher='original' out")
        return self

    def identity(self) -> dict[str, Any]:
        """What a training is known by."""
        fields = type(self).model_fields
        return self.model_dump(exclude={name for name in LATER if getattr(self, name) == fields[name].default})

    def learning_rate(self, step: int, steps: int | None = None) -> float:
        """Linear warm-up, then a cosine to zero (Loshchilov & Hutter 2017). steps: in all, where not the recipe's.

        Of progressive sampling the last fifth of the steps, which is half of the time, falls to zero in a line: a
        cosine would be low before there are large nets.
        """
        steps = self.steps if steps is None else steps
        warm = self.warmup * steps
        if step < warm:
            return min(self.lr, self.lr * (step + 1) / warm)
        if self.sampling == "progressive":
            return self.lr * min(1.0, (steps - step) / (DECAY * steps))
        return self.lr * 0.5 * (1 + cos(pi * (step - warm) / max(steps - warm, 1)))


def adopted_recipe(recipe: Recipe | None = None, knobs: Mapping[str, Any] | None = None) -> Recipe:
    """`make_recipe` for the nets of a trained model: what is not stated is as `ADOPTED` has it. Error: `check_nets`."""
    stated = with_original({**(recipe.model_dump(exclude_unset=True) if recipe else {}), **(knobs or {})})
    check_nets(stated, stated)
    learns = {"distill"} if stated.get("teacher") == "original" else set()
    return make_recipe(Recipe(**{name: value for name, value in ADOPTED.items() if name not in learns}), stated)


def with_original(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs that state a distillation, with its teacher: a step of one stated net has no largest net to learn from."""
    return {**({"teacher": "original"} if knobs.get("distill", "none") != "none" else {}), **knobs}


def check_nets(knobs: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    """Error: knobs of a training of an adopted model that state no nets; `stated` holds no sampling either."""
    if not knobs.get("nets") and "sampling" not in stated:
        raise UserError(
            "most nets of an adopted model are ruins, so state which are trained: nets=[architecture, ...], or --arch "
            "front:1 --arch front:2 with --init of a searched run; sampling='uniform' draws from all nets"
        )


def check_length(knobs: Mapping[str, Any]) -> None:
    """Error: steps and minutes are both stated."""
    if knobs.get("steps") is not None and knobs.get("minutes") is not None:
        raise UserError("steps and minutes both say how long the training is; state one of them")


def make_recipe(recipe: Recipe | None, knobs: Mapping[str, Any], task: "Task | None" = None) -> Recipe:
    """`recipe` (or the default one, of a training of `task` from the start) with some knobs set.

    A wrong knob is a UserError that says what is right.
    """
    base = recipe.model_dump(exclude_unset=True) if recipe else {}
    if "steps" in knobs:
        base.pop("minutes", None)
    stated = {**base, **knobs}
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
