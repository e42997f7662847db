"""What a search leaves in its run folder: `best/`, `front.csv`, `report.html`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ...tasks import Data
from ...values import Estimate, Limit
from ..bundle import ANSWER, check_replaceable, write_bundle, write_front
from ..candidates import Candidates
from ..manifest import files_in, write_manifest
from ..pipeline import Answer
from ..replaced import replaced
from ..run_folder import Run
from . import bits
from .analysis import Analysis
from .report import Fact, Report, write_report

BEST, FRONT, REPORT = "best", "front.csv", "report.html"
FORMATS = ("safetensors", "onnx", "onnx-fixed")
UNKNOWN = "no runtime: datasheet only"


def write(
    run: Run,
    candidates: Candidates,
    answer: Answer,
    limits: Sequence[Limit],
    command: str,
    analysis: Analysis | None = None,
    folder: Path | None = None,
) -> dict[str, str]:
    """Write all files into `folder` (default: the run's); returns the facts about the net that they state.

    They are written beside and put in place together, so that they are always of one answer. Error: `best/` there is
    no bundle.
    """
    folder = folder or run.folder
    check_replaceable(folder / BEST)
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder, [BEST, FRONT, REPORT, ANSWER]) as beside:
        facts = _written(run, candidates, answer, limits, command, analysis, beside)
        write_manifest(beside / ANSWER, files_in(beside))
    return facts


def _written(
    run: Run,
    candidates: Candidates,
    answer: Answer,
    limits: Sequence[Limit],
    command: str,
    analysis: Analysis | None,
    folder: Path,
) -> dict[str, str]:
    found = facts_of(run, candidates, answer, limits)
    facts = {label: fact.text for label, fact in found.items()}
    write_front(folder / FRONT, answer.front, answer.front_architectures)
    net, best, batch, target = answer.architecture, folder / BEST, candidates.batch, candidates.device
    split = "validation" if run.task.test is None else "test"
    parity = write_bundle(run, candidates.supernet, net, best, facts, FORMATS, batch=batch, split=split, target=target)
    if parity:
        found["parity"], facts["parity"] = Fact("", parity.text), parity.text
    history = run.history()
    by_kind = candidates.cost(answer.architecture).by_kind()
    kernels: dict[str, int] = {}
    for op in candidates.cost(answer.architecture).operators:
        kernels[op.kind] = kernels.get(op.kind, 0) + 1
    report = Report(
        title=command,
        facts={**found, "made": Fact("", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))},
        notes=answer.notes,
        trials=answer.trials,
        front=answer.front,
        chosen=answer.architecture.id,
        budget_ms=answer.bound_ms,
        architecture=answer.architecture,
        space_genes=run.space.genes,
        cost_by_kind={kind: (c.flops, c.bytes, kernels[kind]) for kind, c in by_kind.items()},
        history=history.rows,
        events=history.events,
        metric=answer.metric,
        analysis=analysis,
    )
    write_report(folder / REPORT, report)
    return facts


def facts_of(run: Run, candidates: Candidates, answer: Answer, limits: Sequence[Limit]) -> dict[str, Fact]:
    """By their labels, in the order of reading."""
    task, metric, device, latency = run.task, run.task.metric, candidates.device, answer.latency
    bits_of_parts = bits.in_words(answer.architecture)
    once = f"{_of(task.test)} (looked at once, for this net)"
    words = {
        **({"quantization": bits_of_parts} if bits_of_parts else {}),
        "device": f"{device.name}: {device.title}, {device.unit}, {device.precision}, {device.runtime or UNKNOWN}",
        "limits": "; ".join(limit.text for limit in limits) or "none",
        "bounded by": answer.bounded_by,
    }
    return {
        f"{metric.name} on validation": Fact(metric.text(answer.validation), _of(task.validation)),
        f"{metric.name} on test": (
            Fact("", "none: the task has no test split")
            if answer.test is None
            else Fact(metric.text(answer.test), once)
        ),
        "latency": Fact(latency.metric.text(latency.value), f"{latency.spread}, batch {candidates.batch}"),
        **{
            found.metric.title + name.removeprefix(found.metric.name): _fact(found, answer.limits.get(name))
            for name, found in answer.costs.items()
        },
        **{label: Fact("", text) for label, text in words.items()},
        "evaluated": Fact(str(len(answer.trials)), " nets"),
    }


def _of(data: Data | None) -> str:
    """Of how many samples, where that is known."""
    return f" of {data.size}" if data is not None and data.size is not None else ""


def _fact(found: Estimate, most: float | None) -> Fact:
    allowed = "" if most is None else f", allowed {found.metric.text(most)}"
    return Fact(found.metric.text(found.value), found.spread + allowed)
