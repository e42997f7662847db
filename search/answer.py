"""The answer of `nas.find` and of `nas search`: the chosen net, what is known of it, and its files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from torch import nn

from ..search_space.architecture import Architecture
from ..supernet.elastic import write_elastic
from ..supernet.export import formats_of
from ..supernet.shipped import as_shipped
from ..supernet.trainer import History
from ..values import Estimate
from .bundle import ANSWER, check_replaceable, write_bundle, write_front
from .candidates import Candidates
from .elastic import points_of
from .manifest import files_in, write_manifest
from .origin import Origin
from .parity import Parity
from .pipeline import Choice
from .replaced import replaced
from .reporting.analysis import Analysis
from .reporting.facts import Fact, facts_of
from .reporting.report import Report, write_report

BEST, FRONT, REPORT = "best", "front.csv", "report.html"
FORMATS = ("safetensors", "onnx", "onnx-fixed")


@dataclass(frozen=True)
class Answer:
    """The net that was chosen, beside all that were evaluated.

    choice: how it came to be chosen. analysis: what can be said of the search. origin, history: what the supernet was
    trained on, and how that went. title: of the report. parity: of a quantized net that was saved, see `Parity`.
    folder, run: where its files and those of its run are, if they are kept.

    >>> answer = nas.find(space, task, targets="t4", supernet=supernet, evaluations=4)
    >>> folder = answer.save("model")
    >>> nas.evaluate(nas.load(folder, space), task) == answer.quality
    True
    """

    choice: Choice
    candidates: Candidates
    analysis: Analysis
    origin: Origin
    history: History
    title: str = ""
    parity: Parity | None = None
    folder: Path | None = None
    run: Path | None = None

    def model(self) -> nn.Module:
        """The net as a module of its own, in evaluation mode: extracted, running statistics measured on the task.

        A quantized one computes in floats what integers give. `nas.evaluate(answer.model(), task)` is `quality`.
        """
        return as_shipped(self.candidates.supernet, self.candidates.task, self.architecture).eval()

    @property
    def architecture(self) -> Architecture:
        """The genes of the net, which its space builds it from."""
        return self.choice.architecture

    @property
    def quality(self) -> float:
        """The task's metric of `model()` on the validation split."""
        return self.choice.validation

    @property
    def test(self) -> float | None:
        """The same on the test split, which was looked at for this net alone; None: the task has none."""
        return self.choice.test

    @property
    def latency(self) -> Estimate:
        """Milliseconds of a call on the first target, with a 90 % interval; its `source` may be "measured"."""
        return self.choice.latency

    @property
    def front(self) -> pd.DataFrame:
        """The nets that no other beats and the chosen one, the best quality first.

        Columns: id, genes, metric, latency_ms with latency_low_ms and latency_high_ms, measured_ms, verdict (what came
        of the measurement), and the costs that are named or stated of every net.
        """
        return self.choice.front

    @property
    def notes(self) -> list[str]:
        """Sentences that a user should know."""
        return self.choice.notes

    @property
    def facts(self) -> dict[str, str]:
        """What is known of the net: label to text, in the order of reading."""
        return {label: fact.text for label, fact in self._facts().items()}

    def _facts(self) -> dict[str, Fact]:
        parity = {"parity": Fact("", self.parity.text)} if self.parity else {}
        return facts_of(self.choice, self.candidates) | parity

    def __str__(self) -> str:
        return self.choice.text

    def save(self, folder: str | os.PathLike[str], formats: Sequence[str] | None = None) -> Path:
        """Write the net to `folder`, and front.csv beside it. `nas.load(folder)` gives the net again.

        A net of a space that is a Python object needs it: `nas.load(folder, space)`. formats: as of `nas.export`;
        None: safetensors and onnx, of a net of an adopted model huggingface and onnx.
        Error: the folder holds something else.
        """
        self._bundle(Path(folder), formats)
        write_front(Path(folder) / FRONT, self.front, self.choice.front_architectures)
        return Path(folder)

    def save_elastic(self, path: str | os.PathLike[str]) -> Path:
        """Write the nets of the front to one file with their shared weights once, and what is known of each.

        `nas.load(path).at("5ms")` is the best of them within 5 ms on the first target (see `ElasticBundle`). Returns
        the path. Error: nets with quantization policies.
        """
        points = points_of(self.choice, self.candidates)
        return write_elastic(Path(path), self.candidates.supernet, points, self.choice.metric, self.origin.description)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the page that says what was found: one HTML file, which opens without a network."""
        choice, cost = self.choice, self.candidates.cost(self.architecture)
        kinds = [op.kind for op in cost.operators]
        content = Report(
            title=self.title,
            facts={**self._facts(), "made": Fact("", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))},
            notes=self.notes,
            trials=choice.trials,
            front=self.front,
            chosen=self.architecture.id,
            budget_ms=choice.bound_ms,
            architecture=self.architecture,
            space_genes=self.candidates.supernet.space.genes,
            cost_by_kind={kind: (c.flops, c.bytes, kinds.count(kind)) for kind, c in cost.by_kind().items()},
            history=self.history.rows,
            events=self.history.events,
            metric=choice.metric,
            analysis=self.analysis,
        )
        return write_report(path, content)

    def kept(self, folder: Path) -> "Answer":
        """The answer with all its files in `folder`: best/, front.csv, report.html.

        They are written beside and put in place together, so that they are always of one answer. Error: `best/` there
        is no bundle.
        """
        check_replaceable(folder / BEST)
        folder.mkdir(parents=True, exist_ok=True)
        with replaced(folder, [BEST, FRONT, REPORT, ANSWER]) as beside:
            write_front(beside / FRONT, self.front, self.choice.front_architectures)
            kept = replace(self, parity=self._bundle(beside / BEST, formats_of(self._net, FORMATS)), folder=folder)
            kept.report(beside / REPORT)
            write_manifest(beside / ANSWER, files_in(beside))
        return kept

    @property
    def _net(self) -> nn.Module:
        """The net without values."""
        return self.candidates.supernet.space.skeleton(self.architecture)

    def _bundle(self, folder: Path, formats: Sequence[str] | None) -> Parity | None:
        return write_bundle(
            self.origin,
            self.candidates.supernet,
            self.architecture,
            folder,
            self.facts,
            formats,
            batch=self.candidates.batch,
            split="validation" if self.candidates.task.test is None else "test",
            target=self.candidates.device,
        )
