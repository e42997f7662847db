"""One training: sampled subnets, in-place distillation, checkpoints that resume to the same weights."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from ..search_space.corner import Corner
from ..search_space.inputs import arguments, map_tensors
from ..search_space.terms import collected_terms
from ..tasks import Task
from .adopt.refit import refit
from .alarm import Alarm
from .aware import every_policy, start_qat
from .checkpoint import newest, save_checkpoint
from .distill import distilled, full_precision
from .group import Group, part_of
from .length import Length
from .optimizer import CornerAdamW
from .quantize.learned import fake_quantized, keys_of
from .recipe import Recipe
from .sampling import Pass, sampling
from .saved import STEPS
from .statistics import placed
from .store import Supernet
from .teacher import Teacher
from .trained import fingerprint, trained_parameters

MOST_ROLLBACKS = 5
FIRST = "first"
"""Among the predictions that a step learns from: that of its first pass, the largest net."""


@dataclass
class History:
    """What happened: one row for each step (`step`, `loss`, `lr`; `largest_loss`, where the sampling runs the largest
    net) and sentences for rare events."""

    rows: list[dict[str, float]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


class Trainer:
    """The state of one training. All randomness of a step is a function of (seed, step, rollbacks): none is stored.

    folder: of the checkpoints; None: none are kept. group: the processes that train together; the first writes.
    """

    def __init__(
        self, supernet: Supernet, task: Task, recipe: Recipe, folder: Path | None, group: Group | None = None
    ) -> None:
        self.supernet, self.task, self.recipe, self.folder = supernet, task, recipe, folder
        self.group = group or Group()
        self.teacher = Teacher(supernet, task) if recipe.teacher == "original" else None
        self.parameters: dict[str, nn.Parameter] = trained_parameters(supernet, recipe.trains)
        start_qat(supernet, task if recipe.qat else None)
        self.parameters |= {f"{STEPS}{key}": step for key, step in supernet.steps.items()}
        self.device = next(iter(self.parameters.values())).device
        self.optimizer = CornerAdamW(self.parameters, recipe.weight_decay)
        self.buffers = dict(supernet.store.named_buffers())
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()} if recipe.ema else {}
        self.batch_size = task.batch_size_for(recipe.batch_size)
        self.history, self.alarm = History(), Alarm()
        self.sampling, self.nets = sampling(recipe.sampling), tuple(map(supernet.space.architecture, recipe.nets))
        self.step, self.rollbacks, self.lr_scale = 0, 0, 1.0
        self.length = Length(recipe, self.group)
        self.fingerprint = fingerprint(supernet, task, recipe)
        self.good = self._state()  # the newest state that the alarm found healthy

    @property
    def steps(self) -> int:
        """In all, as far as that is known (`Length`)."""
        return self.length.steps(self.step)

    @property
    def finished(self) -> bool:
        return self.step >= self.steps

    def begin(self) -> None:
        """What a training does before its first step: the FFNs of the one net that it is for are fitted."""
        if self.step == 0 and self.recipe.refit and len(self.nets) == 1:
            try:
                original = self.teacher.net if self.teacher else None
                refit(self.supernet, self.nets[0], self.task, samples=self.recipe.refit, original=original)
            except UserError as error:  # of a model whose layers do not add up
                self.history.events.append(str(error))
            self.good = self._state()

    # One step

    def advance(self) -> dict[str, float]:
        """One optimizer step, or a rollback if its loss is not healthy. Returns the row of the last good step."""
        loss, largest = self._gradients()
        norm = float(
            nn.utils.clip_grad_norm_([p for p in self.parameters.values() if p.grad is not None], self.recipe.clip)
        )
        if (diverged := self.alarm.rings(loss)) or not math.isfinite(norm):
            self._roll_back(f"loss {loss:.3g} diverged" if diverged else "the gradients are not finite")
            return self.history.rows[-1] if self.history.rows else {"step": 0.0, "loss": loss}
        lr = self.recipe.learning_rate(self.step, self.steps) * self.lr_scale
        self.optimizer.step(lr, self._used)
        self._average()
        self.step += 1
        row = {"step": float(self.step), "loss": loss, **largest, "lr": lr}
        self.history.rows.append(row)
        self.length.tick()
        if self.length.keeps(self.step):
            if not all(bool(p.isfinite().all()) for p in self.parameters.values()):
                self._roll_back("the weights are not finite")
                return row
            self._keep()
        return row

    def _gradients(self) -> tuple[float, dict[str, float]]:
        """Forward and backward of every pass. Returns (mean loss of the passes, that of the largest net if it ran)."""
        for p in self.parameters.values():
            p.grad = None
        rng = np.random.default_rng([self.recipe.seed, self.step, self.rollbacks])
        passes = self._passes(rng)
        if self.recipe.qat:
            passes = every_policy(passes, self.supernet.space, rng)
        self._used = self._corners(passes)
        batch = self.task.batch(self.step, self.batch_size, self.recipe.seed)
        inputs, targets = map_tensors(lambda t: t.to(self.device, non_blocking=True), batch)
        if self.teacher is not None:
            self.supernet.eval()  # dropout would keep a net from doing as the original does
        elif not self.supernet.training:
            self.supernet.train()
        known: dict[object, Any] = {}
        losses: list[Any] = []
        gpus = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus):  # dropout has no generator argument
            torch.manual_seed(self.recipe.seed * 1_000_003 + self.step + self.group.rank * 7_919)
            for one in passes:
                part = part_of((inputs, targets), one.part)
                own_inputs, own_targets = self.group.share(part)
                lesson = self._lesson(one, own_inputs, known)
                with collected_terms() as terms:
                    prediction = self._forward(own_inputs, one)
                loss = self._loss(prediction, own_targets, lesson)
                weight = self.group.weight(part)
                (self.task.with_terms(loss, terms) * (one.weight * weight)).backward()  # type: ignore[no-untyped-call]
                if self.teacher is None:
                    known.setdefault(FIRST, map_tensors(Tensor.detach, prediction))
                losses.append(loss.detach().float() * weight)
        self.group.add_up([*(p.grad for p in self.parameters.values() if p.grad is not None), *losses])
        losses = [float(loss) for loss in losses]
        ran = [one.architecture for one in passes]
        largest = self.supernet.space.largest
        own = {"largest_loss": losses[ran.index(largest)]} if largest in ran else {}
        return sum(losses) / len(losses), own

    def _passes(self, rng: np.random.Generator) -> list[Pass]:
        """What the step runs: one of the stated nets, or as the sampling has it."""
        if self.nets:
            return [Pass(self.nets[rng.integers(len(self.nets))])]
        return self.sampling(self.supernet.space, rng, self.recipe.random_nets, self.step / self.steps)

    def _lesson(self, one: Pass, inputs: Any, known: dict[object, Any]) -> Any:
        """What a pass learns from: the original's prediction of its inputs, or that of the step's largest net, or None.

        known: those of the step so far.
        """
        if self.teacher is None:
            return known.get(FIRST) if one.distils else None
        if one.part not in known:
            with self._autocast():
                known[one.part] = full_precision(self.teacher.prediction(placed(inputs, self.supernet)))
        return known[one.part]

    def _autocast(self) -> AbstractContextManager[Any]:
        half = self.recipe.precision == "bf16" or (self.recipe.precision == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if half else nullcontext()

    def _forward(self, inputs: Any, one: Pass) -> Any:
        """The net's prediction, its floats in full precision."""
        args, keywords = arguments(placed(inputs, self.supernet))
        with self._autocast():
            if not self.recipe.qat:
                outputs = self.supernet(*args, architecture=one.architecture, **keywords)
            else:
                net = self.supernet.skeleton(one.architecture)
                with self.supernet.filled(net, one.architecture), fake_quantized(net, self.supernet.steps):
                    outputs = net(*args, **keywords)
        return full_precision(self.task.prediction(outputs))

    def _loss(self, prediction: Any, targets: Any, lesson: Any) -> Tensor:
        targets = self.task.targets_for(prediction, targets)
        share = 0.0 if lesson is None or self.recipe.distill == "none" else self.recipe.distill_weight
        if share == 1:  # a loss over all tokens of a vocabulary is not computed in vain
            return distilled(self.recipe.distill, prediction, lesson, targets, self.task)
        hard = self.task.loss_of(prediction, targets, self.recipe.label_smoothing)
        if share == 0:
            return hard
        return (1 - share) * hard + share * distilled(self.recipe.distill, prediction, lesson, targets, self.task)

    def _corners(self, passes: list[Pass]) -> dict[str, list[Corner]]:
        used: dict[str, list[Corner]] = {}
        for one in passes:
            for name, corner in self.supernet.corners(one.architecture).items():
                if name in self.parameters:
                    used.setdefault(name, []).append(corner)
            steps = self.supernet.steps
            for key in keys_of(self.supernet.skeleton(one.architecture), steps):
                shape = tuple(steps[key].shape)
                used[f"{STEPS}{key}"] = [Corner(shape, shape, shape)]
        return used

    @torch.no_grad()
    def _average(self) -> None:
        if self.average:
            decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    # State

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"weight:{n}": p for n, p in self.parameters.items()} | self.optimizer.state()
        tensors |= {f"average:{n}": t for n, t in self.average.items()}
        tensors |= {f"buffer:{n}": t for n, t in self.buffers.items()}
        state = {"step": self.step, "recent": self.alarm.recent, "rows": len(self.history.rows)}
        return {n: t.detach().clone() for n, t in tensors.items()}, state

    @torch.no_grad()
    def _restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        for name, p in self.parameters.items():
            p.copy_(tensors[f"weight:{name}"])
        for name, t in self.average.items():
            t.copy_(tensors[f"average:{name}"])
        for name, t in self.buffers.items():
            t.copy_(tensors.get(f"buffer:{name}", t))  # older checkpoints have none; training does not read them
        self.optimizer.load_state(tensors)
        self.step = state["step"]
        self.alarm.restore(state["recent"])
        del self.history.rows[state["rows"] :]

    def _keep(self) -> None:
        self.good = self._state()
        if self.folder is not None and self.group.rank == 0:
            whole = {
                **self.good[1],
                "fingerprint": self.fingerprint,
                "seconds": self.length.seconds,
                "recipe": self.recipe.model_dump(),
                "rollbacks": self.rollbacks,
                "lr_scale": self.lr_scale,
                "history": {"rows": self.history.rows, "events": self.history.events},
            }
            save_checkpoint(self.folder, self.step, self.good[0], whole)

    def _roll_back(self, reason: str) -> None:
        self.rollbacks += 1
        self.lr_scale /= 2
        back = self.good[1]["step"]
        event = f"step {self.step + 1}: {reason}; back to step {back}, rate x{self.lr_scale:g}"
        self.history.events.append(event)
        if self.rollbacks > MOST_ROLLBACKS:
            raise UserError(f"the training keeps diverging ({event}); lower lr (now {self.recipe.lr:g})")
        self._restore(*self.good)

    def resume(self) -> None:
        """Go on from the newest checkpoint in the folder, if there is one."""
        result = newest(self.folder) if self.folder is not None else None
        if result is None:
            return
        tensors, state, damaged = result
        if state["fingerprint"] != self.fingerprint:
            raise UserError(
                f"{self.folder} holds a training of another recipe, space or task, or from another start; name another "
                "run folder"
            )
        self.history = History(**state["history"])
        self._restore(tensors, state)
        self.rollbacks, self.lr_scale = state["rollbacks"], state["lr_scale"]
        self.length.seconds = state.get("seconds", 0.0)
        self.history.events += [f"{sentence}; the training went on from step {self.step}" for sentence in damaged]
        self.good = self._state()

    @torch.no_grad()
    def finish(self) -> None:
        """Put the averaged weights in place (where the recipe keeps them) and switch to evaluation.

        From now on running statistics are measured on the task.
        """
        for name, t in self.average.items():
            self.parameters[name].copy_(t)
        self.supernet.store.requires_grad_(True)
        self.supernet.calibrate_on(self.task)
        self.supernet.eval()
