"""The main job for one device or several: what the supernet is trained on, devices with limits, and the answers."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import UserError
from ..hw_profiles import Device
from ..hw_profiles.serving import Request
from ..search_space.quantization import Quantization
from ..supernet.store import Supernet
from ..supernet.trainer import History
from ..values import Limit
from . import pipeline
from .answer import BEST, Answer
from .baselines import compare_baselines
from .bundle import check_replaceable
from .calibration import calibrated
from .candidates import Candidates
from .costs import check_estimates, cost_named
from .database import check_file
from .limits import applied, check_devices
from .origin import BY_NAME, Origin, Progress
from .question import Question
from .reporting import journal
from .reporting.analysis import analyse, comparison_notes
from .run_folder import Run
from .start import read_start
from .study import Study


@dataclass(frozen=True)
class Job:
    """What is asked for. targets: the first is the one that fronts and reports are of. limits: on one, or on all.

    policies: that nets may have; None: none. each: a net for each target, in a folder of its own; they share their
    evaluations, of which each gets its part. Else one net keeps all limits. request: as of `Candidates`.
    """

    origin: Origin
    targets: tuple[Device, ...]
    question: Question
    limits: tuple[Limit, ...] = ()
    policies: Quantization | None = None
    each: bool = False
    batch: int = 1
    request: Request | None = None
    baselines: bool = False
    title: str = ""

    @cached_property
    def searched(self) -> Origin:
        """With the policies: the nets that are searched. The supernet is trained without."""
        return self.origin if self.policies is None else self.origin.quantized(self.policies)

    @property
    def run(self) -> Run | None:
        """Where all is kept; None: nowhere."""
        return self.origin if isinstance(self.origin, Run) else None

    @property
    def folder(self) -> Path | None:
        return self.run.folder if self.run else None

    @property
    def storage(self) -> Path | None:
        return self.folder / "study.db" if self.folder else None

    @property
    def folders(self) -> list[Path]:
        """Where the answers are written."""
        if self.folder is None:
            return []
        parts = self.each and len(self.targets) > 1
        return [self.folder / device.name for device in self.targets] if parts else [self.folder]

    @cached_property
    def asked(self) -> Question:
        """With the nets that the run says to start from, where the question says none."""
        return replace(self.question, start=self.question.start or read_start(self.folder))

    def check(self) -> None:
        """Errors: limits that no net can keep, where nothing has to be measured to know; costs of which a device gives
        no estimate; targets that cannot be; a folder of the user's where `best/` would be; a damaged study.db."""
        check_devices(self.limits, [device.name for device in self.targets])
        if not self.each and any(device.measurable for device in self.targets[1:]):
            raise UserError("a target that is this machine comes first: its nets are measured before the answer")
        if self.request and self.policies and self.targets[0].measurable:
            raise UserError("requests are timed here with PyTorch, which runs no quantized nets; leave quantize out")
        for folder in self.folders:
            check_replaceable(folder / BEST)
        self.searched.check()
        if self.storage is not None:
            check_file(self.storage)
        supernet = Supernet(self.searched.space)
        for device in self.targets:
            candidates = Candidates(supernet, self.origin.task, device, self.batch, request=self.request)
            if self.request is not None:
                candidates.served(self.searched.space.smallest)
            limits = [each for each in self.limits if each.device in ("", device.name)]
            names = [*self.question.objectives, *(limit.metric.name for limit in limits)]
            timed = [name for name in names if device.measurable and cost_named(name).measured]
            check_estimates(candidates, [name for name in names if name not in timed])
            if self.run is None or not self.run.is_trained():  # else the search says it at once
                for bound in applied([candidates], [limit for limit in limits if limit.metric.name not in timed]):
                    bound.check()

    def supernet(self, given: Supernet | None, progress: Progress, device: str) -> tuple[Supernet, History]:
        """Trained; `given` is one that is trained already. It serves the nets that are searched."""
        if given is None:
            supernet, history = self.origin.trained(progress, device)
        else:
            supernet, history = given.eval(), History()
            if self.run is not None:
                self.run.keep(given)
        space = self.searched.space
        return supernet if supernet.space is space else supernet.serving(space), history

    def answers(self, supernet: Supernet, history: History, progress: Progress) -> list[Answer]:
        """One for each target, or one for all."""
        served = [self._candidates(supernet, device, progress) for device in self.targets]
        # This machine has another name as a device since it was profiled.
        names = {device.name: c.device.name for device, c in zip(self.targets, served, strict=True)}
        limits = [replace(limit, device=names.get(limit.device, limit.device)) for limit in self.limits]
        if not (self.each and len(served) > 1):
            return [self._answer(served, limits, self.folder, history, progress)]
        part = replace(self, question=replace(self.question, evaluations=-(-self.question.evaluations // len(served))))
        folders: Sequence[Path | None] = self.folders or [None] * len(served)
        return [
            part._answer([c], [limit for limit in limits if limit.device in ("", c.device.name)], f, history, progress)
            for c, f in zip(served, folders, strict=True)
        ]

    def _candidates(self, supernet: Supernet, device: Device, progress: Progress) -> Candidates:
        candidates = Candidates(supernet, self.origin.task, device, self.batch, request=self.request)
        progress("Preparing", 0, 0, None)
        with TemporaryDirectory() if self.folder is None else nullcontext(self.folder) as folder:
            return calibrated(candidates, Path(folder), partial(_timing, progress))

    def _answer(
        self,
        served: Sequence[Candidates],
        limits: Sequence[Limit],
        folder: Path | None,
        history: History,
        progress: Progress,
    ) -> Answer:
        """Search, compare and write."""
        storage, log = self.storage, journal.FrontLog()

        def searching(done: int, total: int, study: Study) -> None:
            log(done, total, study)
            progress("Searching", done, total, study)

        choice = pipeline.choose(served, limits, self.asked, storage=storage, progress=searching)
        others = {}
        if self.baselines:
            comparing = partial(progress, "Comparing")
            others = compare_baselines(choice.study, seed=self.question.seed, storage=storage, progress=comparing)
        findings = analyse(choice, others)
        choice = replace(choice, notes=[*choice.notes, *comparison_notes(findings), *self._notes()])
        answer = Answer(choice, served[0], findings, self.searched, history, self.title, run=self.folder)
        if folder is not None:
            progress("Writing files", 0, 0, None)
            answer = answer.kept(folder)
        journal.log_choice(choice, findings)
        return answer

    def _notes(self) -> list[str]:
        if self.folder is None or self.origin.has_names:
            return []
        return [
            f"{self.folder} cannot hold a task or a space that is a Python object: nas.find goes on with it, but "
            f"`nas extract --run` cannot open it; state them {BY_NAME}."
        ]


def _timing(progress: Progress, done: float, total: float, what: str) -> None:
    """A profile of this machine that the search begins with. what: a part of it, which the stage leaves out."""
    del what
    progress("Timing nets on this machine", round(done), round(total), None)
