"""The main job for one device or several: a run, devices with budgets, and the answers with all their files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..hw_profiles import Device
from ..supernet.store import Supernet
from ..values import Limit
from . import calibration, pipeline
from .baselines import compare_baselines
from .bundle import check_replaceable
from .candidates import Candidates
from .costs import check_estimates, cost_named
from .database import check_file
from .limits import applied
from .pipeline import Answer
from .question import Question
from .reporting import analysis, answer_files, journal
from .reporting.analysis import Analysis
from .run_folder import Run
from .study import Study

Progress = Callable[[str, int, int, Any], None]
"""Called with the stage in words, what is done, of how many (0: not known), and its state: the row of a training step,
the study of a search, else None."""


@dataclass(frozen=True)
class Found:
    """An answer, its analysis, the facts about its net, and the folder of its files."""

    answer: Answer
    analysis: Analysis
    facts: dict[str, str]
    folder: Path


@dataclass(frozen=True)
class Job:
    """What is asked for. targets: the first is the one that fronts and reports are of. limits: on one, or on all.

    each: a net for each target, in a folder of its own; they share their evaluations, of which each gets its part.
    Else one net keeps all limits.
    """

    run: Run
    targets: tuple[Device, ...]
    question: Question
    limits: tuple[Limit, ...] = ()
    each: bool = False
    batch: int = 1
    baselines: bool = False
    command: str = ""

    @property
    def storage(self) -> Path:
        return self.run.folder / "study.db"

    @property
    def folders(self) -> list[Path]:
        """Where the answers are written."""
        parts = self.each and len(self.targets) > 1
        return [self.run.folder / device.name for device in self.targets] if parts else [self.run.folder]

    def check(self) -> None:
        """Errors: limits that no net can keep, where nothing has to be measured to know; costs of which a device gives
        no estimate; targets that cannot be; a folder of the user's where `best/` would be; a damaged study.db."""
        names = [device.name for device in self.targets]
        if len(set(names)) < len(names):
            raise UserError(f"each target can be given once, not {', '.join(names)}")
        if not self.each and any(device.measurable for device in self.targets[1:]):
            raise UserError("a target that is this machine comes first: its nets are measured before the answer")
        for folder in self.folders:
            check_replaceable(folder / answer_files.BEST)
        self.run.check()
        check_file(self.storage)
        supernet = Supernet(self.run.space)
        for device in self.targets:
            candidates = Candidates(supernet, self.run.task, device, self.batch)
            limits = [each for each in self.limits if each.device in ("", device.name)]
            names = [*self.question.objectives, *(limit.metric.name for limit in limits)]
            timed = [name for name in names if device.measurable and cost_named(name).measured]
            check_estimates(candidates, [name for name in names if name not in timed])
            if not self.run.is_trained():  # else the search says it at once
                for bound in applied([candidates], [limit for limit in limits if limit.metric.name not in timed]):
                    bound.check()

    def answers(self, supernet: Supernet, progress: Progress) -> list[Found]:
        """One for each target, or one for all."""
        served = [self._candidates(supernet, device, progress) for device in self.targets]
        # This machine has another name as a device since it was profiled.
        names = {device.name: c.device.name for device, c in zip(self.targets, served, strict=True)}
        limits = [replace(limit, device=names.get(limit.device, limit.device)) for limit in self.limits]
        if not (self.each and len(served) > 1):
            return [self._found(served, limits, self.run.folder, self.question, progress)]
        part = replace(self.question, evaluations=-(-self.question.evaluations // len(served)))
        return [
            self._found([c], [limit for limit in limits if limit.device in ("", c.device.name)], folder, part, progress)
            for c, folder in zip(served, self.folders, strict=True)
        ]

    def _candidates(self, supernet: Supernet, device: Device, progress: Progress) -> Candidates:
        candidates = Candidates(supernet, self.run.task, device, self.batch)
        progress("Timing nets on this machine" if device.measurable else "Preparing", 0, 0, None)
        return calibration.calibrated(candidates, self.run.folder)

    def _found(
        self,
        served: Sequence[Candidates],
        limits: Sequence[Limit],
        folder: Path,
        question: Question,
        progress: Progress,
    ) -> Found:
        """Search, compare and write."""
        storage, log = self.storage, journal.FrontLog()

        def searching(done: int, total: int, study: Study) -> None:
            log(done, total, study)
            progress("Searching", done, total, study)

        answer = pipeline.find(served, limits, question, storage=storage, progress=searching)
        others = {}
        if self.baselines:
            others = compare_baselines(
                answer.study, seed=question.seed, storage=storage, progress=partial(progress, "Comparing")
            )
        progress("Writing files", 0, 0, None)
        findings = analysis.analyse(answer, others)
        answer = replace(answer, notes=[*answer.notes, *analysis.comparison_notes(findings)])
        facts = answer_files.write(self.run, served[0], answer, limits, self.command, findings, folder)
        journal.log_answer(answer, findings)
        return Found(answer, findings, facts, folder)
