"""The main job for one device or several: a run, devices with budgets, and the answers with all their files."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import UserError
from ..hw_profiles import Device
from ..supernet.store import Supernet
from . import calibration, pipeline
from .baselines import compare_baselines
from .candidates import Candidates
from .limits import Elsewhere, Limits, check_limits
from .pipeline import Answer
from .reporting import analysis, answer_files, journal, live
from .reporting.analysis import Analysis
from .run_folder import Run
from .study import Study
from .units import Budget


@dataclass(frozen=True)
class Found:
    """An answer, what can be said of it, the facts about its net, and the folder of its files."""

    answer: Answer
    analysis: Analysis
    facts: dict[str, str]
    folder: Path


@dataclass(frozen=True)
class Job:
    """What is asked for. targets: devices with their budgets; the first is the one that fronts and reports are of.

    each: a net for each target, in a folder of its own; they share their evaluations, of which each gets its part.
    Else one net keeps all budgets. settings: of `pipeline.find`.
    """

    run: Run
    targets: tuple[tuple[Device, Budget | None], ...]
    limits: Limits
    each: bool = False
    batch: int = 1
    baselines: bool = False
    command: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Errors: limits that no net can keep, where nothing has to be measured to know; targets that cannot be."""
        names = [device.name for device, _ in self.targets]
        if len(set(names)) < len(names):
            raise UserError(f"each target can be given once, not {', '.join(names)}")
        if not self.each and any(device.measurable for device, _ in self.targets[1:]):
            raise UserError("a target that is this machine comes first: its nets are measured before the answer")
        if self.run.is_trained():
            return
        supernet = Supernet(self.run.space)
        for device, budget in self.targets:
            known = replace(self.limits, budget=None if device.measurable else budget)
            check_limits(Candidates(supernet, self.run.task, device, self.batch), known)

    def answers(self, supernet: Supernet, console: Console) -> list[Found]:
        """One for each target, or one for all."""
        served = [(self._candidates(supernet, device, console), budget) for device, budget in self.targets]
        if self.each and len(served) > 1:
            part = {"evaluations": -(-self.settings["evaluations"] // len(served))}
            return [
                self._found(c, replace(self.limits, budget=b), self.run.folder / c.device.name, part, console)
                for c, b in served
            ]
        (first, budget), *others = served
        limits = replace(self.limits, budget=budget, elsewhere=tuple(Elsewhere(c, b) for c, b in others))
        return [self._found(first, limits, self.run.folder, {}, console)]

    def _candidates(self, supernet: Supernet, device: Device, console: Console) -> Candidates:
        candidates = Candidates(supernet, self.run.task, device, self.batch)
        with console.status("Timing nets on this machine" if device.measurable else "Preparing"):
            return calibration.calibrated(candidates, self.run.folder)

    def _found(
        self, candidates: Candidates, limits: Limits, folder: Path, settings: Mapping[str, Any], console: Console
    ) -> Found:
        """Search, compare and write."""
        storage, log = self.run.folder / "study.db", journal.FrontLog()
        with live.watching(console, "Searching") as watch:

            def progress(done: int, total: int, study: Study) -> None:
                log(done, total, study)
                watch(done, total, study)

            wanted = {**self.settings, **settings}
            answer = pipeline.find(candidates, limits, storage=storage, progress=progress, **wanted)
        others = {}
        if self.baselines:
            with live.watching(console, "Comparing") as watch:
                seed = self.settings.get("seed", 0)
                others = compare_baselines(answer.study, seed=seed, storage=storage, progress=watch)
        with console.status("Writing files"):
            findings = analysis.analyse(answer, others)
            answer = replace(answer, notes=[*answer.notes, *analysis.comparison_notes(findings)])
            facts = answer_files.write(self.run, candidates, answer, limits, self.command, findings, folder)
        journal.log_answer(answer, findings)
        return Found(answer, findings, facts, folder)
