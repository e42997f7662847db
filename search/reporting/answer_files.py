"""What a search leaves in its run folder: `best/`, `front.csv`, `report.html`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ...tasks import Data
from ...values import Estimate, Limit, Metric
from ..bundle import ANSWER, check_replaceable, write_bundle, write_front
from ..candidates import Candidates
from ..manifest import files_in, write_manifest
from ..pipeline import Answer
from ..replaced import replaced
from ..run_folder import Run
from . import bits
from .analysis import Analysis
from .report import Report, write_report

BEST, FRONT, REPORT = "best", "front.csv", "report.html"
FORMATS = ("safetensors", "onnx", "onnx-fixed")


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
    facts = facts_of(run, candidates, answer, limits)
    write_front(folder / FRONT, answer.front, answer.front_architectures)
    net, best, batch, target = answer.architecture, folder / BEST, candidates.batch, candidates.device
    split = "validation" if run.task.test is None else "test"
    parity = write_bundle(run, candidates.supernet, net, best, facts, FORMATS, batch=batch, split=split, target=target)
    facts |= {"parity": parity.text} if parity else {}
    history = run.history()
    by_kind = candidates.cost(answer.architecture).by_kind()
    kernels: dict[str, int] = {}
    for op in candidates.cost(answer.architecture).operators:
        kernels[op.kind] = kernels.get(op.kind, 0) + 1
    report = Report(
        title=command,
        facts={**facts, "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")},
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


def facts_of(run: Run, candidates: Candidates, answer: Answer, limits: Sequence[Limit]) -> dict[str, str]:
    """Label to text, in the order of reading."""
    device, latency = candidates.device, answer.latency
    task = run.task
    metric = task.metric.name
    return {
        f"{metric} on validation": task.metric.text(answer.validation) + _of(task.validation),
        f"{metric} on test": (
            f"{task.metric.text(answer.test)}{_of(task.test)} (looked at once, for this net)"
            if answer.test is not None
            else "none: the task has no test split"
        ),
        "latency": f"{latency.text[:-1]}, batch {candidates.batch})",
        **{_title(found.metric, name): _text(found, answer.limits.get(name)) for name, found in answer.costs.items()},
        **({"quantization": said} if (said := bits.in_words(answer.architecture)) else {}),
        "device": (
            f"{device.name}: {device.title}, {device.unit}, {device.precision}, "
            f"{device.runtime or 'no runtime: datasheet only'}"
        ),
        "limits": "; ".join(limit.text for limit in limits) or "none",
        "bounded by": answer.bounded_by,
        "evaluated": f"{len(answer.trials)} nets",
    }


def _of(data: Data | None) -> str:
    """Of how many samples, where that is known."""
    return f" of {data.size}" if data is not None and data.size is not None else ""


def _title(metric: Metric, name: str) -> str:
    """`energy on t4`"""
    return metric.title + name.removeprefix(metric.name)


def _text(found: Estimate, most: float | None) -> str:
    return found.text + ("" if most is None else f", allowed {found.metric.text(most)}")
